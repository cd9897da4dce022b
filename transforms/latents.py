"""Latents in Parquet: the schema, and writing a file for each shard."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from transforms.errors import RunError
from transforms.files import write_bytes
from transforms.images import IMAGE_ID_COLUMN, LABEL_COLUMN, NO_LABEL, ShardKey

METADATA_KEY = b"emnist_latents"
"""Where a file's own metadata holds what made it, as JSON."""

# Bytes an image, whole file, 10,000 official EMNIST test digits, 32 float32 latents; of the
# untrained encoder, and of PCA (dense, as trained latents are):
#   pyarrow's defaults (snappy, dictionary)            111.1  197.5
#   zstd, dictionary                                    91.8  184.0
#   BYTE_STREAM_SPLIT, DELTA image_ids, snappy          95.9  121.0
#   BYTE_STREAM_SPLIT, DELTA image_ids, zstd 1          64.9  110.0  <- no slower than snappy
#   BYTE_STREAM_SPLIT, DELTA image_ids, zstd 9          67.6  110.4
#   BYTE_STREAM_SPLIT, DELTA image_ids, zstd 19         60.0  110.1  but 50 times as long to write
# (`python -m benchmarks.parquet_encodings`).
_PARQUET_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["label", "character"],
    "column_encoding": {
        "image_id": "DELTA_BINARY_PACKED",
        "latent.list.element": "BYTE_STREAM_SPLIT",
    },
}


@dataclass(frozen=True)
class LatentBatch:
    """The latents of an ImageBatch, in order of image_id.

    rows: the rows of the shard that the batch accounts for, rejects among them. image_ids: int64
    (n,). labels: int16 (n,), NO_LABEL where there is none. latents: float32 (n, latent_size).
    """

    shard: ShardKey
    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    latents: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)


class LatentFile(NamedTuple):
    """A Parquet file of latents as written. path: below the run directory; no ids if empty."""

    path: str
    split: str
    rows: int
    bytes: int
    sha256: str
    first_image_id: int | None
    last_image_id: int | None


def latent_schema(latent_size: int) -> pa.Schema:
    """The columns of a latents file; a fixed-size list of `latent_size` float32 an image."""
    return pa.schema(
        [
            pa.field(IMAGE_ID_COLUMN, pa.int64(), nullable=False),
            pa.field(LABEL_COLUMN, pa.uint8()),
            pa.field("character", pa.string()),
            pa.field("latent", pa.list_(pa.field("element", pa.float32()), latent_size)),
        ]
    )


def latent_table(batches: Iterable[LatentBatch], characters: Mapping[int, str]) -> pa.Table:
    """The rows of a shard, ordered by image_id, in the columns of latent_schema.

    Raises RunError if an image_id is there twice.
    """
    parts = sorted(batches, key=lambda batch: (len(batch) > 0, batch.image_ids[:1].tolist()))
    image_ids = np.concatenate([part.image_ids for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    latents = np.concatenate([part.latents for part in parts])
    if (np.diff(image_ids) <= 0).any():
        position = int(np.flatnonzero(np.diff(image_ids) <= 0)[0]) + 1
        raise RunError(
            f"split {parts[0].shard.split}: image_id {image_ids[position]} came through twice: "
            "run it again, and report it if it happens again"
        )
    missing = labels == NO_LABEL
    return pa.Table.from_arrays(
        [
            pa.array(image_ids),
            pa.array(np.where(missing, 0, labels).astype(np.uint8), mask=missing),
            pa.array([characters.get(label) for label in labels.tolist()], pa.string()),
            pa.FixedSizeListArray.from_arrays(
                pa.array(latents.reshape(-1)), type=latent_schema(latents.shape[1])[3].type
            ),
        ],
        schema=latent_schema(latents.shape[1]),
    )


def parquet_bytes(table: pa.Table, metadata: Mapping[str, Any]) -> bytes:
    """A Parquet file of latents, with `metadata` as JSON under METADATA_KEY; one row group."""
    described = table.replace_schema_metadata(
        {METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(described, sink, row_group_size=max(1, table.num_rows), **_PARQUET_OPTIONS)
    content: bytes = sink.getvalue().to_pybytes()
    return content


class WriteLatents(beam.PTransform):
    """PCollection[LatentBatch] -> PCollection[LatentFile]: one Parquet file a shard.

    folder: the run directory (any of Beam's file systems). characters: what a label stands for.
    metadata: goes into every file. Rows are ordered by image_id, and neither names nor rows
    depend on how the work was spread.

    A file is written as soon as all rows of its shard have come, so nothing waits for the end of
    the job. Runners fuse reading to writing, so they come in one bundle; where a runner cuts
    between them, the pieces of a shard are brought together by a GroupByKey first.
    """

    def __init__(
        self, folder: str, characters: Mapping[int, str], metadata: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self._writer = _ShardWriter(folder, dict(characters), dict(metadata))

    def expand(self, pcoll: PCollection[LatentBatch]) -> PCollection[LatentFile]:
        outputs = pcoll | "WriteWholeShards" >> beam.ParDo(
            _WriteWholeShards(self._writer)
        ).with_outputs(_WriteWholeShards.PIECES, main="files")
        joined = (
            outputs[_WriteWholeShards.PIECES]
            | "JoinPieces" >> beam.GroupByKey()
            | "WriteJoinedShards" >> beam.ParDo(_WriteJoinedShards(self._writer))
        )
        files: PCollection[LatentFile] = (
            outputs["files"],
            joined,
        ) | "AllFiles" >> beam.Flatten()
        return files


class _ShardWriter:
    def __init__(self, folder: str, characters: dict[int, str], metadata: dict[str, Any]) -> None:
        self._folder = folder
        self._characters = characters
        self._metadata = metadata
        self._images = Metrics.counter(WriteLatents, "images")
        self._files = Metrics.counter(WriteLatents, "files")

    def write(self, shard: ShardKey, batches: list[LatentBatch]) -> LatentFile:
        table = latent_table(batches, self._characters)
        path = f"latents/{shard.name}.parquet"
        facts = write_bytes(
            FileSystems.join(self._folder, path), parquet_bytes(table, self._metadata)
        )
        self._images.inc(table.num_rows)
        self._files.inc()
        image_ids = table.column(IMAGE_ID_COLUMN)
        return LatentFile(
            path,
            shard.split,
            table.num_rows,
            facts.bytes,
            facts.sha256,
            image_ids[0].as_py() if table.num_rows else None,
            image_ids[-1].as_py() if table.num_rows else None,
        )


class _WriteWholeShards(beam.DoFn):
    PIECES = "pieces"

    def __init__(self, writer: _ShardWriter) -> None:
        self._writer = writer

    def start_bundle(self) -> None:
        self._pending: dict[ShardKey, list[LatentBatch]] = defaultdict(list)
        self._rows = Counter[ShardKey]()

    def process(self, batch: LatentBatch) -> Iterator[LatentFile]:
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
        self, pieces: tuple[tuple[str, int, int, int], Iterable[LatentBatch]]
    ) -> Iterator[LatentFile]:
        key, batches = pieces
        shard, parts = ShardKey(*key), list(batches)
        rows = sum(part.rows for part in parts)
        if rows != shard.rows:
            raise RunError(
                f"split {shard.split}: {rows} of the {shard.rows} rows of shard {shard.number} "
                "came through; run it again, and report it if it happens again"
            )
        yield self._writer.write(shard, parts)
