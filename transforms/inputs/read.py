"""Reading shards of images as batches: each byte of a file once, in order."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.errors import ChangedError, InputError, first_line
from transforms.images import (
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    MAX_ENCODED_BYTES,
    MAX_LABEL,
    NO_LABEL,
    PIXELS,
    STAGED_IMAGE_TYPE,
    ImageBatch,
    ImageDigest,
    Reject,
    Segment,
    Shard,
    Stretch,
    check_row_groups,
    decode_image,
    upright,
)
from transforms.inputs.parquet import read_metadata, record_batches, row_group_rows
from transforms.inputs.parts import RangeFile, changed, check_unchanged
from transforms.storage.files import FoundFile, find_files, read_bytes, read_range

_BLOCK_BYTES = 4 << 20
"""What is read of a raw file at once, unless a batch is larger."""
_VALUES_BYTES = 256 << 20
"""Of values that are in memory at once, if each were the largest that there may be."""


class _Piece(NamedTuple):
    """A segment of a shard. shard: its position within the stretch."""

    shard: int
    segment: Segment

    @property
    def end(self) -> int:
        """The row after the last one."""
        return self.segment.first_row + self.segment.rows


class _Chunk(NamedTuple):
    """Consecutive rows of a segment: what was read of them, and what was rejected."""

    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    rejects: tuple[Reject, ...] = ()


class _Read(NamedTuple):
    """A chunk, and where it belongs: the shard's position within the stretch, and the file."""

    shard: int
    path: str
    chunk: _Chunk


def read_shard(shard: Shard, batch_size: int) -> Iterator[tuple[ImageBatch, tuple[Reject, ...]]]:
    """Reads one shard, as read_stretch does."""
    return read_stretch(Stretch((shard,)), batch_size)


def read_stretch(
    stretch: Stretch, batch_size: int
) -> Iterator[tuple[ImageBatch, tuple[Reject, ...]]]:
    """Reads shards as batches of at most `batch_size` rows, each with the rejects among them.

    No batch holds images of two shards. The last one of a shard has the SHA-256 of the shard's
    images. Batches are full but for the last of each segment and of each row group. What shards
    share of a row group is read once where they follow each other; any others may be left out.

    Raises InputError where a shard has not as many rows as its key says, and where a file is not
    what it was when the shard was planned.
    """
    for shard in stretch.shards:
        _check_rows(shard, sum(segment.rows for segment in shard.segments))
    last = -1
    for position, parts in groupby(_chunks(stretch, batch_size), key=itemgetter(0)):
        shard = stretch.shards[position]
        rows, digest = 0, ImageDigest()
        for _, path, chunk in parts:
            last = _last_rising(chunk.image_ids, last, path)
            rows += chunk.rows
            digest.update(chunk.image_ids, chunk.labels, chunk.pixels)
            done = digest.hexdigest() if rows == shard.key.rows else ""
            yield ImageBatch(shard.key, *chunk[:-1], done, chunk.rejects), chunk.rejects
        _check_rows(shard, rows)


def _check_rows(shard: Shard, rows: int) -> None:
    if rows != shard.key.rows:
        raise InputError(
            f"shard {shard.key.name}: its segments have {rows:,} rows and its key says "
            f"{shard.key.rows:,}: correct the shard, or have transforms.stretches_of make it"
        )


def _last_rising(image_ids: np.ndarray, last: int, path: str) -> int:
    """The last of image_ids that rise from `last` on; raises InputError where they do not."""
    if not len(image_ids):
        return last
    steps = np.diff(image_ids, prepend=last)
    if (steps <= 0).any():
        position = int(np.flatnonzero(steps <= 0)[0])
        before = image_ids[position - 1] if position else last
        raise InputError(
            f"{path}: image_id {image_ids[position]} follows image_id {before}: image_ids must "
            "rise from row to row, each there once"
        )
    return int(image_ids[-1])


def _chunks(stretch: Stretch, batch_size: int) -> Iterator[_Read]:
    for run in _runs(stretch):
        segment = run[0].segment
        split = stretch.shards[run[0].shard].key.split
        read = _read_raw if segment.format == "raw" else _read_parquet
        try:
            for shard, chunk in read(run, split, batch_size):
                if segment.transposed:
                    chunk = chunk._replace(pixels=upright(chunk.pixels))  # noqa: PLW2901
                yield _Read(shard, segment.path, chunk)
            check_unchanged(segment)
        except ChangedError as error:
            raise changed(segment.path) from error
        except (pa.ArrowException, OSError, KeyError, ValueError, MemoryError) as error:
            raise InputError(
                f"{segment.path}: gone or damaged since the job was planned ({first_line(error)}): "
                "put it back, or stage it again, and run it again"
            ) from error


def _runs(stretch: Stretch) -> Iterator[list[_Piece]]:
    """The segments of all shards, those together that follow each other in a Parquet file."""
    run: list[_Piece] = []
    for position, shard in enumerate(stretch.shards):
        for segment in filter(lambda segment: segment.rows, shard.segments):
            if run and not _follows(segment, run[-1]):
                yield run
                run = []
            run.append(_Piece(position, segment))
    if run:
        yield run


