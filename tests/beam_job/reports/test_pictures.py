import base64
import io

import numpy as np
from PIL import Image

from beam_job.reports.pictures import Choice, choose_images, draw_choice, sheet, triptych
from transforms.images import NO_LABEL
from transforms.quality import ImageQuality

RANDOM = np.random.default_rng(4)
ORIGINALS = RANDOM.integers(0, 256, (20, 784), np.uint8)
DECODED = RANDOM.integers(0, 256, (20, 784), np.uint8)


def grey(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image)


def ink(pixels: np.ndarray) -> np.ndarray:
    """As it is shown: 0 is white."""
    return 255 - pixels.reshape(28, 28)


def test_a_triptych_is_original_decoded_and_difference_as_ink_on_white():
    picture = triptych(ORIGINALS[0], DECODED[0], "a · 12.3 dB")
    assert picture.caption == "a · 12.3 dB"
    kind, _, content = picture.url.partition(",")
    assert kind == "data:image/png;base64"
    shown = grey(base64.b64decode(content))
    assert shown.shape == (28 * 3 + 2, 28)
    np.testing.assert_array_equal(shown[:28], ink(ORIGINALS[0]))
    np.testing.assert_array_equal(shown[29:57], ink(DECODED[0]))
    difference = np.abs(ORIGINALS[0].astype(int) - DECODED[0].astype(int))
    np.testing.assert_array_equal(shown[58:], ink(difference))
    assert set(shown[[28, 57]].flatten()) == {225}


def test_no_ink_is_white():
    black = np.zeros(784, np.uint8)
    picture = triptych(black, black, "")
    shown = grey(base64.b64decode(picture.url.partition(",")[2]))
    assert set(np.delete(shown, [28, 57], axis=0).flatten()) == {255}


def test_a_sheet_has_original_decoded_and_difference_one_above_the_other_twice_as_large():
    shown = grey(sheet(ORIGINALS, DECODED))
    # 20 images: 16 of them three high, a gap of 4, 4 of them three high.
    assert shown.shape == (2 * (6 * 28 + 4), 2 * 16 * 28)
    small = shown[::2, ::2]
    np.testing.assert_array_equal(shown, small.repeat(2, axis=0).repeat(2, axis=1))
    apart = np.abs(ORIGINALS.astype(int) - DECODED.astype(int))
    for number in range(20):
        line, column = divmod(number, 16)
        for part, pixels in enumerate((ORIGINALS, DECODED, apart)):
            top, left = line * (3 * 28 + 4) + part * 28, column * 28
            place = small[top : top + 28, left : left + 28]
            np.testing.assert_array_equal(place, ink(pixels[number]))
    assert set(small[84:88].flatten()) == {225}
    assert set(small[88:, 4 * 28 :].flatten()) == {255}


def test_a_sheet_without_originals_has_the_decoded_images_alone():
    small = grey(sheet(None, DECODED[:2]))[::2, ::2]
    assert small.shape == (28, 16 * 28)
    np.testing.assert_array_equal(small[:, :28], ink(DECODED[0]))
    np.testing.assert_array_equal(small[:, 28:56], ink(DECODED[1]))
    assert set(small[:, 56:].flatten()) == {255}


def quality(errors: list[int]) -> ImageQuality:
    count = len(errors)
    return ImageQuality(np.arange(count) + 100, np.array(errors, np.int64), np.ones(count))


def rows_of(chosen: dict[str, list[Choice]]) -> dict[str, list[int]]:
    return {heading: [pick.row for pick in rows] for heading, rows in chosen.items()}


def test_the_best_the_median_the_worst_and_one_of_each_class_are_shown():
    errors = [50, 0, 90, 30, 70, 10, 100, 20, 80, 40, 60]
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1, 2, NO_LABEL, NO_LABEL], np.int16)
    chosen = choose_images(np.full(11, "test"), labels, quality(errors), {0: "a", 1: "b"})
    assert rows_of(chosen) == {
        "best": [1, 5, 7],
        "median": [9, 0, 10],  # 40, 50, 60
        "worst": [6, 2, 8, 4, 10, 0],
        # 50 of 0, 50, 90; 30 of 10, 20, 30, 70, 100; the only one.
        "one of each class": [0, 3, 8],
    }


def test_captions_say_what_it_is_how_good_and_which():
    errors = [0, 784 * 255**2, 784]
    labels = np.array([5, 7, NO_LABEL], np.int16)
    splits = np.array(["train", "test", "test"])
    chosen = choose_images(splits, labels, quality(errors), {5: "f"})
    assert [pick.caption for pick in chosen["best"]] == [
        "f · exact\ntrain 100",
        "48.1 dB\ntest 102",
        "7 · 0.0 dB\ntest 101",
    ]


def test_few_images_without_labels_are_shown_as_they_are():
    for count in (1, 2):
        unlabelled = np.full(count, NO_LABEL, np.int16)
        chosen = choose_images(np.full(count, "all"), unlabelled, quality([5] * count), {})
        ids = list(range(count))
        assert rows_of(chosen) == {"best": ids, "median": ids, "worst": ids[::-1]}


def test_what_is_picked_does_not_depend_on_the_order_of_what_came():
    errors = RANDOM.integers(0, 4, 30).tolist()  # Many are equal.
    ids, labels = np.arange(30), (np.arange(30) % 3).astype(np.int16)
    splits = np.array(["train", "test"])[ids % 2]
    expected = None
    for _ in range(5):
        order = RANDOM.permutation(30)
        shuffled = ImageQuality(ids[order], np.array(errors)[order], np.ones(30))
        chosen = choose_images(splits[order], labels[order], shuffled, {})
        captions = {heading: [pick.caption for pick in rows] for heading, rows in chosen.items()}
        assert captions == (expected or captions)
        expected = captions


def test_chosen_images_become_pictures_of_their_own_rows():
    made = draw_choice({"best": [Choice(3, "three"), Choice(0, "zero")]}, ORIGINALS, DECODED)
    assert [picture.caption for picture in made["best"]] == ["three", "zero"]
    for picture, row in zip(made["best"], (3, 0), strict=True):
        shown = grey(base64.b64decode(picture.url.partition(",")[2]))
        np.testing.assert_array_equal(shown[:28], ink(ORIGINALS[row]))
        np.testing.assert_array_equal(shown[29:57], ink(DECODED[row]))
