"""Writing one Parquet file for each shard, as soon as all of its rows have come."""

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
from transforms.images import IMAGE_ID_COLUMN, Reject, Sample, ShardKey
from transforms.latents import LatentBatch
from transforms.shard_files import (
    FinishedShard,
    ShardFile,
    ShardFormat,
    shard_path,
    write_note,
)
from transforms.sizes import Sizes, add_sizes, sizes_of
from transforms.storage.files import child, write_bytes

_PIECES = "pieces"


class WriteShards(beam.PTransform):
    """PCollection of batches -> PCollection[FinishedShard]: one Parquet file a shard.

    A batch has a `shard`, and `rows`: how many rows of the shard it accounts for. output: the
    folder to write to. Rows are ordered by image_id, and do not depend on how the work was spread;
    names do not either, but for a token.

    A file is written as soon as all rows of its shard have come, so nothing waits for the end of
    the job. Runners fuse reading to writing, so they come in order and in one bundle; where they do
    not, the pieces of a shard are brought together by a GroupByKey.

    noted: whether the first execution that finishes a shard notes it, and all others return what it
    noted. Only for an output that no other pipeline ever writes to.
    """

    def __init__(self, output: str, form: ShardFormat, *, noted: bool = False) -> None:
        super().__init__()
        self._writer = _ShardWriter(output, form, type(self), noted=noted)

    def expand(self, pcoll: PCollection[Any]) -> PCollection[FinishedShard]:
        outputs = (
            pcoll
            | "InOneWindow" >> beam.WindowInto(GlobalWindows())
            | "WriteWholeShards"
            >> beam.ParDo(_WriteWholeShards(self._writer)).with_outputs(_PIECES, main="finished")
        )
        joined = (
            outputs[_PIECES]
            | "JoinPieces" >> beam.GroupByKey()
            | "WriteJoinedShards" >> beam.MapTuple(self._writer.write_joined)
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

    @staticmethod
    def of(batch: Any) -> "_Tally":
        if not isinstance(batch, LatentBatch):  # Decoded images: nothing else is counted of them.
            return _Tally(batch.rows, Sizes(images_written=len(batch)))
        return _Tally(batch.rows, sizes_of(batch), batch.sha256, batch.rejects, batch.sample)


class _Piece(NamedTuple):
    """Some rows of a shard, in order, as a Parquet file."""

    first: int
    tally: _Tally
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
        if rows.num_rows:  # `datasets` cannot read a row group without rows.
            self._writer.write_table(rows.combine_chunks(), row_group_size=rows.num_rows)

    def content(self) -> bytes:
        """The whole file; ends the building."""
        rest = pa.concat_tables(self._waiting)
        if rest.num_rows or self._writer is None:
            self._write(rest)
        self._writer.close()  # type: ignore[union-attr]
        return self._sink.getvalue()


class _ShardWriter:
    """Builds the files of shards, and writes and notes them."""

    def __init__(self, output: str, form: ShardFormat, namespace: type, *, noted: bool) -> None:
        self._output = output
        self._form = form
        self._noted = noted
        self._images = Metrics.counter(namespace, "images")
        self._files = Metrics.counter(namespace, "files")

    def builder(self) -> _Builder:
        return _Builder(self._form)

    def add(self, builder: _Builder, batch: Any) -> None:
        builder.add(self._form.table(batch), _Tally.of(batch))

    def write(self, shard: ShardKey, builder: _Builder) -> FinishedShard:
        _, sizes, images_sha256, rejects, sample = builder.tally
        name = shard_path(self._form.folder, shard)
        path = name.replace(".parquet", f".{uuid.uuid4().hex[:12]}.parquet")
        facts = write_bytes(child(self._output, path), builder.content())
        images = sizes.images_written
        first, last = (builder.first, builder.last) if images else (None, None)
        file = ShardFile(path, shard.split, images, *facts, first, last, images_sha256)
        sizes = sizes._replace(parquet_bytes=facts.bytes)
        self._images.inc(images)
        self._files.inc()
        finished = FinishedShard(file, sizes, rejects, sample)
        return write_note(self._output, name, finished) if self._noted else finished

    def write_joined(
        self, key: tuple[str, int, int, int], grouped: Iterable[_Piece]
    ) -> FinishedShard:
        """Writes a shard of all its pieces; RunError where a row is missing, or there twice."""
        shard, pieces = ShardKey(*key), sorted(grouped, key=lambda piece: piece.first)
        tally = reduce(_Tally.plus, (piece.tally for piece in pieces))
        if tally.rows != shard.rows:
            raise RunError(
                f"split {shard.split}: {tally.rows} of the {shard.rows} rows of shard "
                f"{shard.number} came through; run it again, and report it if it happens again"
            )
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
        builder = self.builder()
        builder.add(rows, tally)
        return self.write(shard, builder)


class _WriteWholeShards(beam.DoFn):
    """Batches -> FinishedShard, and _PIECES of the shards whose rows do not come in order here."""

    def __init__(self, writer: _ShardWriter) -> None:
        self._writer = writer

    def start_bundle(self) -> None:
        self._builders: dict[ShardKey, _Builder] = {}

    def process(self, batch: Any) -> Iterator[Any]:
        shard, ids = batch.shard, batch.image_ids
        builder = self._builders.get(shard)
        if builder is not None and len(ids) and int(ids[0]) <= builder.last:
            yield TaggedOutput(_PIECES, _keyed_piece(shard, builder))
            builder = None
        builder = self._builders[shard] = builder or self._writer.builder()
        self._writer.add(builder, batch)
        if builder.tally.rows == shard.rows:
            yield self._writer.write(shard, self._builders.pop(shard))

    def finish_bundle(self) -> Iterator[Any]:
        window = GlobalWindow()
        for item in self._builders.items():
            value = WindowedValue(_keyed_piece(*item), window.max_timestamp(), (window,))
            yield TaggedOutput(_PIECES, value)


def _keyed_piece(shard: ShardKey, builder: _Builder) -> tuple[tuple[str, int, int, int], _Piece]:
    return (*shard,), _Piece(builder.first, builder.tally, builder.content())
