"""The shards that an interrupted run has finished, in the pipeline of the run that goes on."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import PCollection, TaggedOutput

from beam_job.decoded_sample import one_in
from beam_job.resume import KeptShard
from transforms.decode import LatentColumns, latent_columns
from transforms.errors import InputError
from transforms.images import ImageBatch, Reject, Shard, read_shard, with_sha256
from transforms.latents import LatentBatch
from transforms.shard_files import shard_sha256
from transforms.sizes import Sizes


class ReadKept(beam.PTransform):
    """PCollection[KeptShard] -> what the shards would give if they were compressed again.

    By tag: FILES (ShardFile), SIZES ((split, Sizes)), REJECTS (Reject), IMAGES and LATENTS (the
    batches of the report's sample), and AGAIN: shards (Shard) whose file has been altered, or whose
    images are no longer those that it was made of.
    """

    FILES, SIZES, REJECTS = "files", "sizes", "rejects"
    IMAGES, LATENTS, AGAIN = "images", "latents", "again"

    def __init__(self, batch_size: int, every: int, model: dict[str, Any]) -> None:
        """batch_size: as in the run. every: one image of so many is in the report's sample."""
        super().__init__()
        self._do_fn = _ReadKept(batch_size, every, model)

    def expand(self, pcoll: PCollection[KeptShard]) -> Any:
        tags = (self.SIZES, self.REJECTS, self.IMAGES, self.LATENTS, self.AGAIN)
        return (
            pcoll
            | "SpreadKept" >> beam.Reshuffle()
            | "ReadKeptShards" >> beam.ParDo(self._do_fn).with_outputs(*tags, main=self.FILES)
        )


class _ReadKept(beam.DoFn):
    def __init__(self, batch_size: int, every: int, model: dict[str, Any]) -> None:
        self._batch_size = batch_size
        self._every = every
        self._model = model

    def process(self, kept: KeptShard) -> Iterator[Any]:
        stored = _stored(kept, self._model)
        batches, rejects = _read(kept.shard, self._batch_size)
        if stored is None or shard_sha256(batches) != kept.note.images_sha256:
            yield TaggedOutput(ReadKept.AGAIN, kept.shard)
            return
        split = kept.shard.key.split
        yield TaggedOutput(ReadKept.SIZES, (split, _sizes(kept, batches, rejects, stored)))
        for reject in rejects:
            yield TaggedOutput(ReadKept.REJECTS, reject)
        for batch in batches:
            chosen = one_in(batch.image_ids, self._every)
            if chosen.any():
                yield TaggedOutput(ReadKept.IMAGES, batch.take(chosen))
        rows = np.flatnonzero(one_in(stored.image_ids, self._every))
        if len(rows):
            yield TaggedOutput(ReadKept.LATENTS, _latents(kept, stored, rows))
        yield kept.note.file


def _stored(kept: KeptShard, model: dict[str, Any]) -> LatentColumns | None:
    try:
        return latent_columns(kept.path, kept.note.file.sha256, model)
    except InputError:
        return None


def _read(shard: Shard, batch_size: int) -> tuple[list[ImageBatch], list[Reject]]:
    batches: list[ImageBatch] = []
    rejects: list[Reject] = []
    for batch, rejected in read_shard(shard, batch_size):
        batches.append(with_sha256(batch))
        rejects.extend(rejected)
    return batches, rejects


def _sizes(
    kept: KeptShard, batches: list[ImageBatch], rejects: list[Reject], stored: LatentColumns
) -> Sizes:
    images = sum(len(batch) for batch in batches)
    uint8_bytes = sum(batch.pixels.nbytes for batch in batches)
    return Sizes(
        images_read=images,
        images_rejected=len(rejects),
        images_encoded=len(stored.image_ids),
        images_written=kept.note.file.rows,
        uint8_bytes=uint8_bytes,
        float32_bytes=uint8_bytes * np.dtype(np.float32).itemsize,
        latent_bytes=stored.latents.nbytes,
        parquet_bytes=kept.note.file.bytes,
    )


def _latents(kept: KeptShard, stored: LatentColumns, rows: np.ndarray) -> LatentBatch:
    return LatentBatch(
        kept.shard.key,
        len(rows),
        stored.image_ids[rows],
        stored.labels[rows],
        stored.latents[rows],
    )
