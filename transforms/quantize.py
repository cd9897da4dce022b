"""Latents as small numbers: their types, and a scale and an offset for each dimension."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from transforms.errors import RunError

# How much of a dimension's values may lie beyond the range, at each end; the best is measured.
_CLIPPED_PERCENT = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
_MAX_BITS = 8
_HALF_STEP = 0.5
_LARGEST = 1e30
"""The largest scale or offset, far below what float32 holds; the smallest scale is 1 / this."""


class Quantized(NamedTuple):
    """Latents as whole numbers, and how many values of each had to be clipped.

    numbers: uint8 (n, latent_size). clipped: uint16 (n,).
    """

    numbers: np.ndarray
    clipped: np.ndarray


class Quantization(msgspec.Struct, frozen=True):
    """How latents are stored as whole numbers: value = offset + scale * number.

    bits: 2 ** bits levels, from 0 up. scale, offset: one for each dimension of the latent. Raises
    ValueError for numbers that cannot be used.
    """

    bits: Annotated[int, msgspec.Meta(ge=1, le=_MAX_BITS)]
    scale: tuple[float, ...]
    offset: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.offset):
            raise ValueError(f"{len(self.scale)} scales for {len(self.offset)} offsets")
        numbers = np.abs([self.scale, self.offset])
        if not (numbers.size and (numbers <= _LARGEST).all() and min(self.scale) >= 1 / _LARGEST):
            raise ValueError("a scale or an offset is out of range")

    def quantize(self, latents: np.ndarray) -> np.ndarray:
        """float32 (n, latent_size) to uint8 of the same shape; what is out of range is clipped."""
        return self._numbers(self._levels(latents))

    def quantize_and_count(self, latents: np.ndarray) -> Quantized:
        """Quantizes as quantize does, and counts the values that are clipped.

        A value is clipped where it is more than half a step beyond the first or the last level.
        """
        levels = self._levels(latents)
        last = 2**self.bits - 1
        outside = (levels < -_HALF_STEP) | (levels > last + _HALF_STEP)
        return Quantized(self._numbers(levels), outside.sum(axis=1, dtype=np.uint16))

    def _levels(self, latents: np.ndarray) -> np.ndarray:
        """float32 (n, latent_size) in steps above the offset, neither rounded nor clipped."""
        scale, offset = self._arrays()
        levels: np.ndarray = (latents - offset) / scale
        return levels

    def _numbers(self, levels: np.ndarray) -> np.ndarray:
        numbers: np.ndarray = np.clip(np.rint(levels), 0, 2**self.bits - 1).astype(np.uint8)
        return numbers

    def dequantize(self, numbers: np.ndarray) -> np.ndarray:
        """uint8 (n, latent_size) to the float32 values that they stand for."""
        scale, offset = self._arrays()
        values: np.ndarray = offset + scale * numbers.astype(np.float32)
        return values

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.scale, np.float32), np.asarray(self.offset, np.float32)


def calibrate(latents: np.ndarray, bits: int) -> Quantization:
    """The scale and offset of each dimension that lose least of these float32 (n, size) latents.

    Clipping rare values makes the steps of all others smaller; the range tried that has the least
    mean squared error is taken.
    """
    ranges = [_range(values, bits) for values in latents.T.astype(np.float64)]
    scale = tuple(float(np.float32(scale)) for scale, _ in ranges)
    offset = tuple(float(np.float32(offset)) for _, offset in ranges)
    return Quantization(bits, scale, offset)


def _range(values: np.ndarray, bits: int) -> tuple[float, float]:
    """(scale, offset) for the values of one dimension."""
    levels = 2**bits - 1
    tried = []
    for low, high in _bounds(values):
        scale = float(np.float32((high - low) / levels))
        if scale < 1 / _LARGEST:  # A dead unit has no range: any scale will do.
            scale = 1.0
        rounded = low + scale * np.clip(np.rint((values - low) / scale), 0, levels)
        tried.append((float(np.mean((values - rounded) ** 2)), scale, low))
    _, scale, low = min(tried)
    return scale, low


def _bounds(values: np.ndarray) -> Sequence[tuple[float, float]]:
    lows = np.percentile(values, _CLIPPED_PERCENT)
    highs = np.percentile(values, [100 - percent for percent in _CLIPPED_PERCENT])
    return [(float(low), float(high)) for low in np.unique(lows) for high in np.unique(highs)]


def stored_values(latents: np.ndarray, dtype: str, quantization: Quantization | None) -> np.ndarray:
    """float32 (n, latent_size) as they are stored; raises RunError where one is too large."""
    if quantization is not None:
        return quantization.quantize(latents)
    with np.errstate(over="ignore"):
        stored = latents.astype(dtype)
    if not np.isfinite(stored).all():
        raise RunError(
            f"a latent of {float(np.abs(latents).max()):g} is too large for {dtype}: give "
            "--latent_dtype=float32"
        )
    return stored
