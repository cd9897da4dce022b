"""Byte counts of what flows through the job."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from transforms.images import ImageBatch
from transforms.latents import LatentBatch

if TYPE_CHECKING:
    from transforms.shard_files import FinishedShard


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


def sizes_read(batch: ImageBatch) -> tuple[str, Sizes]:
    """(split, sizes) of a batch as ReadImages gives it: uint8 pixels."""
    return batch.shard.split, Sizes(
        images_read=len(batch),
        images_rejected=batch.rows - len(batch),
        uint8_bytes=batch.pixels.nbytes,
    )


def sizes_prepared(batch: ImageBatch) -> tuple[str, Sizes]:
    """(split, sizes) of a batch as the encoder takes it: float32 pixels."""
    return batch.shard.split, Sizes(float32_bytes=batch.pixels.nbytes)


def sizes_encoded(batch: LatentBatch) -> tuple[str, Sizes]:
    """(split, sizes) of a batch of latents as they are stored: their values alone."""
    clipped = np.zeros(0, np.uint16) if batch.clipped is None else batch.clipped
    return batch.shard.split, Sizes(
        images_encoded=len(batch),
        latent_bytes=batch.latents.nbytes,
        clipped_values=int(clipped.sum(dtype=np.int64)),
        clipped_images=int(np.count_nonzero(clipped)),
    )


def sizes_written(finished: "FinishedShard") -> tuple[str, Sizes]:
    """(split, sizes) of a Parquet file: its rows and all its bytes."""
    file = finished.file
    return file.split, Sizes(images_written=file.rows, parquet_bytes=file.bytes)


def sizes_finished(finished: "FinishedShard") -> tuple[str, Sizes]:
    """(split, sizes) of a shard that an earlier execution has finished: all that it counted."""
    return finished.file.split, finished.sizes
