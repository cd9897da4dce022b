import itertools

import keras
import numpy as np
import pytest

from beam_job.datasets.sample import sample_splits
from beam_job.train.augmentation import augment

COUNT = 1500


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Digits, float32 (60, 28, 28, 1) in [0, 1]."""
    images, _ = sample_splits()["test"]
    return (images[:60, ..., None] / 255).astype(np.float32)


def augmented(images: np.ndarray, seed: int = 1, strength: float = 1.0) -> np.ndarray:
    changed = augment(keras.ops.array(images), keras.random.SeedGenerator(seed), strength)
    return keras.ops.convert_to_numpy(changed)


def square(low: int, high: int, count: int = COUNT) -> np.ndarray:
    images = np.zeros((count, 28, 28, 1), np.float32)
    images[:, low:high, low:high] = 1
    return images


def centre(images: np.ndarray, axis: int) -> np.ndarray:
    """The centre of an image's ink along an axis, in pixels from the middle."""
    ink = images[..., 0].sum(axis=(1, 2))
    return (images[..., 0].sum(axis=axis) * (np.arange(28) - 13.5)).sum(axis=1) / ink


def test_next_to_no_strength_is_no_change(digits):
    np.testing.assert_allclose(augmented(digits, strength=1e-6), digits, atol=1e-4)


def test_a_seed_gives_the_same_changes_and_another_gives_others(digits):
    once = augmented(digits, 3)
    np.testing.assert_array_equal(once, augmented(digits, 3))
    assert np.abs(once - augmented(digits, 4)).max() > 0.5


def test_each_image_changes_in_its_own_way():
    images = augmented(square(8, 20, 20))
    assert not any(np.array_equal(*pair) for pair in itertools.combinations(images, 2))


def test_the_result_is_images(digits):
    noise = np.random.default_rng(0).uniform(0, 1, (100, 28, 28, 1)).astype(np.float32)
    for images in (digits, noise, np.ones_like(noise)):
        found = augmented(images)
        assert (found.shape, found.dtype) == (images.shape, np.float32)
        assert found.min() >= 0
        assert found.max() <= 1
    assert augmented(np.zeros_like(noise)).max() == 0


def edges(images: np.ndarray) -> float:
    """The mean squared difference of neighbouring pixels: blur takes it away."""
    return np.mean(np.diff(images, axis=1) ** 2) + np.mean(np.diff(images, axis=2) ** 2)


def test_strokes_stay_sharp(digits):
    """A linear kernel half a pixel off is a mean of neighbours, which keeps 0.7 of the edges."""
    halfway = (digits[:, 1:] + digits[:, :-1]) / 2
    halfway = (halfway[:, :, 1:] + halfway[:, :, :-1]) / 2
    assert edges(halfway) / edges(digits) < 0.75
    assert edges(augmented(digits)) / edges(digits) > 0.8


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_images_move_by_no_more_than_documented(strength):
    found = augmented(square(12, 16), strength=strength)
    for axis in (1, 2):
        moved = centre(found, axis)
        # The place by 1.5 pixels and the warp by 0.8; size and slant by 0.37 of 1.5 pixels.
        assert np.abs(moved).max() < strength * (1.5 + 0.8 + 0.37 * 1.5) + 0.1
        assert moved.mean() == pytest.approx(0, abs=0.15)
        assert moved.std() > 0.6 * strength


def test_sizes_vary_by_as_much_as_documented():
    """The ink of a square of 12 pixels: both sides by 12% and the warp."""
    areas = augmented(square(8, 20)).sum(axis=(1, 2, 3)) / 144
    assert 0.65 < areas.min() < 0.85
    assert 1.2 < areas.max() < 1.6


def test_slants_vary():
    """How far the upper half of a bar is to the right of its lower half."""
    bar = np.zeros((COUNT, 28, 28, 1), np.float32)
    bar[:, 4:24, 13:15] = 1
    found = augmented(bar)
    upper, lower = centre(found[:, :14], 1), centre(found[:, 14:], 1)
    apart = (upper - lower) / 10
    assert apart.mean() == pytest.approx(0, abs=0.02)
    assert 0.2 < np.abs(apart).max() < 0.25 + 0.16 + 0.02
