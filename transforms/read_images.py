"""Reading shards of images in the pipeline."""

from collections.abc import Iterator
from typing import Any, Literal

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from transforms.errors import InputError
from transforms.images import (
    ImageBatch,
    Reject,
    Shard,
    read_shard,
    too_many_rejects,
    with_sha256,
)


class ReadImages(beam.PTransform):
    """PCollection[Shard] -> (PCollection[ImageBatch], PCollection[Reject]).

    Shards are spread over the workers first. Batches hold at most `batch_size` images. A shard
    with more than `max_rejects` rejects raises InputError at once, rather than after hours.
    """

    def __init__(self, batch_size: int, max_rejects: int = 0) -> None:
        super().__init__()
        self._batch_size = batch_size
        self._max_rejects = max_rejects

    def expand(self, pcoll: PCollection[Shard]) -> Any:
        outputs = (
            pcoll
            | "SpreadShards" >> beam.Reshuffle()
            | "ReadShards"
            >> beam.ParDo(_ReadShard(self._batch_size, self._max_rejects)).with_outputs(
                _ReadShard.REJECTS, main="batches"
            )
        )
        return outputs["batches"], outputs[_ReadShard.REJECTS]


class _ReadShard(beam.DoFn):
    REJECTS: Literal["rejects"] = "rejects"

    def __init__(self, batch_size: int, max_rejects: int) -> None:
        self._batch_size = batch_size
        self._max_rejects = max_rejects
        self._images = Metrics.counter(ReadImages, "images")
        self._batches = Metrics.counter(ReadImages, "batches")
        self._rejects = Metrics.counter(ReadImages, "rejects")

    def process(
        self, shard: Shard
    ) -> Iterator[ImageBatch | TaggedOutput[Literal["rejects"], Reject]]:
        rejected: list[Reject] = []
        for batch, rejects in read_shard(shard, self._batch_size):
            rejected.extend(rejects)
            if len(rejected) > self._max_rejects:
                raise InputError(too_many_rejects(rejected, self._max_rejects))
            self._images.inc(len(batch))
            self._batches.inc()
            self._rejects.inc(len(rejects))
            for reject in rejects:
                yield TaggedOutput(self.REJECTS, reject)
            yield with_sha256(batch)
