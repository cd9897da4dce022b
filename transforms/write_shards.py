"""Writing one Parquet file for each shard, as soon as all of its rows have come.

A runner may execute a bundle twice, at once or late. So each execution writes files of its own,
with a token in the name, and the element that travels on says which: whatever the runner commits
is whole, and the rest is waste.
"""

import io
import uuid
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from transforms.errors import RunError
from transforms.images import IMAGE_ID_COLUMN, PIXELS, Reject, Sample, ShardKey
from transforms.latents import LatentBatch
from transforms.shard_files import FinishedShard, ShardFile, ShardFormat, note_path
from transforms.sizes import Sizes, add_sizes, sizes_encoded
from transforms.storage.files import child, write_bytes


class WriteShards(beam.PTransform):
    """PCollection of batches -> PCollection[FinishedShard]: one Parquet file a shard.

    A batch has a `shard`, and `rows`: how many rows of the shard it accounts for. output: the
    folder to write to. Rows are ordered by image_id, and do not depend on how the work was spread;
    names do not either, but for a token.

    A file is written as soon as all rows of its shard have come, so nothing waits for the end of
    the job. Runners fuse reading to writing, so they come in one bundle; where a runner cuts
    between them, the pieces of a shard are brought together by a GroupByKey first.

    noted: whether a note is written once the file is there, for a later execution to find.
    """

    def __init__(self, output: str, form: ShardFormat, *, noted: bool = False) -> None:
        super().__init__()
        self._writer = _ShardWriter(output, form, type(self), noted=noted)

    def expand(self, pcoll: PCollection[Any]) -> PCollection[FinishedShard]:
        outputs = (
            pcoll
            | "InOneWindow" >> beam.WindowInto(GlobalWindows())
            | "WriteWholeShards"
            >> beam.ParDo(_WriteWholeShards(self._writer)).with_outputs(
                _WriteWholeShards.PIECES, main="finished"
            )
        )
        joined = (
            outputs[_WriteWholeShards.PIECES]
            | "JoinPieces" >> beam.GroupByKey()
            | "WriteJoinedShards" >> beam.ParDo(_WriteJoinedShards(self._writer))
        )
        finished: PCollection[FinishedShard] = (
            outputs["finished"],
            joined,
        ) | "AllShards" >> beam.Flatten()
        return finished


class _Tally(NamedTuple):
    """What is known of some rows of a shard besides what goes into its file."""

    rows: int = 0
    sizes: Sizes = Sizes()
    images_sha256: str = ""
    rejects: tuple[Reject, ...] = ()
    sample: Sample = Sample()

    def plus(self, other: "_Tally") -> "_Tally":
        return _Tally(
            self.rows + other.rows,
            add_sizes([self.sizes, other.sizes]),
            self.images_sha256 or other.images_sha256,  # The last batch of a shard has it.
            self.rejects + other.rejects,
            self.sample.plus(other.sample),
        )


def _tally(batch: Any) -> _Tally:
    if not isinstance(batch, LatentBatch):
        return _Tally(batch.rows, Sizes(images_written=len(batch)))
    pixels = len(batch) * PIXELS
    read = Sizes(
        images_read=len(batch),
        images_rejected=len(batch.rejects),
        images_written=len(batch),
        uint8_bytes=pixels,
        float32_bytes=pixels * np.dtype(np.float32).itemsize,
    )
    sizes = add_sizes([read, sizes_encoded(batch)[1]])
    return _Tally(batch.rows, sizes, batch.sha256, batch.rejects, batch.sample)


class _Piece(NamedTuple):
    """Some rows of a shard, in order, as a Parquet file."""

    tally: _Tally
    first: int
    content: bytes


class _Builder:
    """Rows of a shard that come in order, in row groups as they will be in its file."""

    def __init__(self, form: ShardFormat) -> None:
        self.tally = _Tally()
        self.first, self.last = -1, -1
        self._form = form
        self._sink = io.BytesIO()  # It grows in place, and its value is not a copy.
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def takes(self, image_ids: np.ndarray) -> bool:
        """Whether rows follow those that are there."""
        return not len(image_ids) or int(image_ids[0]) > self.last

    def add(self, table: pa.Table, tally: _Tally) -> None:
        self.tally = self.tally.plus(tally)
        if table.num_rows:
            ids = table.column(IMAGE_ID_COLUMN)
            self.first = self.first if self.first >= 0 else ids[0].as_py()
            self.last = ids[-1].as_py()
        self._waiting.append(table)
        size = self._form.row_group_rows
        while sum(part.num_rows for part in self._waiting) >= size:
            rows = pa.concat_tables(self._waiting)
            self._write(rows.slice(0, size))
            self._waiting = [rows.slice(size)]

    def _write(self, rows: pa.Table) -> None:
        if self._writer is None:
            self._writer = self._form.open(self._sink, rows.schema)
        self._writer.write_table(rows.combine_chunks(), row_group_size=max(1, rows.num_rows))

    def content(self) -> bytes:
        """The whole file; ends the building."""
        rest = pa.concat_tables(self._waiting)
        if rest.num_rows or self._writer is None:
            self._write(rest)
        self._writer.close()  # type: ignore[union-attr]
        return self._sink.getvalue()