def _follows(segment: Segment, before: _Piece) -> bool:
    same_file = segment.path == before.segment.path and segment.format != "raw"
    return same_file and segment.first_row == before.end


def _found(segment: Segment) -> FoundFile:
    """The segment's file as it was when the shard was planned, or as it is if nobody looked."""
    found = segment.found or next(iter(find_files(segment.path)), None)
    if found is None:
        raise FileNotFoundError("there is no such file")
    return found


def _read_raw(run: Sequence[_Piece], _split: str, batch_size: int) -> Iterator[tuple[int, _Chunk]]:
    ((shard, segment),) = run
    found = _found(segment)
    begin = segment.offset + segment.first_row * PIXELS
    at_once = batch_size * max(1, _BLOCK_BYTES // (batch_size * PIXELS))
    for block in range(0, segment.rows, at_once):
        rows = min(at_once, segment.rows - block)
        content = read_range(found, begin + block * PIXELS, begin + (block + rows) * PIXELS)
        if len(content) != rows * PIXELS:
            raise InputError(
                f"{segment.path}: shorter than it was when the job was planned; "
                "leave the input as it is while the job runs, then run it again"
            )
        pixels = np.frombuffer(content, np.uint8).reshape(rows, PIXELS)
        for start in range(0, rows, batch_size):
            count = min(batch_size, rows - start)
            yield shard, _raw_chunk(segment, block + start, pixels[start : start + count])


def _raw_chunk(segment: Segment, start: int, pixels: np.ndarray) -> _Chunk:
    count, first = len(pixels), segment.first_image_id + start
    labels = np.full(count, NO_LABEL, np.int16)
    if segment.labels is not None:
        labels[:] = np.frombuffer(segment.labels, np.uint8, count, start)
    return _Chunk(count, np.arange(first, first + count, dtype=np.int64), labels, pixels)


def _read_parquet(
    run: Sequence[_Piece], split: str, batch_size: int
) -> Iterator[tuple[int, _Chunk]]:
    segment = run[0].segment
    file = _parquet_file(segment)
    rows = _parquet_rows(file, segment, run[-1].end, batch_size)
    for shard, parts in groupby(_cut(rows, run), key=itemgetter(0)):
        chunks = (_parquet_chunk(batch, row, segment, split) for _, row, batch in parts)
        yield from ((shard, chunk) for chunk in _joined(chunks, batch_size))


def _parquet_file(segment: Segment) -> Any:
    """A Parquet file; in memory where its checksum is known, so that what was checked is read."""
    if segment.sha256 is None:
        return RangeFile(_found(segment))
    content = read_bytes(segment.path)
    if sha256(content).hexdigest() != segment.sha256:
        raise InputError(
            f"{segment.path}: is not what was staged (its SHA-256 is another): it was altered; "
            "remove the staged dataset to have it staged again"
        )
    return pa.BufferReader(content)


def _parquet_rows(
    file: Any, segment: Segment, end: int, batch_size: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Row groups from the segment's first row to `end`, as (number of the first row, batch)."""
    metadata = read_metadata(file) if isinstance(file, RangeFile) else pq.read_metadata(file)
    groups, first, row = [], 0, 0
    for group, rows in enumerate(row_group_rows(metadata)):
        if row + rows <= segment.first_row:
            first += rows
        elif row < end:
            groups.append(group)
        row += rows
    if row < end:
        raise InputError(
            f"{segment.path}: has fewer rows than when the job was planned; "
            "leave the input as it is while the job runs, then run it again"
        )
    parquet = pq.ParquetFile(file, metadata=metadata)
    check_row_groups(segment.path, parquet)
    columns = _columns_read(parquet, segment)
    row = first
    at_once = _rows_at_once(parquet, groups, columns, batch_size)
    for batch in record_batches(file, metadata, groups, columns, at_once):
        yield row, batch
        row += batch.num_rows
        if row >= end:
            return
    raise InputError(f"{segment.path}: holds fewer rows than its metadata say: fetch it again")


def _cut(
    rows: Iterable[tuple[int, pa.RecordBatch]], run: Sequence[_Piece]
) -> Iterator[tuple[int, int, pa.RecordBatch]]:
    """The rows by the pieces that they belong to: (shard, number of the first row, batch)."""
    pieces = deque(run)
    for row, batch in rows:
        while pieces and pieces[0].segment.first_row < row + batch.num_rows:
            start, end = max(row, pieces[0].segment.first_row), min(row + len(batch), pieces[0].end)
            if start < end:
                yield pieces[0].shard, start, batch.slice(start - row, end - start)
            if pieces[0].end > row + len(batch):
                break
            pieces.popleft()


def _joined(chunks: Iterator[_Chunk], batch_size: int) -> Iterator[_Chunk]:
    """The chunks, small ones put together as long as they have no more rows than a batch."""
    waiting: list[_Chunk] = []
    for chunk in chunks:
        rows = sum(each.rows for each in waiting)
        if rows and rows + chunk.rows > batch_size:
            yield _one(waiting)
            waiting, rows = [], 0
        waiting.append(chunk)
        if rows + chunk.rows == batch_size:  # Nobody has to wait for the next one.
            yield _one(waiting)
            waiting = []
    if waiting:
        yield _one(waiting)


def _one(chunks: Sequence[_Chunk]) -> _Chunk:
    if len(chunks) == 1:
        return chunks[0]
    return _Chunk(
        sum(chunk.rows for chunk in chunks),
        np.concatenate([chunk.image_ids for chunk in chunks]),
        np.concatenate([chunk.labels for chunk in chunks]),
        np.concatenate([chunk.pixels for chunk in chunks]),
        tuple(reject for chunk in chunks for reject in chunk.rejects),
    )


def _columns_read(file: pq.ParquetFile, segment: Segment) -> list[str]:
    """The columns of a segment that there are and that are needed, by their paths."""
    images = segment.image_column
    wanted = {images, f"{images}.bytes", IMAGE_ID_COLUMN, segment.label_column}
    paths = [file.schema.column(position).path for position in range(len(file.schema))]
    return [path for path in paths if path in wanted]


def _rows_at_once(
    file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str], batch_size: int
) -> int:
    """As many as can be in memory, though each has the largest value that there may be.

    A value that is stored once, for all rows to refer to, is there once for each when it is read.
    """
    if all(path in file.schema_arrow.names for path in columns):  # None lies within another.
        return batch_size
    largest: int = max([1, *(file.metadata.row_group(group).total_byte_size for group in groups)])
    return min(batch_size, max(1, _VALUES_BYTES // largest))


def _parquet_chunk(batch: pa.RecordBatch, row: int, segment: Segment, split: str) -> _Chunk:
    images = batch.column(segment.image_column)
    image_ids = _parquet_image_ids(batch, row, segment)
    labels = _parquet_labels(batch, segment)
    if images.type == STAGED_IMAGE_TYPE and images.null_count == 0:
        pixels = np.frombuffer(
            images.buffers()[1], np.uint8, len(images) * PIXELS, images.offset * PIXELS
        )
        return _Chunk(len(images), image_ids, labels, pixels.reshape(-1, PIXELS))
    return _decoded_chunk(images, image_ids, labels, row, segment.path, split)


def _parquet_image_ids(batch: pa.RecordBatch, row: int, segment: Segment) -> np.ndarray:
    first = segment.first_image_id + row - segment.first_row
    expected = np.arange(first, first + batch.num_rows, dtype=np.int64)
    is_staged = batch.schema.field(segment.image_column).type == STAGED_IMAGE_TYPE
    if not (is_staged and IMAGE_ID_COLUMN in batch.schema.names):
        return expected
    column = batch.column(IMAGE_ID_COLUMN)
    if column.null_count:
        raise InputError(f"{segment.path}: a row has no image_id: give each row one of its own")
    image_ids: np.ndarray = column.cast(pa.int64()).to_numpy()
    return image_ids


def _parquet_labels(batch: pa.RecordBatch, segment: Segment) -> np.ndarray:
    name = segment.label_column
    if name is None or (name == LABEL_COLUMN and name not in batch.schema.names):
        return np.full(batch.num_rows, NO_LABEL, np.int16)
    column = batch.column(segment.label_column).cast(pa.int64()).fill_null(NO_LABEL)
    values: np.ndarray = column.to_numpy()
    wrong = values[(values < NO_LABEL) | (values > MAX_LABEL)]
    if len(wrong):
        raise InputError(
            f"{segment.path}: column {segment.label_column!r} holds {wrong[0]}; "
            f"labels are whole numbers from 0 to {MAX_LABEL} (null or -1: none)"
        )
    return values.astype(np.int16)


def _decoded_chunk(
    images: pa.Array, image_ids: np.ndarray, labels: np.ndarray, row: int, path: str, split: str
) -> _Chunk:
    kept, pixels, rejects = [], [], []
    for position, content in enumerate(_contents(images)):
        try:
            pixels.append(_pixels_of(content, images.type))
            kept.append(position)
        except InputError as error:
            image_id = int(image_ids[position])
            rejects.append(Reject(split, image_id, path, row + position, str(error)))
    return _Chunk(
        len(images),
        image_ids[kept],
        labels[kept],
        np.array(pixels, np.uint8).reshape(-1, PIXELS),
        tuple(rejects),
    )


def _contents(images: pa.Array) -> pa.Array:
    """What holds the bytes of each image: the column, or `bytes` of Hugging Face's struct."""
    return pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images


def _pixels_of(content: pa.Scalar, column_type: pa.DataType) -> np.ndarray:
    """An image of a row: bare pixels where it was staged, PNG or JPEG in Hugging Face's struct."""
    if not content.is_valid:
        raise InputError("there are no bytes")
    buffer = content.as_buffer()
    if column_type == STAGED_IMAGE_TYPE:
        return np.frombuffer(buffer, np.uint8)
    if buffer.size > MAX_ENCODED_BYTES:
        raise InputError(f"takes {buffer.size:,} bytes, and {MAX_ENCODED_BYTES:,} are the most")
    return decode_image(buffer.to_pybytes())
