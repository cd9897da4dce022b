"""Images changed as handwriting varies: size, place, slant, and an elastic warp.

Everything is a product of matrices, so it runs on every backend of Keras, and resamples with a
cubic kernel: a linear one blurs, and a network that learns blurred images gives blurred images.
"""

from typing import Any

import numpy as np
from keras import ops, random

from transforms.images import SIDE

_CUBIC = -0.75
"""The sharpness of the cubic kernel (Keys 1981, doi:10.1109/TASSP.1981.1163711: a)."""
_KNOTS = 5
"""Knots a side of the grid that an elastic warp moves."""
_SCALE, _SLANT, _SHIFT, _WARP = 0.12, 0.25, 1.5, 0.8
"""The largest changes: size and slant as shares, the place and each knot in pixels."""


def augment(images: Any, seeds: random.SeedGenerator, strength: float) -> Any:
    """Changes each image at random: float32 (n, 28, 28, 1) in [0, 1] to the same.

    strength: 1 for as much as handwriting varies.
    """
    count = ops.shape(images)[0]
    right, down = (_displacement(count, seeds, strength) for _ in "xy")
    moved = ops.einsum("nrc,nrtc->nrt", images[..., 0], _weights(right))
    moved = ops.einsum("nrc,nctr->ntc", moved, _weights(ops.transpose(down, (0, 2, 1))))
    return ops.clip(moved, 0.0, 1.0)[..., None]


def _displacement(count: Any, seeds: random.SeedGenerator, strength: float) -> Any:
    """How many pixels away each pixel's value comes from, along an axis: (n, 28, 28)."""

    def draw(*shape: int) -> Any:
        return random.uniform((count, *shape), -1.0, 1.0, seed=seeds)

    along = ops.convert_to_tensor(np.linspace(-1, 1, SIDE, dtype=np.float32) * (SIDE - 1) / 2)
    size = _SCALE * draw(1, 1) * along[None, None, :]
    slant = _SLANT * draw(1, 1) * along[None, :, None]
    spread = ops.convert_to_tensor(_spread())
    warp = _WARP * ops.einsum("rk,nkl,cl->nrc", spread, draw(_KNOTS, _KNOTS), spread)
    return strength * (size + slant + _SHIFT * draw(1, 1) + warp)


def _spread() -> np.ndarray:
    """How much each knot moves each of 28 pixels: a cubic B-spline's weights, (28, knots)."""
    places = np.linspace(0, _KNOTS - 1, SIDE)[:, None]
    distance = np.abs(places - np.arange(_KNOTS)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return shares.astype(np.float32)


def _weights(displacement: Any) -> Any:
    """What each pixel takes of each pixel of its line: (n, line, to) to (n, line, to, from)."""
    pixels = ops.arange(SIDE, dtype="float32")
    distance = ops.abs(displacement[..., None] + pixels[:, None] - pixels)
    a = _CUBIC
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return ops.where(distance < 1, near, ops.where(distance < 2, far, 0.0))  # noqa: PLR2004
