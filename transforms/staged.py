"""Staged images: the Parquet columns that this project keeps images in."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.images import (
    IMAGE_COLUMN,
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    LABEL_TYPE,
    PIXELS,
    STAGED_IMAGE_TYPE,
    label_array,
)

STAGED_METADATA_KEY = b"emnist_images"
"""Where staged Parquet holds its dataset's name and characters, as JSON."""

_ROWS_AT_ONCE = 1024
_SCHEMA = pa.schema(
    [
        pa.field(IMAGE_ID_COLUMN, pa.int64(), nullable=False),
        pa.field(LABEL_COLUMN, LABEL_TYPE),
        pa.field(IMAGE_COLUMN, STAGED_IMAGE_TYPE, nullable=False),
    ]
)


def staged_table(image_ids: np.ndarray, labels: np.ndarray, images: np.ndarray) -> pa.Table:
    """image_ids: int64 (n,). labels: (n,), NO_LABEL where there is none. images: uint8, upright."""
    pixels = pa.py_buffer(np.ascontiguousarray(images).tobytes())
    return pa.Table.from_arrays(
        [
            pa.array(image_ids, pa.int64()),
            label_array(labels),
            pa.Array.from_buffers(STAGED_IMAGE_TYPE, len(image_ids), [None, pixels]),
        ],
        schema=_SCHEMA,
    )


def open_staged(sink: Any, schema: pa.Schema, characters: Mapping[int, str]) -> pq.ParquetWriter:
    """A writer of staged images. characters: what a label stands for."""
    described = {STAGED_METADATA_KEY: json.dumps({"characters": dict(characters)})}
    return pq.ParquetWriter(
        sink,
        schema.with_metadata(described),
        compression="zstd",
        use_dictionary=[LABEL_COLUMN],
        column_encoding={IMAGE_ID_COLUMN: "DELTA_BINARY_PACKED"},
    )


def staged_bytes(table: pa.Table, characters: Mapping[int, str], row_group_rows: int) -> bytes:
    """A Parquet file of staged images, as open_staged begins it."""
    sink = pa.BufferOutputStream()
    with open_staged(sink, table.schema, characters) as writer:
        writer.write_table(table, row_group_size=row_group_rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def no_images() -> bytes:
    """A Parquet file of staged images that has no rows."""
    return staged_bytes(_SCHEMA.empty_table(), {}, row_group_rows=1)


def staged_pixels(file: BinaryIO, image_ids: np.ndarray) -> np.ndarray:
    """Some images, in order of image_id, of a file of staged images: uint8 (n, 784).

    Only the row groups that may hold them are read, a batch at a time.
    """
    found = []
    with pq.ParquetFile(file) as parquet:
        groups = [
            number
            for number in range(parquet.num_row_groups)
            if _may_hold(parquet.metadata.row_group(number).column(0).statistics, image_ids)
        ]
        columns = [IMAGE_ID_COLUMN, IMAGE_COLUMN]
        for batch in parquet.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=columns):
            chosen = np.isin(batch.column(IMAGE_ID_COLUMN).to_numpy(), image_ids)
            found += batch.column(IMAGE_COLUMN).filter(pa.array(chosen)).to_pylist()
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, PIXELS)


def _may_hold(ids: pq.Statistics, image_ids: np.ndarray) -> bool:
    return bool(((image_ids >= ids.min) & (image_ids <= ids.max)).any())
