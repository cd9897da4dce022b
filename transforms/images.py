"""Shards of images, wherever they lie, and reading them as batches."""

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from transforms.errors import InputError, first_line
from transforms.files import open_binary, read_bytes

SIDE = 28
PIXELS = SIDE * SIDE
MAX_PIXEL = 255
NO_LABEL = -1
"""Stands in a batch's labels where an image has none; null in Parquet."""
MAX_LABEL = 255

IMAGE_COLUMN = "image"
IMAGE_ID_COLUMN = "image_id"
LABEL_COLUMN = "label"
STAGED_IMAGE_TYPE = pa.binary(PIXELS)

MAX_ENCODED_BYTES = 1 << 20
"""A 28x28 image takes 3 KB at most; what may be big in a PNG or JPEG is what is said beside it."""
MAX_ROW_GROUP_BYTES = 1 << 30
"""Unpacked, all columns: a million images and more, as DuckDB, Polars and Arrow cut them."""

_VALUES_BYTES = 256 << 20
"""Of values that are in memory at once, if each were the largest that there may be."""

# Others would not come through conversion to 8-bit grey as they look: 16 bits, or with alpha.
_MODES = ("1", "L", "P", "RGB")

# Of damaged metadata, or of a size to beware of: what matters becomes a reject.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Segment(NamedTuple):
    """Rows that lie together in one file: all or part of a shard.

    A file is `raw` (uint8 images of 784 bytes one after the other, from byte `offset` on, their
    labels given here, a uint8 a row) or Parquet (`parquet`: the columns say which layout).
    sha256: of the whole of a Parquet file, where it is known, in hex: it is then checked before any
    of it is used.
    """

    path: str
    format: str
    rows: int
    first_row: int
    first_image_id: int
    transposed: bool = False
    offset: int = 0
    labels: bytes | None = None
    image_column: str = IMAGE_COLUMN
    label_column: str | None = None
    sha256: str | None = None


class ShardKey(NamedTuple):
    """Which shard of which split, and how many rows it has; one shard becomes one output file."""

    split: str
    number: int
    of: int
    rows: int

    @property
    def name(self) -> str:
        """The path of the shard's file, without an ending, below whatever holds the splits."""
        return f"split={self.split}/part-{self.number:05d}-of-{self.of:05d}"


class Shard(NamedTuple):
    """A fixed, contiguous range of image_ids of a split: the unit of parallel work."""

    key: ShardKey
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class ImageBatch:
    """Images that go through the encoder in one call; all of one shard, in order of image_id.

    image_ids: int64 (n,). labels: int16 (n,), NO_LABEL where there is none. pixels: uint8 (n, 784)
    as read, row-major and upright; later float32, later (n, 28, 28, 1). rows: how many rows of
    the shard this batch accounts for, which is n and the rows rejected on the way. sha256: of
    what was read, by with_sha256; empty where nobody asked.
    """

    shard: ShardKey
    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "ImageBatch":
        """Some of its images, by position or mask, as a batch of their own."""
        parts = (self.image_ids[rows], self.labels[rows], self.pixels[rows])
        return ImageBatch(self.shard, len(parts[0]), *parts)


def with_sha256(batch: ImageBatch) -> ImageBatch:
    """A batch with the SHA-256 of its image_ids, labels and pixels, little-endian, in hex."""
    digest = sha256(batch.image_ids.astype("<i8").data)
    digest.update(batch.labels.astype("<i2").data)
    digest.update(np.ascontiguousarray(batch.pixels).data)
    return replace(batch, sha256=digest.hexdigest())


class Reject(NamedTuple):
    """An image that could not be read: where it is, and why."""

    split: str
    image_id: int
    path: str
    row: int
    reason: str


class _Chunk(NamedTuple):
    """Consecutive rows of a segment: what was read of them, and what was rejected."""

    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    rejects: tuple[Reject, ...] = ()


