from itertools import pairwise

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

from beam_job.datasets.sample import sample_splits
from tests.conftest import RUNNER
from transforms.quality import ImageQuality, Quality, image_quality, join_qualities, psnr, summarize

COUNT = 101
PERCENTS = (1, 5, 25, 50, 75, 95, 99)


@pytest.fixture(scope="module")
def originals() -> np.ndarray:
    images, _ = sample_splits()["test"]
    return images[:COUNT].reshape(-1, 784)


@pytest.fixture(scope="module")
def decoded(originals) -> np.ndarray:
    """The originals with noise, more in each than in the one before."""
    noise = np.random.default_rng(3).normal(size=originals.shape) * np.arange(1, COUNT + 1)[:, None]
    return np.clip(np.rint(originals + noise), 0, 255).astype(np.uint8)


def plain_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004, as published: an 11x11 Gaussian window, sigma 1.5, where it fits."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    x, y = (pixels.reshape(28, 28).astype(float) for pixels in (first, second))

    def mean(values):
        return convolve2d(values, window, mode="valid")

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    ssim = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(ssim.mean())


def test_errors_are_those_of_plain_arithmetic(originals, decoded):
    found = image_quality(np.arange(COUNT), originals, decoded)
    expected = ((originals.astype(float) - decoded.astype(float)) ** 2).sum(axis=1)
    np.testing.assert_array_equal(found.squared_errors, expected)
    assert found.squared_errors.dtype == np.int64
    black, white = np.zeros((1, 784), np.uint8), np.full((1, 784), 255, np.uint8)
    for pair in [(black, white), (white, black)]:
        assert image_quality(np.arange(1), *pair).squared_errors.tolist() == [784 * 255**2]


@pytest.mark.parametrize("kind", ["random", "flat", "alike", "inverse", "flat beside random"])
def test_ssim_is_that_of_tensorflow(kind):
    import tensorflow as tf

    generator = np.random.default_rng(8)
    noise = generator.integers(0, 256, (2, 30, 784), np.uint8)
    flat = generator.integers(0, 256, (2, 30, 1), np.uint8).repeat(784, axis=2)
    flat[:, 0], flat[0, 1], flat[1, 1] = 0, 0, 255
    first, second = {
        "random": noise,
        "flat": flat,
        "alike": (noise[0], noise[0]),
        "inverse": (noise[0], 255 - noise[0]),
        "flat beside random": (flat[0], noise[0]),
    }[kind]
    as_images = [tf.reshape(pixels, (-1, 28, 28, 1)) for pixels in (first, second)]
    expected = tf.image.ssim(*as_images, max_val=255).numpy()
    found = image_quality(np.arange(30), first, second).ssims
    assert found.dtype == np.float64
    # TensorFlow subtracts squares in float32, of which little is left where there is no variance.
    np.testing.assert_allclose(found, expected, atol=3e-3 if kind == "flat" else 2e-4)
    if kind == "flat":
        x, y, c = first[:, 0].astype(float), second[:, 0].astype(float), 2.55**2
        np.testing.assert_allclose(found, (2 * x * y + c) / (x * x + y * y + c), atol=1e-9)


def test_ssim_is_that_of_the_paper(originals, decoded):
    found = image_quality(np.arange(COUNT), originals, decoded).ssims
    expected = [plain_ssim(*pair) for pair in zip(originals, decoded, strict=True)]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert min(expected) < 0.8
    assert max(expected) > 0.99


