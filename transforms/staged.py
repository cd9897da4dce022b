"""Staged images: the Parquet columns that this project keeps images in."""

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.images import (
    IMAGE_COLUMN,
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    STAGED_IMAGE_TYPE,
    label_array,
)

STAGED_METADATA_KEY = b"emnist_images"
"""Where staged Parquet holds its dataset's name and characters, as JSON."""

_SCHEMA = pa.schema(
    [
        pa.field(IMAGE_ID_COLUMN, pa.int64(), nullable=False),
        pa.field(LABEL_COLUMN, pa.uint8()),
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


def staged_bytes(table: pa.Table, characters: Mapping[int, str], row_group_rows: int) -> bytes:
    """A Parquet file of staged images. characters: what a label stands for."""
    described = table.replace_schema_metadata(
        {STAGED_METADATA_KEY: json.dumps({"characters": dict(characters)})}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(
        described,
        sink,
        row_group_size=row_group_rows,
        compression="zstd",
        use_dictionary=[LABEL_COLUMN],
        column_encoding={IMAGE_ID_COLUMN: "DELTA_BINARY_PACKED"},
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def staged_pixels(content: bytes, image_ids: np.ndarray) -> np.ndarray:
    """Some images, by image_id, of a file of staged images that holds them: uint8 (n, 784)."""
    table = pq.read_table(pa.BufferReader(content), columns=[IMAGE_ID_COLUMN, IMAGE_COLUMN])
    rows = np.searchsorted(table.column(IMAGE_ID_COLUMN).to_numpy(), image_ids)
    images = table.column(IMAGE_COLUMN).take(pa.array(rows)).to_pylist()
    return np.stack([np.frombuffer(image, np.uint8) for image in images])
