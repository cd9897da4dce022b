"""Latents in the pipeline, from as they are encoded to files of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam

from transforms.latents import LatentBatch, LatentFormat
from transforms.quantize import Quantization, stored_values
from transforms.write_shards import WriteShards


class StoreLatents(beam.DoFn):
    """LatentBatch of float32 -> the same batch with its latents as they are stored.

    dtype: the NumPy type of the values; uint8 needs a quantization, and the batch then counts the
    values that were clipped.
    """

    def __init__(self, dtype: str, quantization: Quantization | None = None) -> None:
        self._dtype = dtype
        self._quantization = quantization

    def process(self, batch: LatentBatch) -> Sequence[LatentBatch]:
        if self._quantization is None:
            return [replace(batch, latents=stored_values(batch.latents, self._dtype, None))]
        numbers, clipped = self._quantization.quantize_and_count(batch.latents)
        return [replace(batch, latents=numbers, clipped=clipped)]


class WriteLatents(WriteShards):
    """PCollection[LatentBatch] -> PCollection[ShardFile]: one Parquet file a shard.

    output: the folder of the attempt. characters: what a label stands for. metadata: goes into
    every file. See WriteShards for when a file is written; each is noted.
    """

    def __init__(
        self, output: str, characters: Mapping[int, str], metadata: Mapping[str, Any]
    ) -> None:
        super().__init__(output, LatentFormat(dict(characters), dict(metadata)), noted=True)
