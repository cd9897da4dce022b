"""Latents in the pipeline, from as they are encoded to files of them, and their byte counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import apache_beam as beam
import numpy as np

from transforms.latents import LatentBatch, LatentFormat, Metadata
from transforms.quantize import Quantization, stored_values
from transforms.sizes import Sizes, add_sizes
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
        stored, clipped = self._stored(batch.latents)
        chosen = np.isin(batch.image_ids, batch.sample.image_ids)
        sample = batch.sample._replace(latents=stored[chosen].tobytes())
        return [replace(batch, latents=stored, sample=sample, clipped=clipped)]

    def _stored(self, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if self._quantization is None:
            return stored_values(latents, self._dtype, None), None
        return self._quantization.quantize_and_count(latents)


class WriteLatents(WriteShards):
    """PCollection[LatentBatch] -> PCollection[FinishedShard]: one Parquet file a shard.

    output: the folder to write to. characters: what a label stands for. metadata: goes into every
    file. compatible: as open_latents has it. See WriteShards for when a file is written, and for
    `noted`.
    """

    def __init__(
        self,
        output: str,
        characters: Mapping[int, str],
        metadata: Metadata,
        *,
        compatible: bool = False,
        noted: bool = False,
    ) -> None:
        latents = LatentFormat(dict(characters), metadata, compatible)
        super().__init__(output, latents, noted=noted)


class ByteCounts(beam.CombineFn):
    """Adds up Sizes; the result is the same however the parts are grouped and merged."""

    def create_accumulator(self) -> Sizes:
        return Sizes()

    def add_input(self, mutable_accumulator: Sizes, element: Sizes) -> Sizes:
        return add_sizes([mutable_accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[Sizes]) -> Sizes:
        return add_sizes(accumulators)

    def extract_output(self, accumulator: Sizes) -> Sizes:
        return accumulator
