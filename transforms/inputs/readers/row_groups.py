"""Parquet files read in parts: the footer, and row groups."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.inputs.parts import TAIL_SHARE, RangeFile, looked_at

MAGIC = b"PAR1"

_TRAILER_BYTES = 8
"""At the end of a file: the length of the footer, and MAGIC."""
_WINDOW_BYTES = 32 << 20
"""Row groups that take no more, unpacked, are read by one request."""
_BLOCK_BYTES = 4 << 20
"""A larger row group is read by so much of a column at a time."""
_LITTLE_BYTES = 64 << 10
"""The same where only the first rows are wanted, which one page of each column has."""


def footer_bytes(size: int, metadata: pq.FileMetaData) -> int:
    """How many bytes read_metadata reads of a file."""
    footer: int = metadata.serialized_size + _TRAILER_BYTES
    return max(looked_at(size, TAIL_SHARE), footer)


def read_metadata(file: RangeFile) -> pq.FileMetaData:
    """The metadata of a Parquet file. Raises ValueError, or Arrow's errors, where it has none."""
    start = file.size - looked_at(file.size, TAIL_SHARE)
    tail = file.range(start, file.size)
    length = int.from_bytes(tail[-_TRAILER_BYTES : -len(MAGIC)], "little") + _TRAILER_BYTES
    if not tail.endswith(MAGIC) or length > file.size:
        raise ValueError("it does not end as a Parquet file does")
    if length > len(tail):
        start = file.size - length
        tail = file.range(start, file.size - len(tail)) + tail
    file.know(start, tail)
    return pq.read_metadata(pa.BufferReader(tail[-length:]))


def row_group_rows(metadata: pq.FileMetaData) -> list[int]:
    """The rows of each row group."""
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def record_batches(
    file: Any,
    metadata: pq.FileMetaData,
    groups: Sequence[int],
    columns: Sequence[str],
    batch_size: int,
    *,
    first_rows: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Some row groups in order, as batches; memory is bounded whatever their size.

    file: a RangeFile, or what Arrow can read from. first_rows: whether only the first are wanted.
    """
    block = _LITTLE_BYTES if first_rows else _BLOCK_BYTES
    sizes = [(group, metadata.row_group(group).total_byte_size) for group in groups]
    for window in _windows(sizes):
        small = not first_rows and sum(size for _, size in window) <= _WINDOW_BYTES
        parquet = pq.ParquetFile(
            file, metadata=metadata, pre_buffer=small, buffer_size=0 if small else block
        )
        yield from parquet.iter_batches(
            batch_size, row_groups=[group for group, _ in window], columns=columns
        )


def _windows(sizes: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """(row group, bytes) put together up to _WINDOW_BYTES; a larger one is alone."""
    window: list[tuple[int, int]] = []
    total = 0
    for group, size in sizes:
        if window and total + size > _WINDOW_BYTES:
            yield window
            window, total = [], 0
        window.append((group, size))
        total += size
    if window:
        yield window
