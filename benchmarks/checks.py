"""Whether a way wrote the latents of all images, and the same as the others."""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.contest import HAND_WRITTEN, Way

TOLERANCE = 1e-4


def read_latents(way: Way, output: Path, count: int) -> np.ndarray:
    """The latents that a way wrote, float32 (count, 32) by image_id; exits unless all are there."""
    folder = output / "latents" if way.environment is None else output
    table = pq.read_table(folder, columns=["image_id", "latent"])
    image_ids = table["image_id"].to_numpy()
    order = np.argsort(image_ids)
    if not np.array_equal(image_ids[order], np.arange(count)):
        sys.exit(f"{way.name} wrote {table.num_rows:,} rows, which are not images 0 to {count:,}")
    column = table["latent"].combine_chunks()
    column = getattr(column, "storage", column)  # Ray writes tensors, an extension of Arrow's.
    latents: np.ndarray = column.flatten().to_numpy().reshape(count, -1)[order]
    return latents


def check_same(way: Way, latents: np.ndarray, expected: np.ndarray) -> float:
    """The root mean square of the differences; exits where a float32 way has larger ones.

    Either may hold more images than the other, which then are not looked at.
    """
    both = min(len(latents), len(expected))
    differences = latents[:both].astype(np.float64) - expected[:both]
    largest = np.abs(differences).max()
    if not np.isfinite(largest) or (way.precision == "float32" and largest > TOLERANCE):
        sys.exit(f"{way.name} wrote latents that differ from {HAND_WRITTEN.name}'s by {largest}")
    return float(np.sqrt(np.mean(differences**2)))
