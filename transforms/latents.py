"""Latents in Parquet: the schema, and the file of a shard."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.images import (
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    LABEL_TYPE,
    NO_SAMPLE,
    Reject,
    Sample,
    ShardKey,
    check_row_groups,
    label_array,
)
from transforms.json_documents import Count
from transforms.quantize import Quantization

LATENTS_FOLDER = "latents"
CHARACTER_COLUMN = "character"
LATENT_COLUMN = "latent"
METADATA_KEY = b"emnist_latents"
"""Where a file's own metadata holds what made it, as JSON."""

STORED_DTYPES = {"float32": "float32", "float16": "float16", "int8": "uint8"}
"""The type of the values in the files: int8 latents are numbers from 0 up, so uint8."""

MAX_LATENTS_FILE_BYTES = 4 << 30
"""Of a shard, on disk and in memory: 33 million images of 32 float32. A file is read whole."""

_ROW_GROUP_ROWS = 65_536
"""Of a row group, which is what is in memory of a larger shard."""

# Bytes an image, whole file, 10,000 official EMNIST test digits, 32 float32 latents; of the
# untrained encoder, and of PCA (dense, as trained latents are):
#   pyarrow's defaults (snappy, dictionary)            111.1  197.5
#   zstd, dictionary                                    91.8  184.0
#   BYTE_STREAM_SPLIT, DELTA image_ids, snappy          95.9  121.0
#   BYTE_STREAM_SPLIT, DELTA image_ids, zstd 1          64.9  110.0  <- no slower than snappy
#   BYTE_STREAM_SPLIT, DELTA image_ids, zstd 9          67.6  110.4
#   BYTE_STREAM_SPLIT, DELTA image_ids, zstd 19         60.0  110.1  but 50 times as long to write
#   PLAIN, zstd 1                                       64.3  121.0  <- what every reader knows
# (`python -m benchmarks.parquet_encodings`).
_PARQUET_OPTIONS: dict[str, Any] = {"compression": "zstd", "compression_level": 1}
_LATENT_ENCODINGS = {
    "float": "BYTE_STREAM_SPLIT",
    # BYTE_STREAM_SPLIT would take 10% less, but DuckDB cannot read it for this type.
    "halffloat": "PLAIN",
    # Whole numbers: what every reader can read, and at 8 and at 4 bits also the smallest.
    "uint8": "DICTIONARY",
}


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The model that made latents, as documents record it.

    sha256, decoder_sha256, int8_sha256: of its networks' files. latent_dtype: as it is chosen.
    latent_bytes: of one latent as it is stored. Those with a default are not read again.
    """

    name: str
    sha256: str
    decoder_sha256: str | None
    parameters: Count = 0
    input: tuple[Count, ...] = ()
    engine: str = ""
    precision: str
    int8_sha256: str | None = None
    latent_size: Count
    latent_dtype: str
    latent_bytes: Count
    quantization: Quantization | None

    def __post_init__(self) -> None:
        if self.latent_dtype not in STORED_DTYPES:
            raise ValueError(f"latent_dtype is {self.latent_dtype[:60]!r}")
        scales = None if self.quantization is None else len(self.quantization.scale)
        if scales not in (None, self.latent_size):
            raise ValueError(f"{scales} scales for {self.latent_size} values a latent")

    @property
    def stored_dtype(self) -> str:
        """The NumPy type of the values in the files."""
        return STORED_DTYPES[self.latent_dtype]


class LatentsMetadata(msgspec.Struct, frozen=True):
    """What each file of latents says of itself. dataset: its name."""

    dataset: str
    model: ModelRecord
    encoding: str
    decoding: str


Metadata = LatentsMetadata | Mapping[str, Any]
"""What a file of latents may have in its own metadata, as JSON."""


@dataclass(frozen=True)
class LatentBatch:
    """The latents of an ImageBatch, in order of image_id.

    rows: the rows of the shard that the batch accounts for, rejects among them. image_ids: int64
    (n,). labels: int32 (n,), NO_LABEL where there is none. latents: (n, latent_size), float32 as
    they are encoded; float16 or uint8 once they are as they are stored. sha256: that of the
    ImageBatch as it was read. clipped: uint16 (n,), how many values of each latent were outside the
    calibrated range; None where the latents are not quantized.
    """

    shard: ShardKey
    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    latents: np.ndarray
    sha256: str = ""
    rejects: tuple[Reject, ...] = ()
    sample: Sample = NO_SAMPLE
    clipped: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "LatentBatch":
        """Some of its latents, by position or mask; the batch accounts for the same rows still."""
        parts = {"image_ids": self.image_ids, "labels": self.labels, "latents": self.latents}
        if self.clipped is not None:
            parts["clipped"] = self.clipped
        return replace(self, **{name: part[rows] for name, part in parts.items()})


def latent_schema(latent_size: int, value_type: pa.DataType) -> pa.Schema:
    """The columns of a latents file; a fixed-size list of `latent_size` values an image."""
    return pa.schema(
        [
            pa.field(IMAGE_ID_COLUMN, pa.int64(), nullable=False),
            pa.field(LABEL_COLUMN, LABEL_TYPE),
            pa.field(CHARACTER_COLUMN, pa.string()),
            pa.field(LATENT_COLUMN, pa.list_(pa.field("element", value_type), latent_size)),
        ]
    )


def check_latents_fit(path: str, file: pq.ParquetFile) -> None:
    """Raises ValueError unless a file has the columns of latents, and InputError if too many."""
    schema = file.schema_arrow
    kind = schema.field(LATENT_COLUMN).type
    if not (pa.types.is_fixed_size_list(kind) and str(kind.value_type) in _LATENT_ENCODINGS):
        raise ValueError(f"its latents are {kind}")
    if schema != latent_schema(kind.list_size, kind.value_type):
        raise ValueError(f"its columns are {', '.join(schema.names)}, or of other types")
    check_row_groups(path, file)
    width = kind.list_size * kind.value_type.bit_width // 8
    if file.metadata.num_rows * max(1, width) > MAX_LATENTS_FILE_BYTES:
        raise ValueError(f"says that it has {file.metadata.num_rows:,} rows")


def latent_table(batch: LatentBatch, characters: Mapping[int, str]) -> pa.Table:
    """The rows of a batch in the columns of latent_schema."""
    latents = batch.latents
    schema = latent_schema(latents.shape[1], pa.from_numpy_dtype(latents.dtype))
    return pa.Table.from_arrays(
        [
            pa.array(batch.image_ids),
            label_array(batch.labels),
            pa.array([characters.get(label) for label in batch.labels.tolist()], pa.string()),
            pa.FixedSizeListArray.from_arrays(
                pa.array(latents.reshape(-1)), type=schema.field(LATENT_COLUMN).type
            ),
        ],
        schema=schema,
    )


def open_latents(
    sink: Any, schema: pa.Schema, metadata: Metadata, *, compatible: bool = False
) -> pq.ParquetWriter:
    """A writer of a latents file, with `metadata` as JSON under METADATA_KEY.

    compatible: whether it uses only the encodings that every reader of Parquet knows.
    """
    values = schema.field(LATENT_COLUMN).type.value_type
    writer = pq.ParquetWriter(sink, schema, **_parquet_options(values, compatible=compatible))
    # As metadata of the schema it would be stored twice, the second time in base64.
    described = json.dumps(msgspec.to_builtins(metadata), sort_keys=True)
    writer.add_key_value_metadata({METADATA_KEY: described})
    return writer


def parquet_bytes(table: pa.Table, metadata: Metadata, *, compatible: bool = False) -> bytes:
    """A Parquet file of latents, as open_latents begins it; at most one row group."""
    sink = pa.BufferOutputStream()
    with open_latents(sink, table.schema, metadata, compatible=compatible) as writer:
        if table.num_rows:  # `datasets` cannot read a row group without rows.
            writer.write_table(table, row_group_size=table.num_rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def no_latents(latent_size: int, dtype: str) -> bytes:
    """A Parquet file of latents that has no rows. dtype: the NumPy type of the values."""
    schema = latent_schema(latent_size, pa.from_numpy_dtype(np.dtype(dtype)))
    return parquet_bytes(schema.empty_table(), {})


def _parquet_options(values: pa.DataType, *, compatible: bool) -> dict[str, Any]:
    encoding = _LATENT_ENCODINGS[str(values)]
    leaf = f"{LATENT_COLUMN}.list.element"
    as_dictionary = [LABEL_COLUMN, CHARACTER_COLUMN]
    columns = {IMAGE_ID_COLUMN: "PLAIN" if compatible else "DELTA_BINARY_PACKED"}
    if encoding == "DICTIONARY":
        as_dictionary.append(leaf)
    else:
        columns[leaf] = "PLAIN" if compatible else encoding
    return {**_PARQUET_OPTIONS, "use_dictionary": as_dictionary, "column_encoding": columns}


@dataclass(frozen=True)
class LatentFormat:
    """Latents in the file of a shard. characters: what a label stands for; others: see above."""

    characters: Mapping[int, str]
    metadata: Metadata
    compatible: bool = False
    folder: str = LATENTS_FOLDER
    row_group_rows: int = _ROW_GROUP_ROWS

    def table(self, batch: LatentBatch) -> pa.Table:
        """The rows of a batch, as latent_table has them."""
        return latent_table(batch, self.characters)

    def open(self, sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
        """A writer of the file, as open_latents has it."""
        return open_latents(sink, schema, self.metadata, compatible=self.compatible)

    def content(self, table: pa.Table) -> bytes:
        """The file of a whole shard, as parquet_bytes has it."""
        return parquet_bytes(table, self.metadata, compatible=self.compatible)
