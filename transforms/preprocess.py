"""From pixels as they are stored to pixels as the encoder takes them."""

from collections.abc import Iterator
from dataclasses import replace

import apache_beam as beam
import numpy as np
from apache_beam.metrics.metric import Metrics

from transforms.images import SIDE, ImageBatch
from transforms.models.arrays import normalize


def reshape(pixels: np.ndarray) -> np.ndarray:
    """Rows of 784 pixels as (n, 28, 28, 1) images; a view, nothing is copied."""
    return pixels.reshape(-1, SIDE, SIDE, 1)


class _CountingDoFn(beam.DoFn):
    """A DoFn over batches that counts what passes."""

    def __init__(self) -> None:
        self._images = Metrics.counter(type(self), "images")
        self._batches = Metrics.counter(type(self), "batches")

    def count(self, batch: ImageBatch) -> None:
        self._images.inc(len(batch))
        self._batches.inc()


class NormalizeImages(_CountingDoFn):
    """ImageBatch with uint8 pixels (n, 784) -> ImageBatch with float32 pixels in [0, 1]."""

    def process(self, batch: ImageBatch) -> Iterator[ImageBatch]:
        self.count(batch)
        yield replace(batch, pixels=normalize(batch.pixels))


class ReshapeImages(_CountingDoFn):
    """ImageBatch with pixels (n, 784) -> ImageBatch with pixels (n, 28, 28, 1)."""

    def process(self, batch: ImageBatch) -> Iterator[ImageBatch]:
        self.count(batch)
        yield replace(batch, pixels=reshape(batch.pixels))
