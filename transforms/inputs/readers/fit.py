"""Brings an image of any size to EMNIST's geometry."""

import numpy as np
from PIL import Image, ImageFilter

from transforms.images import MAX_PIXEL, SIDE

_MARGIN = 2
_PAPERS_SIDE = 128
"""Of the images that EMNIST was made of: its blur of sigma 1 is that of this size."""
_INK = 0.1
"""What is darker than this share of the darkest is paper, or its noise."""


def fit_image(image: np.ndarray) -> np.ndarray:
    """A character as EMNIST has them: uint8 (height, width) to uint8 (28, 28), light on dark.

    As Cohen et al. (2017, arXiv:1702.05373, II.B) made EMNIST of scans of 128x128 pixels: Gaussian
    blur of sigma 1, cut to the box of the ink, centred in a square that keeps its proportions, a
    margin of 2 pixels, bicubic to 28x28, and scaled to 255. The blur grows with the image; ink is
    what differs from the border, which is paper. An image without ink becomes black.
    """
    ink = Image.fromarray(_ink(image))
    blurred = np.asarray(ink.filter(ImageFilter.GaussianBlur(max(image.shape) / _PAPERS_SIDE)))
    fitted = np.zeros((SIDE, SIDE), np.uint8)
    if not blurred.any():
        return fitted
    inner = SIDE - 2 * _MARGIN
    square = Image.fromarray(_squared(_box(blurred)))
    small = np.asarray(square.resize((inner, inner), Image.Resampling.BICUBIC)).astype(np.float64)
    if small.any():
        fitted[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = np.rint(small * (MAX_PIXEL / small.max()))
    return fitted


def _ink(image: np.ndarray) -> np.ndarray:
    """How much each pixel differs from the paper, which is the middle of what is at the border."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    paper = float(np.median(border))
    light = image.astype(np.float64) if paper <= MAX_PIXEL / 2 else MAX_PIXEL - image.astype(float)
    paper = min(paper, MAX_PIXEL - paper)
    return np.clip(light - paper, 0, MAX_PIXEL).astype(np.uint8)


def _box(image: np.ndarray) -> np.ndarray:
    """The part of an image that has ink."""
    ink = image > image.max() * _INK
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _squared(image: np.ndarray) -> np.ndarray:
    """An image in the middle of a square."""
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side), np.uint8)
    square[top : top + height, left : left + width] = image
    return square