def test_the_summary_is_that_of_plain_arithmetic(originals, decoded):
    summary = summarize(image_quality(np.arange(COUNT), originals, decoded))
    squares = (originals.astype(float) - decoded) ** 2
    psnrs = np.sort(10 * np.log10(255**2 / squares.mean(axis=1)))
    ssims = np.sort([plain_ssim(*pair) for pair in zip(originals, decoded, strict=True)])
    assert summary.images == COUNT
    assert summary.mse == pytest.approx(squares.mean(), rel=1e-12)
    assert summary.psnr == pytest.approx(10 * np.log10(255**2 / squares.mean()), abs=1e-4)
    assert summary.ssim == pytest.approx(ssims.mean(), abs=1e-4)
    # Of 101 images, n percent lie below the one at place n.
    assert list(summary.psnr_percentiles) == list(PERCENTS)
    for percent in PERCENTS:
        assert summary.psnr_percentiles[percent] == pytest.approx(psnrs[percent], abs=1e-4)
        assert summary.ssim_percentiles[percent] == pytest.approx(ssims[percent], abs=1e-4)


def test_psnr_by_hand():
    # 1 in 255 is 48.13 dB; black for white is 0.
    assert psnr(784, 1) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(5 * 784, 5) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(784 * 255**2, 1) == 0
    assert psnr(0, 3) is None


def test_what_is_the_same_has_no_psnr(originals):
    summary = summarize(image_quality(np.arange(COUNT), originals, originals.copy()))
    assert (summary.mse, summary.psnr) == (0, None)
    assert summary.ssim == pytest.approx(1)
    assert set(summary.psnr_percentiles.values()) == {None}


def test_no_images_have_no_quality():
    none = np.zeros((0, 784), np.uint8)
    found = image_quality(np.zeros(0, np.int64), none, none)
    assert (len(found), len(join_qualities([])), len(join_qualities([found]))) == (0, 0, 0)
    summary = summarize(found)
    assert summary.images == 0
    assert (summary.mse, summary.psnr, summary.ssim) == (None, None, None)


def some_quality(image_ids: list[int]) -> ImageQuality:
    ids = np.array(image_ids, np.int64)
    return ImageQuality(ids, ids * 10 + 1, 1 / (ids + 1.0))


def assert_is(found: ImageQuality, image_ids: list[int]) -> None:
    np.testing.assert_array_equal(found.image_ids, image_ids)
    np.testing.assert_array_equal(found.squared_errors, [10 * n + 1 for n in image_ids])
    np.testing.assert_array_equal(found.ssims, [1 / (n + 1) for n in image_ids])


def test_qualities_are_brought_together_by_key():
    parts = [("a", [5, 6]), ("b", [2]), ("a", [0, 1]), ("b", []), ("a", [9]), ("c", [])]

    def check(elements):
        found = dict(elements)
        assert found.keys() == {"a", "b", "c"}
        assert_is(found["a"], [0, 1, 5, 6, 9])
        assert_is(found["b"], [2])
        assert_is(found["c"], [])

    with TestPipeline(runner=RUNNER) as pipeline:
        out = (
            pipeline
            | beam.Create([(key, some_quality(ids)) for key, ids in parts])
            | beam.CombinePerKey(Quality())
        )
        assert_that(out, check)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_it_does_not_matter_how_parts_are_grouped_and_merged(data):
    ids = data.draw(st.permutations(range(data.draw(st.integers(1, 12)))))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(ids)))) | {0, len(ids)})
    parts = [ids[start:stop] for start, stop in pairwise(cuts)]
    combine = Quality()
    accumulators = [combine.create_accumulator() for _ in range(3)]
    for part in parts:
        place = data.draw(st.integers(0, 2))
        accumulators[place] = combine.add_input(accumulators[place], some_quality(part))
    while len(accumulators) > 1:
        order = data.draw(st.permutations(accumulators))
        if data.draw(st.booleans()):
            order[0] = combine.compact(order[0])
        accumulators = [combine.merge_accumulators(order[:2]), *order[2:]]
    assert_is(combine.extract_output(accumulators[0]), list(range(len(ids))))


def test_some_can_be_taken_by_place_or_mask():
    quality = some_quality([3, 1, 4])
    assert_is(quality.take(np.array([2, 0])), [4, 3])
    assert_is(quality.take(quality.image_ids == 1), [1])
