import numpy as np
from sklearn.datasets import load_digits

from beam_job.datasets.sample import sample_splits


def test_sample_has_emnists_geometry():
    splits = sample_splits()
    assert {name: split.images.shape for name, split in splits.items()} == {
        "train": (1500, 28, 28),
        "test": (297, 28, 28),
    }
    images = np.concatenate([splits["train"].images, splits["test"].images])
    assert images.dtype == np.uint8
    assert images.max(axis=(1, 2)).min() > 128, "white"
    border = np.ones((28, 28), bool)
    border[2:26, 2:26] = False
    assert images[:, border].max() == 0, "on black, within a border of two pixels"
    inked = images > 0
    for axis in (1, 2):
        lines = inked.any(axis=axis)
        first, last = lines.argmax(axis=1), 27 - lines[:, ::-1].argmax(axis=1)
        assert (abs(first - (27 - last)) <= 2).all(), "centred"


def test_sample_is_scikit_learns_digits_in_their_order():
    splits = sample_splits()
    digits = load_digits()
    labels = np.concatenate([splits["train"].labels, splits["test"].labels])
    np.testing.assert_array_equal(labels, digits.target)
    # Shrunk back to 8x8, an image is nearest to the one it was made from for most: the
    # scaling stretched them a little, each its own way.
    images = splits["test"].images[:, 2:26, 2:26].reshape(297, 8, 3, 8, 3).mean(axis=(2, 4))
    distances = ((images[:, None] / 255 - digits.images[None, 1500:] / 16) ** 2).sum(axis=(2, 3))
    assert (distances.argmin(axis=1) == np.arange(297)).mean() > 0.8
