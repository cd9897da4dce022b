import itertools

import numpy as np
import pytest
import tensorflow as tf

from beam_job.datasets.sample import sample_splits
from beam_job.train.augmentation import _stroked, augment

COUNT = 1500


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Digits, float32 (60, 28, 28, 1) in [0, 1]."""
    images, _ = sample_splits()["test"]
    return (images[:60, ..., None] / 255).astype(np.float32)


def augmented(images: np.ndarray, seed: tuple[int, int] = (1, 2), strength: float = 1.0):
    return augment(tf.constant(images), tf.constant(seed), strength).numpy()


def rectangle(rows: slice, columns: slice, count: int = COUNT) -> np.ndarray:
    images = np.zeros((count, 28, 28, 1), np.float32)
    images[:, rows, columns] = 1
    return images


def test_no_strength_is_no_change(digits):
    np.testing.assert_allclose(augmented(digits, strength=0.0), digits, atol=1e-5)


def test_a_seed_gives_the_same_changes_and_another_gives_others(digits):
    once = augmented(digits, (3, 4))
    np.testing.assert_array_equal(once, augmented(digits, (3, 4)))
    for other in [(3, 5), (4, 4)]:
        assert np.abs(once - augmented(digits, other)).max() > 0.5


def test_images_of_a_batch_are_changed_each_in_its_own_way():
    images = augmented(rectangle(slice(8, 20), slice(12, 16), 20))
    changed = [image for image in images if image.any()]
    pairs = itertools.combinations(changed, 2)
    assert sum(np.array_equal(first, second) for first, second in pairs) < 20


def test_what_comes_out_are_images(digits):
    noise = np.random.default_rng(0).uniform(0, 1, (100, 28, 28, 1)).astype(np.float32)
    for images in (digits, noise, np.ones_like(noise)):
        found = augmented(images)
        assert (found.shape, found.dtype) == (images.shape, np.float32)
        assert found.min() >= 0
        assert found.max() <= 1
    assert augmented(np.zeros_like(noise)).max() == 0


def test_a_fifth_is_left_as_it_is():
    images = rectangle(slice(8, 20), slice(12, 16))
    same = (augmented(images) == images).all(axis=(1, 2, 3))
    assert same.mean() == pytest.approx(0.2, abs=0.04)  # Four standard deviations.
    half = (augmented(images, strength=0.5) == images).all(axis=(1, 2, 3))
    assert half.mean() == pytest.approx(0.2, abs=0.04)


def farthest(strength: float) -> tuple[float, float]:
    """How far the middle moves, right and down, by the documented amounts taken together."""
    extremes = [
        (1 + strength * (0.86 - 1), 1 + strength * (1.13 - 1)),
        (1 + strength * (0.86 - 1), 1 + strength * (1.13 - 1)),
        *[(-strength * limit, strength * limit) for limit in (np.radians(17), np.radians(7))],
        (-2 * strength, 2 * strength),
        (-2 * strength, 2 * strength),
    ]
    moves = []
    for width, height, slant, turn, right, down in itertools.product(*extremes):
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        slanted = np.array([[1, np.tan(slant)], [0, 1]])
        moves.append(np.abs(np.diag([width, height]) @ slanted @ turned @ [right, down]))
    right, down = np.max(moves, axis=0)
    return right, down


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_nothing_moves_farther_than_it_says(strength):
    found = augmented(rectangle(slice(12, 16), slice(12, 16)), strength=strength)
    ink = found[..., 0].sum(axis=(1, 2))
    places = np.arange(28) - 13.5
    right = (found[..., 0].sum(axis=1) * places).sum(axis=1) / ink
    down = (found[..., 0].sum(axis=2) * places).sum(axis=1) / ink
    far_right, far_down = farthest(strength)
    assert np.abs(right).max() < far_right + 0.1
    assert np.abs(down).max() < far_down + 0.1
    # In the mean it stays, and it does move about.
    assert right.mean() == pytest.approx(0, abs=0.15)
    assert down.mean() == pytest.approx(0, abs=0.15)
    assert min(right.std(), down.std()) > 0.6 * strength


def test_sizes_vary_by_as_much_as_it_says():
    """The spread of a square's ink along each axis, next to that of the square itself."""
    found = augmented(rectangle(slice(8, 20), slice(8, 20)))[..., 0]
    places = np.arange(28) - 13.5
    for axis in (1, 2):
        line = found.sum(axis=axis)
        line /= line.sum(axis=1, keepdims=True)
        mean = (line * places).sum(axis=1)
        spread = np.sqrt((line * places**2).sum(axis=1) - mean**2) / np.sqrt((12**2 - 1) / 12)
        # Scaled to 0.86 to 1.13; slant and turn widen it, strokes add 0.8 of 6 pixels or take it.
        assert 0.7 < spread.min() < 0.9
        assert 1.1 < spread.max() < 1.4


@pytest.mark.parametrize(
    ("amount", "chosen", "strength", "width"),
    [
        (1.0, True, 1.0, 4 + 2 * 0.8),
        (0.5, True, 1.0, 4 + 2 * 0.4),
        (1.0, True, 0.5, 4 + 2 * 0.4),
        (-1.0, True, 1.0, 4 - 2 * 0.8),
        (-0.25, True, 1.0, 4 - 2 * 0.2),
        (1.0, False, 1.0, 4),
        (0.0, True, 1.0, 4),
        (1.0, True, 0.0, 4),
    ],
)
def test_strokes_are_as_wide_as_they_are_told(amount, chosen, strength, width):
    bar = tf.constant(rectangle(slice(0, 28), slice(12, 16), 1))
    found = _stroked(bar, tf.constant([amount]), tf.constant([chosen]), strength).numpy()
    np.testing.assert_allclose(found.sum(axis=2), width, rtol=1e-5)
    assert found.min() >= 0
    assert found.max() <= 1


def test_some_strokes_get_wider_and_some_thinner():
    found = augmented(rectangle(slice(4, 24), slice(13, 15)))
    ink = found.sum(axis=(1, 2, 3)) / 40
    # Twice 2 + 1.6 pixels wide, against twice 2 - 1.6; scaling alone gives 0.74 to 1.28.
    assert (ink > 1.35).mean() > 0.05
    assert (ink < 0.7).mean() > 0.05
