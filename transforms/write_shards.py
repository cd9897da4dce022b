"""Writing one Parquet file for each shard, as soon as all of its rows have come."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from transforms.errors import RunError
from transforms.files import join_path, write_bytes
from transforms.images import IMAGE_ID_COLUMN, ShardKey
from transforms.shard_files import ShardFile, ShardFormat, ShardNote, note_path, shard_sha256


class WriteShards(beam.PTransform):
    """PCollection of batches -> PCollection[ShardFile]: one Parquet file a shard.

    A batch has a `shard`, and `rows`: how many rows of the shard it accounts for.
    output: the run directory (any of Beam's file systems). Rows are ordered by image_id, and
    neither names nor rows depend on how the work was spread.

    A file is written as soon as all rows of its shard have come, so nothing waits for the end of
    the job. Runners fuse reading to writing, so they come in one bundle; where a runner cuts
    between them, the pieces of a shard are brought together by a GroupByKey first.

    noted: whether a ShardNote is written once the file is there.
    """

    def __init__(self, output: str, form: ShardFormat, *, noted: bool = False) -> None:
        super().__init__()
        self._writer = _ShardWriter(output, form, type(self), noted=noted)

    def expand(self, pcoll: PCollection[Any]) -> PCollection[ShardFile]:
        outputs = pcoll | "WriteWholeShards" >> beam.ParDo(
            _WriteWholeShards(self._writer)
        ).with_outputs(_WriteWholeShards.PIECES, main="files")
        joined = (
            outputs[_WriteWholeShards.PIECES]
            | "JoinPieces" >> beam.GroupByKey()
            | "WriteJoinedShards" >> beam.ParDo(_WriteJoinedShards(self._writer))
        )
        files: PCollection[ShardFile] = (
            outputs["files"],
            joined,
        ) | "AllFiles" >> beam.Flatten()
        return files


class _ShardWriter:
    def __init__(self, output: str, form: ShardFormat, namespace: type, *, noted: bool) -> None:
        self._output = output
        self._form = form
        self._noted = noted
        self._images = Metrics.counter(namespace, "images")
        self._files = Metrics.counter(namespace, "files")

    def write(self, shard: ShardKey, batches: list[Any]) -> ShardFile:
        table = self._form.table(batches)
        path = f"{self._form.folder}/{shard.name}.parquet"
        facts = write_bytes(self._path(path), self._form.content(table))
        self._images.inc(table.num_rows)
        self._files.inc()
        image_ids = table.column(IMAGE_ID_COLUMN)
        file = ShardFile(
            path,
            shard.split,
            table.num_rows,
            facts.bytes,
            facts.sha256,
            image_ids[0].as_py() if table.num_rows else None,
            image_ids[-1].as_py() if table.num_rows else None,
        )
        if self._noted:
            note = ShardNote(file, shard_sha256(batches))
            write_bytes(self._path(note_path(shard)), note.to_json())
        return file

    def _path(self, name: str) -> str:
        return join_path(self._output, *name.split("/"))


class _WriteWholeShards(beam.DoFn):
    PIECES = "pieces"

    def __init__(self, writer: _ShardWriter) -> None:
        self._writer = writer

    def start_bundle(self) -> None:
        self._pending: dict[ShardKey, list[Any]] = defaultdict(list)
        self._rows = Counter[ShardKey]()

    def process(self, batch: Any) -> Iterator[ShardFile]:
        self._pending[batch.shard].append(batch)
        self._rows[batch.shard] += batch.rows
        if self._rows[batch.shard] == batch.shard.rows:
            yield self._writer.write(batch.shard, self._pending.pop(batch.shard))

    def finish_bundle(self) -> Iterator[Any]:
        window = GlobalWindow()
        for shard, batches in self._pending.items():
            for batch in batches:
                piece = WindowedValue((tuple(shard), batch), window.max_timestamp(), (window,))
                yield TaggedOutput(self.PIECES, piece)


class _WriteJoinedShards(beam.DoFn):
    def __init__(self, writer: _ShardWriter) -> None:
        self._writer = writer

    def process(
        self, pieces: tuple[tuple[str, int, int, int], Iterable[Any]]
    ) -> Iterator[ShardFile]:
        key, batches = pieces
        shard, parts = ShardKey(*key), list(batches)
        rows = sum(part.rows for part in parts)
        if rows != shard.rows:
            raise RunError(
                f"split {shard.split}: {rows} of the {shard.rows} rows of shard {shard.number} "
                "came through; run it again, and report it if it happens again"
            )
        yield self._writer.write(shard, parts)
