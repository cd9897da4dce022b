"""Latents back to images: reading a run's latents, decoding them, and the files of images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics.metric import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.pvalue import PCollection

from transforms.images import (
    ShardKey,
)
from transforms.models.arrays import decoded_pixels
from transforms.models.choice import load_decoder
from transforms.models.directory import find_model
from transforms.models.fixed_batches import WholeBatchHandler
from transforms.models.network import Network
from transforms.quantize import Quantization
from transforms.read_latents import LatentShard, StoredBatch, read_latents
from transforms.staged import open_staged, staged_table
from transforms.write_shards import WriteShards

IMAGES_FOLDER = "images"


@dataclass(frozen=True)
class DecodedBatch:
    """Decoded images. image_ids: int64 (n,). labels: int32 (n,), NO_LABEL for none.

    pixels: uint8 (n, 784), upright. originals: the same, None where they are not given.
    originals_sha256: as StoredBatch has it.
    """

    shard: ShardKey
    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    originals: np.ndarray | None
    originals_sha256: str = ""

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "DecodedBatch":
        """Some of its images, by position or mask; the batch accounts for the same rows still."""
        parts = (self.image_ids[rows], self.labels[rows], self.pixels[rows])
        originals = None if self.originals is None else self.originals[rows]
        return DecodedBatch(self.shard, self.rows, *parts, originals)


class ReadLatents(beam.DoFn):
    """LatentShard -> StoredBatch of at most `batch_size` images."""

    def __init__(self, quantization: Quantization | None, batch_size: int) -> None:
        self._quantization = quantization
        self._batch_size = batch_size
        self._images = Metrics.counter(ReadLatents, "images")

    def process(self, shard: LatentShard) -> Iterator[StoredBatch]:
        for batch in read_latents(shard, self._quantization, self._batch_size):
            self._images.inc(len(batch.latents))
            yield batch


class DecoderHandler(WholeBatchHandler[StoredBatch, DecodedBatch]):
    """Loads a decoder once a process and runs it on a whole StoredBatch at a time.

    model: a model directory; None for the model that comes with the package. engine: what computes
    it, by name; None for the fastest that is there. sha256: what the decoder's file has to have,
    where it is known.
    """

    def __init__(
        self, model: str | None = None, engine: str | None = None, sha256: str | None = None
    ) -> None:
        super().__init__("Decode")
        self._model = model
        self._engine = engine
        self._sha256 = sha256

    def load_model(self) -> Network:
        model = find_model(self._model)
        if self._sha256 is not None:
            model = replace(model, decoder_sha256=self._sha256)
        return load_decoder(model, self._engine)

    def result(self, batch: StoredBatch, network: Network) -> DecodedBatch:
        latents = batch.latents
        return DecodedBatch(
            latents.shard,
            latents.rows,
            latents.image_ids,
            latents.labels,
            decoded_pixels(network.compute, latents.latents),
            batch.originals,
            batch.originals_sha256,
        )

    def batch_bytes(self, batch: StoredBatch) -> int:
        return batch.latents.latents.nbytes


class Decode(beam.PTransform):
    """PCollection[StoredBatch] -> PCollection[DecodedBatch]."""

    def __init__(self, handler: ModelHandler) -> None:
        super().__init__()
        self._handler = handler

    def expand(self, pcoll: PCollection[StoredBatch]) -> PCollection[DecodedBatch]:
        decoded: PCollection[DecodedBatch] = pcoll | "RunInference" >> RunInference(self._handler)
        return decoded


@dataclass(frozen=True)
class ImageFormat:
    """Images in the file of a shard, in the columns of staged images."""

    characters: Mapping[int, str]
    row_group_rows: int
    folder: str = IMAGES_FOLDER

    def table(self, batch: DecodedBatch) -> pa.Table:
        """The images of a batch."""
        return staged_table(batch.image_ids, batch.labels, batch.pixels)

    def open(self, sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
        """A writer of the file, as staged files are."""
        return open_staged(sink, schema, self.characters)


class WriteImages(WriteShards):
    """PCollection[DecodedBatch] -> PCollection[FinishedShard]: one Parquet file a shard.

    See WriteShards for when a file is written, and for `noted`.
    """

    def __init__(
        self,
        output: str,
        characters: Mapping[int, str],
        row_group_rows: int,
        *,
        noted: bool = False,
    ) -> None:
        super().__init__(output, ImageFormat(dict(characters), row_group_rows), noted=noted)
