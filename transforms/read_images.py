"""Reading shards of images in the pipeline."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PBegin, PCollection, TaggedOutput

from transforms.errors import InputError
from transforms.images import ImageBatch, Reject, Shard, Stretch, too_many_rejects
from transforms.inputs.files import stretches_of
from transforms.inputs.read import read_stretch
from transforms.settings import BATCH_SIZE, SHARD_SIZE


class ReadShards(beam.PTransform):
    """PCollection[Stretch | Shard] -> (PCollection[ImageBatch], PCollection[Reject]).

    Batches hold at most `batch_size` images, and their rejects too. A stretch with more than
    `max_rejects` rejects raises InputError at once, rather than after hours.
    """

    def __init__(self, batch_size: int = BATCH_SIZE, max_rejects: int = 0) -> None:
        super().__init__()
        self._do_fn = _ReadShards(batch_size, max_rejects)

    def expand(self, pcoll: PCollection[Stretch | Shard]) -> Any:
        outputs = pcoll | "ReadShards" >> beam.ParDo(self._do_fn).with_outputs(
            _ReadShards.REJECTS, main="batches"
        )
        return outputs["batches"], outputs[_ReadShards.REJECTS]


class ReadImages(beam.PTransform):
    """PCollection[Stretch | Shard] -> (PCollection[ImageBatch], PCollection[Reject]).

    Stretches are spread over the workers first. See ReadShards for the rest.
    """

    def __init__(self, batch_size: int = BATCH_SIZE, max_rejects: int = 0) -> None:
        super().__init__()
        self._batch_size = batch_size
        self._max_rejects = max_rejects

    def expand(self, pcoll: PCollection[Stretch | Shard]) -> Any:
        return (
            pcoll
            | "SpreadShards" >> beam.Reshuffle()
            | "ReadShards" >> ReadShards(self._batch_size, self._max_rejects)
        )


class ReadImagesFrom(beam.PTransform):
    """The images of files, at the beginning of a pipeline: as ReadImages gives them.

    pattern, labels, orientation, shard_size: as stretches_of has them. The files are looked at when
    the pipeline is built.
    """

    def __init__(
        self,
        pattern: str | Sequence[str],
        batch_size: int = BATCH_SIZE,
        max_rejects: int = 0,
        *,
        labels: str | Sequence[str] = (),
        orientation: str = "auto",
        shard_size: int = SHARD_SIZE,
    ) -> None:
        super().__init__()
        self._stretches = stretches_of(pattern, shard_size, labels, orientation)
        self._read = ReadImages(batch_size, max_rejects)

    def expand(self, pbegin: PBegin) -> Any:
        return pbegin | "Shards" >> beam.Create(self._stretches, reshuffle=False) | self._read


class _ReadShards(beam.DoFn):
    REJECTS: Literal["rejects"] = "rejects"

    def __init__(self, batch_size: int, max_rejects: int) -> None:
        self._batch_size = batch_size
        self._max_rejects = max_rejects
        self._images = Metrics.counter(ReadImages, "images")
        self._batches = Metrics.counter(ReadImages, "batches")
        self._rejects = Metrics.counter(ReadImages, "rejects")

    def process(
        self, element: Stretch | Shard
    ) -> Iterator[ImageBatch | TaggedOutput[Literal["rejects"], Reject]]:
        stretch = Stretch((element,)) if isinstance(element, Shard) else element
        rejected: list[Reject] = []
        for batch, rejects in read_stretch(stretch, self._batch_size):
            rejected.extend(rejects)
            if len(rejected) > self._max_rejects:
                raise InputError(too_many_rejects(rejected, self._max_rejects))
            self._images.inc(len(batch))
            self._batches.inc()
            self._rejects.inc(len(rejects))
            for reject in rejects:
                yield TaggedOutput(self.REJECTS, reject)
            yield batch
