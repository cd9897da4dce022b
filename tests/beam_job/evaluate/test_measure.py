import numpy as np
import pytest

from beam_job.datasets.partition import Images, by_split
from beam_job.evaluate.classifiers import fit_classifier
from beam_job.evaluate.measure import entropy, spread_evenly


def images_of(splits: list[str], labels: list[int], pixels: np.ndarray) -> Images:
    ids = np.arange(len(splits), dtype=np.int64)
    return Images(np.array(splits), ids, np.array(labels, np.int16), pixels)


def test_images_are_spread_evenly_and_told_apart_by_split():
    images = images_of(["b"] * 60 + ["a"] * 40, [0] * 100, np.zeros((100, 784), np.uint8))
    few = spread_evenly(images, 10)
    assert few.image_ids.tolist() == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert {split: len(found) for split, found in by_split(few).items()} == {"b": 6, "a": 4}
    assert spread_evenly(few, 10) is few


def test_a_linear_classifier_finds_what_a_line_tells_apart():
    labels = [0, 1] * 20
    pixels = np.zeros((40, 784), np.uint8)
    pixels[:, 7] = np.array(labels) * 200 + np.arange(40)
    images = images_of(["test"] * 40, labels, pixels)
    found = fit_classifier("pixels", lambda pixels: pixels.astype(np.float32), images, images)
    assert (found.accuracy, found.dimensions, found.converged) == (1.0, 784, True)


def test_entropy_is_counted_in_bits():
    assert entropy(np.repeat(np.arange(8, dtype=np.uint8), 5)) == 3
    assert entropy(np.full(9, 200, np.uint8)) == 0
    # A quarter and three quarters: 0.25 * 2 + 0.75 * log2(4 / 3).
    assert entropy(np.array([7, 1, 1, 1], np.uint8)) == pytest.approx(0.8113, abs=1e-4)