def read_shard(shard: Shard, batch_size: int) -> Iterator[tuple[ImageBatch, tuple[Reject, ...]]]:
    """Reads a shard as batches of at most `batch_size` rows, each with the rejects among them.

    Batches are full but for the last of each segment (and the first of a Parquet segment that
    begins within a batch). Raises InputError where a file is not what it was when the shard was
    planned.
    """
    last = -1
    for segment in shard.segments:
        for chunk in _read_segment(segment, shard.key.split, batch_size):
            last = _last_rising(chunk.image_ids, last, segment.path)
            yield (
                ImageBatch(shard.key, chunk.rows, chunk.image_ids, chunk.labels, chunk.pixels),
                chunk.rejects,
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


def _read_segment(segment: Segment, split: str, batch_size: int) -> Iterator[_Chunk]:
    if segment.format == "raw":
        chunks = _read_raw(segment, batch_size)
    else:
        chunks = _read_parquet(segment, split, batch_size)
    try:
        for chunk in chunks:
            yield chunk._replace(pixels=upright(chunk.pixels)) if segment.transposed else chunk
    except (pa.ArrowException, OSError, KeyError, ValueError, MemoryError) as error:
        raise InputError(
            f"{segment.path}: gone or damaged since the job was planned ({first_line(error)}): "
            "put it back, or stage it again, and run it again"
        ) from error


def label_array(labels: np.ndarray) -> pa.Array:
    """Labels int16 (n,) as Parquet has them: uint8, null for NO_LABEL."""
    missing = labels == NO_LABEL
    return pa.array(np.where(missing, 0, labels).astype(np.uint8), mask=missing)


def upright(pixels: np.ndarray) -> np.ndarray:
    """Turns images stored column by column upright: uint8 (n, 784) to uint8 (n, 784)."""
    return pixels.reshape(-1, SIDE, SIDE).transpose(0, 2, 1).reshape(-1, PIXELS)


def _read_raw(segment: Segment, batch_size: int) -> Iterator[_Chunk]:
    with open_binary(segment.path) as file:
        file.seek(segment.offset + segment.first_row * PIXELS)
        for start in range(0, segment.rows, batch_size):
            count = min(batch_size, segment.rows - start)
            content = file.read(count * PIXELS)
            if len(content) != count * PIXELS:
                raise InputError(
                    f"{segment.path}: shorter than it was when the job was planned; "
                    "leave the input as it is while the job runs, then run it again"
                )
            first = segment.first_image_id + start
            yield _Chunk(
                count,
                np.arange(first, first + count, dtype=np.int64),
                _raw_labels(segment.labels, start, count),
                np.frombuffer(content, np.uint8).reshape(count, PIXELS),
            )


def _raw_labels(labels: bytes | None, start: int, count: int) -> np.ndarray:
    if labels is None:
        return np.full(count, NO_LABEL, np.int16)
    return np.frombuffer(labels, np.uint8, count, start).astype(np.int16)


def _read_parquet(segment: Segment, split: str, batch_size: int) -> Iterator[_Chunk]:
    with _open_parquet(segment) as file:
        rows = _parquet_rows(pq.ParquetFile(file), segment, batch_size)
        yield from _joined(
            (_parquet_chunk(batch, row, segment, split) for row, batch in rows), batch_size
        )


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


def check_row_groups(path: str, file: pq.ParquetFile) -> None:
    """Raises InputError where the metadata of a Parquet file promise more than may be unpacked.

    What they say of a column is not asked for: where that is damaged, Arrow ends the process.
    """
    metadata = file.metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    for number, group in enumerate(groups):
        if not 0 <= group.total_byte_size <= MAX_ROW_GROUP_BYTES:
            raise InputError(
                f"{path}: row group {number} takes {group.total_byte_size:,} bytes unpacked, and "
                f"{MAX_ROW_GROUP_BYTES:,} are the most that is read: write it in smaller row groups"
            )
        if group.num_rows < 0:
            raise InputError(
                f"{path}: row group {number} says that it has {group.num_rows:,} rows: fetch it "
                "again"
            )
    rows = sum(group.num_rows for group in groups)
    if rows != metadata.num_rows:
        raise InputError(
            f"{path}: says that it has {metadata.num_rows:,} rows, and its row groups {rows:,}: "
            "fetch it again"
        )


def _open_parquet(segment: Segment) -> BinaryIO:
    """A Parquet file; in memory where its checksum is known, so that what was checked is read."""
    if segment.sha256 is None:
        return open_binary(segment.path)
    content = read_bytes(segment.path)
    if sha256(content).hexdigest() != segment.sha256:
        raise InputError(
            f"{segment.path}: is not what was staged (its SHA-256 is another): it was altered; "
            "remove the staged dataset to have it staged again"
        )
    return io.BytesIO(content)


def _parquet_rows(
    file: pq.ParquetFile, segment: Segment, batch_size: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The segment's rows, each batch with the number of its first row within the file."""
    end = segment.first_row + segment.rows
    groups, skipped, row = [], 0, 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row + rows <= segment.first_row:
            skipped += rows
        elif row < end:
            groups.append(group)
        row += rows
    if row < end:
        raise InputError(
            f"{segment.path}: has fewer rows than when the job was planned; "
            "leave the input as it is while the job runs, then run it again"
        )
    columns = _columns_read(file, segment)
    check_row_groups(segment.path, file)
    rows_at_once = _rows_at_once(file, groups, columns, batch_size)
    row = skipped
    for batch in file.iter_batches(rows_at_once, row_groups=groups, columns=columns):
        first, last = max(segment.first_row, row), min(end, row + batch.num_rows)
        if first < last:
            yield first, batch.slice(first - row, last - first)
        row += batch.num_rows
        if row >= end:
            return
    if row < end:
        raise InputError(f"{segment.path}: holds fewer rows than its metadata say: fetch it again")


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
    if segment.label_column is None:
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


def decode_image(content: bytes) -> np.ndarray:
    """One 28x28 image from the bytes of a PNG or JPEG: uint8 (784,), upright as it is stored.

    Colours become grey. Raises InputError, which says what is wrong with it.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.size != (SIDE, SIDE):
                raise InputError(f"is {image.width}x{image.height}, not {SIDE}x{SIDE}")
            if image.mode not in _MODES:
                raise InputError(f"is of mode {image.mode}; read are {', '.join(_MODES)}")
            return np.asarray(image.convert("L")).reshape(PIXELS)
    except InputError:
        raise
    except UnidentifiedImageError as error:  # Its text has an address in it.
        raise InputError("is neither PNG nor JPEG") from error
    except Exception as error:  # Pillow raises many kinds for bytes that are no image.
        raise InputError(f"is no PNG or JPEG that can be read ({first_line(error)})") from error


def too_many_rejects(rejects: list[Reject], max_rejects: int) -> str:
    """What to tell the user when more images are bad than are borne."""
    first = rejects[0]
    count = len(rejects)
    return (
        f"{count} image{'s' * (count > 1)} could not be read and --max_rejects={max_rejects}; "
        f"the first is {first.path} row {first.row}: {first.reason}; "
        "mend the input, or bear more with --max_rejects"
    )
