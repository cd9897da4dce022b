"""Byte counts of what flows through the job."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from transforms.images import PIXELS
from transforms.latents import LatentBatch


class Sizes(NamedTuple):
    """Images and bytes seen at each step, for any part of a split; sizes of parts add up.

    clipped_values, clipped_images: latent values outside the calibrated range, and images with at
    least one; both are 0 where latents are not quantized.
    """

    images_read: int = 0
    images_rejected: int = 0
    images_encoded: int = 0
    images_written: int = 0
    uint8_bytes: int = 0
    float32_bytes: int = 0
    latent_bytes: int = 0
    parquet_bytes: int = 0
    clipped_values: int = 0
    clipped_images: int = 0


def add_sizes(parts: Iterable[Sizes]) -> Sizes:
    """The sum of sizes, field by field; all zeros for no parts."""
    return Sizes(*(sum(field) for field in zip(Sizes(), *parts, strict=True)))


def sizes_of(batch: LatentBatch) -> Sizes:
    """What a batch of latents, as they are stored, was made of and takes; not its Parquet."""
    clipped = np.zeros(0, np.uint16) if batch.clipped is None else batch.clipped
    pixels = len(batch) * PIXELS
    return Sizes(
        images_read=len(batch),
        images_rejected=len(batch.rejects),
        images_encoded=len(batch),
        images_written=len(batch),
        uint8_bytes=pixels,
        float32_bytes=pixels * np.dtype(np.float32).itemsize,
        latent_bytes=batch.latents.nbytes,
        clipped_values=int(clipped.sum(dtype=np.int64)),
        clipped_images=int(np.count_nonzero(clipped)),
    )
