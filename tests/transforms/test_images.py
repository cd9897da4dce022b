import io

import numpy as np
import pytest
from PIL import Image

from transforms.errors import InputError
from transforms.images import ImageBatch, Reject, ShardKey, decode_image, upright

IMAGES = np.random.default_rng(1).integers(0, 256, (60, 28, 28), np.uint8)


def png(image: np.ndarray, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind)
    return content.getvalue()


def test_what_is_taken_of_a_batch_accounts_for_all_its_rows():
    reject = Reject("all", 4, "f", 4, "is neither PNG nor JPEG")
    pixels = IMAGES[:4].reshape(-1, 784)
    labels = np.arange(4, dtype=np.int16)
    batch = ImageBatch(ShardKey("all", 0, 1, 5), 5, np.arange(4), labels, pixels, "0", (reject,))
    taken = batch.take(batch.labels % 2 == 1)
    assert (taken.rows, taken.sha256, taken.rejects) == (5, "0", (reject,))
    assert (taken.image_ids.tolist(), taken.labels.tolist()) == ([1, 3], [1, 3])
    np.testing.assert_array_equal(taken.pixels, pixels[[1, 3]])


def test_upright_turns_what_nist_stores_column_by_column():
    stored = IMAGES.transpose(0, 2, 1).reshape(-1, 784)
    np.testing.assert_array_equal(upright(stored), IMAGES.reshape(-1, 784))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decode_image_reads_grey_and_colour(kind: str):
    grey = np.full((28, 28), 77, np.uint8)
    for image in (grey, np.stack([grey] * 3, axis=-1)):
        np.testing.assert_array_equal(decode_image(png(image, kind)), grey.reshape(-1))


def test_a_png_of_784_bytes_is_no_bare_pixels():
    content = png(np.full((28, 28), 9, np.uint8))
    np.testing.assert_array_equal(decode_image(content.ljust(784, b"\0")), 9)


def test_what_would_not_look_the_same_in_grey_is_refused():
    deep = Image.fromarray(np.full((28, 28), 40_000, np.uint16))
    clear = Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    for image in (deep, clear):
        content = io.BytesIO()
        image.save(content, "PNG")
        with pytest.raises(InputError, match="is of mode"):
            decode_image(content.getvalue())


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", png(IMAGES[0])[:80]])
def test_decode_image_says_what_is_wrong(content):
    with pytest.raises(InputError):
        decode_image(content)
