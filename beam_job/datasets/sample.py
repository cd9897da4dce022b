"""The embedded dataset: scikit-learn's 1,797 handwritten digits in EMNIST's geometry."""

import numpy as np
from PIL import Image

from beam_job.datasets.emnist import Split
from transforms.images import SIDE

_TRAIN_ROWS = 1_500
_BOX = 24
"""The longer side of a character in an EMNIST image, in pixels (28 less a border of 2)."""


def sample_splits() -> dict[str, Split]:
    """UCI's optical digits (8x8, 0 to 16) as EMNIST would hold them; the first 1,500 are train."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.stack([_in_emnist_geometry(image) for image in digits.images])
    labels = digits.target.astype(np.uint8)
    return {
        "train": Split(images[:_TRAIN_ROWS], labels[:_TRAIN_ROWS]),
        "test": Split(images[_TRAIN_ROWS:], labels[_TRAIN_ROWS:]),
    }


def _in_emnist_geometry(image: np.ndarray) -> np.ndarray:
    """White on black: cropped, scaled to the box with its proportions kept, and centred.

    This is EMNIST's own conversion (Cohen et al. 2017, section II.C), from 8x8 up instead of from
    128x128 down. float64 (8, 8) from 0 to 16 -> uint8 (28, 28).
    """
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    cropped = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (round(_BOX * side / max(cropped.shape)) for side in cropped.shape)
    grey = Image.fromarray(np.round(cropped * (255 / 16)).astype(np.uint8))
    scaled = grey.resize((width, height), Image.Resampling.BICUBIC)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(scaled)
    return canvas
