"""What images look like: how they lie, which of ink and paper is dark, and how far values go.

Each function says None where it cannot be sure, as of images that are not handwriting.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from transforms.images import MAX_PIXEL, SIDE, upright

STROKES_FILE = Path(__file__).with_name("strokes.json")
"""The weights of _Strokes; recipes/orientation.py makes them."""

_CELL = 4
"""The side of the squares that strokes are summed up over, in pixels."""
_LEAST_IMAGES = 20
_LEAST_LEANING = 0.45
"""How far images have to lean to a side on the average: w alone leans 0.24 to the wrong one, and
mixed characters lean 0.6 and more to the right one (recipes/orientation.py measures it)."""
_BORDER = np.ones((SIDE, SIDE), bool)
_BORDER[1:-1, 1:-1] = False
_DARK, _LIGHT = 0.25, 0.75
_LEAST_INK, _MOST_INK = 0.02, 0.5
"""Of the pixels of an image of handwriting."""
_MOST = 0.8


class _Strokes(NamedTuple):
    """A network of one hidden layer: features (n, 196) to the logarithm of odds of upright."""

    hidden: np.ndarray
    hidden_bias: np.ndarray
    output: np.ndarray

    def odds(self, features: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.maximum(features @ self.hidden + self.hidden_bias, 0) @ self.output
        return result


def orientation_of(pixels: np.ndarray) -> str | None:
    """How images of handwriting lie: upright, transposed, or None. pixels: uint8 (n, 784)."""
    written = pixels[_is_written(pixels)]
    if len(written) < max(_LEAST_IMAGES, _MOST * len(pixels)):
        return None
    if len(np.unique(written, axis=0)) < _LEAST_IMAGES:
        return None
    pixels = written
    leaning = float(leanings(pixels).mean())
    if abs(leaning) < _LEAST_LEANING:
        return None
    return "upright" if leaning > 0 else "transposed"


def _is_written(pixels: np.ndarray) -> np.ndarray:
    """Which images may be handwriting: strokes, and dark borders around them. bool (n,)."""
    inked = (pixels > MAX_PIXEL // 2).mean(1)
    border = pixels[:, _BORDER.ravel()].mean(1) / MAX_PIXEL
    found: np.ndarray = (inked > _LEAST_INK) & (inked < _MOST_INK) & (border < _DARK)
    return found


def leanings(pixels: np.ndarray) -> np.ndarray:
    """How much each image leans to lying upright, from -1 (transposed) to 1: float (n,).

    It is the opposite of what the transposed image does, so that no side is preferred.
    """
    strokes = _strokes()
    as_stored, turned = (strokes.odds(features(each)) for each in (pixels, upright(pixels)))
    leaning: np.ndarray = np.tanh((as_stored - turned) / 4)
    return leaning


def features(pixels: np.ndarray) -> np.ndarray:
    """Ink, and the squares and product of its slopes, over squares of 4x4: float32 (n, 196)."""
    ink = pixels.reshape(-1, SIDE, SIDE).astype(np.float32) / MAX_PIXEL
    down, across = np.zeros_like(ink), np.zeros_like(ink)
    down[:, 1:-1] = ink[:, 2:] - ink[:, :-2]
    across[:, :, 1:-1] = ink[:, :, 2:] - ink[:, :, :-2]
    cells = SIDE // _CELL
    summed = [
        each.reshape(-1, cells, _CELL, cells, _CELL).sum((2, 4)).reshape(len(ink), -1)
        for each in (ink, across * across, down * down, across * down)
    ]
    found = np.concatenate(summed, axis=1)
    norms = np.sqrt((found * found).sum(1, keepdims=True))
    normed: np.ndarray = found / np.maximum(norms, np.float32(1e-3))
    return normed


@cache
def _strokes() -> _Strokes:
    stored = json.loads(STROKES_FILE.read_text())
    return _Strokes(*(np.array(stored[name], np.float32) for name in _Strokes._fields))


def is_dark_on_light(pixels: np.ndarray) -> np.ndarray:
    """Which images have light borders around darker ink: bool (n,). pixels: uint8 (n, 784)."""
    border = pixels[:, _BORDER.ravel()].mean(1) / MAX_PIXEL
    found: np.ndarray = (border > _LIGHT) & (pixels.mean(1) / MAX_PIXEL < border)
    return found


def largest_value(pixels: np.ndarray) -> int | None:
    """The largest value of images with any contrast; None where there are none."""
    contrasting = pixels[np.ptp(pixels, axis=1) > 0]
    return int(contrasting.max()) if len(contrasting) else None