class _ShardWriter:
    """Builds and writes the files of shards. It is in no bundle's way: it holds no state."""

    def __init__(self, output: str, form: ShardFormat, namespace: type, *, noted: bool) -> None:
        self._output = output
        self._form = form
        self._noted = noted
        self._images = Metrics.counter(namespace, "images")
        self._files = Metrics.counter(namespace, "files")

    def add(self, builders: list[_Builder], batch: Any) -> None:
        """Adds a batch to the builder that it follows, or begins another one."""
        builder = next((one for one in builders if one.takes(batch.image_ids)), None)
        if builder is None:
            builder = _Builder(self._form)
            builders.append(builder)
        builder.add(self._form.table(batch), _tally(batch))

    def joined(self, shard: ShardKey, pieces: list[_Piece]) -> _Builder:
        """One builder of all rows of the pieces; raises RunError where a row is there twice."""
        builder = _Builder(self._form)
        tables = [pq.read_table(pa.BufferReader(piece.content)) for piece in pieces]
        rows = pa.concat_tables(tables).replace_schema_metadata(None)
        rows = rows.take(pc.sort_indices(rows, [(IMAGE_ID_COLUMN, "ascending")]))
        image_ids = rows.column(IMAGE_ID_COLUMN).to_numpy()
        twice = np.flatnonzero(np.diff(image_ids) <= 0)
        if len(twice):
            raise RunError(
                f"split {shard.split}: image_id {image_ids[twice[0] + 1]} came through twice: "
                "run it again, and report it if it happens again"
            )
        pieces.sort(key=lambda piece: piece.first)
        builder.add(rows, reduce(_Tally.plus, (piece.tally for piece in pieces)))
        return builder

    def write(self, shard: ShardKey, builder: _Builder) -> FinishedShard:
        _, sizes, images_sha256, rejects, sample = builder.tally
        path = f"{self._form.folder}/{shard.name}.{uuid.uuid4().hex[:12]}.parquet"
        facts = write_bytes(child(self._output, path), builder.content())
        images = sizes.images_written
        file = ShardFile(
            path,
            shard.split,
            images,
            facts.bytes,
            facts.sha256,
            builder.first if images else None,
            builder.last if images else None,
            images_sha256,
        )
        sizes = sizes._replace(parquet_bytes=facts.bytes)
        finished = FinishedShard(file, sizes, rejects, sample)
        if self._noted:
            write_bytes(child(self._output, note_path(shard)), finished.to_json())
        self._images.inc(images)
        self._files.inc()
        return finished


class _WriteWholeShards(beam.DoFn):
    PIECES = "pieces"

    def __init__(self, writer: _ShardWriter) -> None:
        self._writer = writer

    def start_bundle(self) -> None:
        self._pending: dict[ShardKey, list[_Builder]] = {}

    def process(self, batch: Any) -> Iterator[FinishedShard]:
        shard = batch.shard
        builders = self._pending.setdefault(shard, [])
        self._writer.add(builders, batch)
        if sum(builder.tally.rows for builder in builders) == shard.rows:
            yield self._writer.write(shard, self._whole(shard, self._pending.pop(shard)))

    def _whole(self, shard: ShardKey, builders: list[_Builder]) -> _Builder:
        if len(builders) == 1:
            return builders[0]
        return self._writer.joined(shard, list(map(_piece, builders)))

    def finish_bundle(self) -> Iterator[Any]:
        window = GlobalWindow()
        for shard, builders in self._pending.items():
            for piece in map(_piece, builders):
                keyed = (tuple(shard), piece)
                value = WindowedValue(keyed, window.max_timestamp(), (window,))
                yield TaggedOutput(self.PIECES, value)


def _piece(builder: _Builder) -> _Piece:
    return _Piece(builder.tally, builder.first, builder.content())


class _WriteJoinedShards(beam.DoFn):
    def __init__(self, writer: _ShardWriter) -> None:
        self._writer = writer

    def process(
        self, pieces: tuple[tuple[str, int, int, int], Iterable[_Piece]]
    ) -> Iterator[FinishedShard]:
        shard, parts = ShardKey(*pieces[0]), list(pieces[1])
        rows = sum(part.tally.rows for part in parts)
        if rows != shard.rows:
            raise RunError(
                f"split {shard.split}: {rows} of the {shard.rows} rows of shard {shard.number} "
                "came through; run it again, and report it if it happens again"
            )
        yield self._writer.write(shard, self._writer.joined(shard, parts))
