"""Reads Parquet: row groups in order, each once, in memory that batches bound."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import InputError
from transforms.images import (
    IMAGE_COLUMN,
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    STAGED_IMAGE_TYPE,
    Segment,
    check_row_groups,
)
from transforms.inputs.parts import RangeFile
from transforms.inputs.readers.columns import image_rows, label_numbers
from transforms.inputs.readers.row_groups import read_metadata, record_batches, row_group_rows
from transforms.inputs.readers.rows import Rows, found_of
from transforms.storage.files import read_bytes

PARQUET = "parquet"
"""The format of a segment that this module reads."""

_VALUES_BYTES = 256 << 20
"""Of values that are in memory at once, if each were the largest that there may be."""
_LITTLE = 4
"""A segment that takes no more than one in so many rows of its row groups is read by pages."""


class ParquetLayout(NamedTuple):
    """Which columns hold what.

    images: the column of images, or one for each pixel. label: None for no labels. classes: what
    labels that are text are numbers of, in order; none where they are numbers as text. start,
    bytes: where in the file the Parquet file is, where it is within another one.
    """

    images: tuple[str, ...] = (IMAGE_COLUMN,)
    label: str | None = LABEL_COLUMN
    classes: tuple[str, ...] = ()
    start: int = 0
    bytes: int | None = None


def read(segment: Segment, batch_size: int) -> Iterator[Rows]:
    """The rows of a segment in order, no more than `batch_size` at once."""
    layout = segment.layout or ParquetLayout()
    for row, batch in _batches(segment, layout, batch_size):
        start, stop = max(0, segment.first_row - row), min(batch.num_rows, segment.end - row)
        if start < stop:
            yield _rows(batch.slice(start, stop - start), segment, layout)


def _batches(
    segment: Segment, layout: ParquetLayout, batch_size: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Row groups from the segment's first row to its end, as (number of the first row, batch)."""
    file = _open(segment, layout)
    metadata = read_metadata(file) if isinstance(file, RangeFile) else pq.read_metadata(file)
    groups, first, row, end = [], 0, 0, 0
    for group, rows in enumerate(row_group_rows(metadata)):
        if row + rows <= segment.first_row:
            first += rows
        elif row < segment.end:
            groups.append(group)
            end = row + rows
        row += rows
    if row < segment.end:
        raise InputError(
            f"{segment.name}: has fewer rows than when the job was planned; "
            "leave the input as it is while the job runs, then run it again"
        )
    parquet = pq.ParquetFile(file, metadata=metadata)
    check_row_groups(segment.name, parquet)
    columns = _columns_read(parquet, layout)
    row = first
    at_once = _rows_at_once(parquet, groups, columns, batch_size)
    is_little = _LITTLE * (segment.end - first) <= end - first
    for batch in record_batches(file, metadata, groups, columns, at_once, first_rows=is_little):
        yield row, batch
        row += batch.num_rows
        if row >= segment.end:
            return
    raise InputError(f"{segment.name}: holds fewer rows than its metadata say: fetch it again")


def _open(segment: Segment, layout: ParquetLayout) -> Any:
    """A Parquet file; in memory where its checksum is known, so that what was checked is read."""
    if segment.sha256 is None:
        return RangeFile(found_of(segment), layout.start, layout.bytes)
    content = read_bytes(segment.path)
    if sha256(content).hexdigest() != segment.sha256:
        raise InputError(
            f"{segment.path}: is not what was staged (its SHA-256 is another): it was altered; "
            "remove the staged dataset to have it staged again"
        )
    return pa.BufferReader(content)


def _columns_read(file: pq.ParquetFile, layout: ParquetLayout) -> list[str]:
    """The columns that there are and that are needed; of Hugging Face's struct, its bytes."""
    schema = file.schema_arrow
    wanted = (*layout.images, IMAGE_ID_COLUMN, layout.label)
    return [
        f"{field.name}.bytes" if pa.types.is_struct(field.type) else field.name
        for field in schema
        if field.name in wanted
    ]


def _rows_at_once(
    file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str], batch_size: int
) -> int:
    """As many as can be in memory, though each has the largest value that there may be.

    A value that is stored once, for all rows to refer to, is there once for each when it is read.
    """
    schema = file.schema_arrow
    whole = [schema.field(name) for name in columns if name in schema.names]
    if len(whole) == len(columns) and not any(pa.types.is_binary(field.type) for field in whole):
        return batch_size
    largest: int = max([1, *(file.metadata.row_group(group).total_byte_size for group in groups)])
    return min(batch_size, max(1, _VALUES_BYTES // largest))


def _rows(batch: pa.RecordBatch, segment: Segment, layout: ParquetLayout) -> Rows:
    rows = image_rows(
        segment.name, [batch.column(name) for name in layout.images], segment.scale, fit=segment.fit
    )
    return Rows(
        rows.count,
        rows.pixels,
        _labels(batch, segment, layout),
        _image_ids(batch, segment, layout),
        rows.reasons,
    )


def _labels(batch: pa.RecordBatch, segment: Segment, layout: ParquetLayout) -> np.ndarray | None:
    if layout.label is None or (
        layout.label == LABEL_COLUMN and layout.label not in batch.schema.names
    ):
        return None
    return label_numbers(segment.name, layout.label, batch.column(layout.label), layout.classes)


def _image_ids(batch: pa.RecordBatch, segment: Segment, layout: ParquetLayout) -> np.ndarray | None:
    is_staged = batch.schema.field(layout.images[0]).type == STAGED_IMAGE_TYPE
    if not (is_staged and IMAGE_ID_COLUMN in batch.schema.names):
        return None
    column = batch.column(IMAGE_ID_COLUMN)
    if column.null_count:
        raise InputError(f"{segment.name}: a row has no image_id: give each row one of its own")
    image_ids: np.ndarray = column.cast(pa.int64()).to_numpy()
    return image_ids
