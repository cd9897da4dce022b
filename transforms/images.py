"""Images: shards of them, batches of them, and one of them."""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Meta

from transforms.errors import InputError
from transforms.json_documents import Count
from transforms.storage.files import FoundFile

SIDE = 28
PIXELS = SIDE * SIDE
MAX_PIXEL = 255
NO_LABEL = -1
"""Stands in a batch's labels where an image has none; null in Parquet."""
MAX_LABEL = (1 << 16) - 1

IMAGE_COLUMN = "image"
IMAGE_ID_COLUMN = "image_id"
LABEL_COLUMN = "label"
STAGED_IMAGE_TYPE = pa.binary(PIXELS)
LABEL_TYPE = pa.uint16()

MAX_ROW_GROUP_BYTES = 1 << 30
"""Unpacked, all columns: a million images and more, as DuckDB, Polars and Arrow cut them."""

_RECORD = np.dtype([("image_id", "<i8"), ("label", "<i2"), ("pixels", "u1", (PIXELS,))])


class Segment(NamedTuple):
    """Rows that are next to each other in one file: all or part of a shard.

    format: what reads them, a name in READERS of transforms/inputs/formats/reading.py. layout:
    where in the file they are, as that reader has it; None for its simplest. labels: unsigned
    integers of 1 or 2 bytes, one a row; None where there are none, or where the reader has them.
    files: the names of the files of a folder or zip, where each row is one. packing: what the file
    is packed in, outermost first; what is packed is read from its beginning. scale: what a stored
    value is multiplied by to be from 0 to 255. full, inverted: as toned has them. fit: whether
    images of other sizes are brought to 28x28. here: the file is on this machine alone, as long as
    the dataset is in use. called: its name in messages, where that is not its path. sha256: of the
    whole of a Parquet file, in hex, where it is known: the file is checked before any of it is
    used. bytes, version: of the file as it was found; version is None where nobody has looked.
    """

    path: str
    format: str
    rows: int
    first_row: int
    first_image_id: int
    transposed: bool = False
    layout: Any = None
    labels: bytes | None = None
    files: tuple[str, ...] | None = None
    packing: tuple[str, ...] = ()
    scale: float = 1.0
    full: int = MAX_PIXEL
    inverted: bool = False
    fit: bool = False
    here: bool = False
    called: str = ""
    sha256: str | None = None
    bytes: int = 0
    version: str | None = None

    @property
    def found(self) -> FoundFile | None:
        """The file as it was found; None where nobody has looked."""
        return None if self.version is None else FoundFile(self.path, self.bytes, self.version)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.called or self.path

    @property
    def end(self) -> int:
        """The row after the last one."""
        return self.first_row + self.rows

    def part(self, skip: int, rows: int) -> "Segment":
        """Some of its rows, from its row `skip` on."""
        width = len(self.labels or b"") // max(1, self.rows)
        return self._replace(
            rows=rows,
            first_row=self.first_row + skip,
            first_image_id=self.first_image_id + skip,
            labels=self.labels and self.labels[skip * width : (skip + rows) * width],
            files=self.files and self.files[skip : skip + rows],
        )

    def with_labels(self, labels: np.ndarray) -> "Segment":
        """The same rows with labels: integers (rows,) from 0 to MAX_LABEL."""
        narrow = not len(labels) or labels.max() < 1 << 8
        return self._replace(labels=labels.astype("u1" if narrow else "<u2").tobytes())

    def label_numbers(self, start: int, stop: int) -> np.ndarray | None:
        """The labels of some of its rows as int32; None where it has none."""
        if self.labels is None:
            return None
        dtype = "u1" if len(self.labels) == self.rows else "<u2"
        return np.frombuffer(self.labels, dtype)[start:stop].astype(np.int32)


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


class Sample(NamedTuple):
    """Some images with their latents, for a report; small enough to travel with what is counted.

    pixels: uint8, 784 bytes an image. latents: as they are stored.
    """

    image_ids: tuple[Count, ...] = ()
    labels: tuple[Annotated[int, Meta(ge=NO_LABEL, le=MAX_LABEL)], ...] = ()
    pixels: bytes = b""
    latents: bytes = b""

    def plus(self, other: "Sample") -> "Sample":
        """Both, one after the other."""
        return Sample(
            self.image_ids + other.image_ids,
            self.labels + other.labels,
            self.pixels + other.pixels,
            self.latents + other.latents,
        )


NO_SAMPLE = Sample()


class Shard(NamedTuple):
    """A fixed, contiguous range of image_ids of a split: the unit of parallel work."""

    key: ShardKey
    segments: tuple[Segment, ...]


class Stretch(NamedTuple):
    """Shards of one split, in order, that are read in one go: the element of reading.

    Several, where their borders are in the midst of what can only be read whole.
    """

    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class ImageBatch:
    """Images that go through the encoder in one call; all of one shard, in order of image_id.

    image_ids: int64 (n,). labels: int32 (n,), NO_LABEL where there is none. pixels: uint8 (n, 784)
    as read, row-major and upright; later float32, later (n, 28, 28, 1). rows: how many rows of
    the shard this batch accounts for: n, the rejects, and what `take` has left out. sha256: of the
    images of the whole shard as read, as ImageDigest has it, in the batch that completes the shard;
    empty in the others. rejects: the images that could not be read among the rows.
    """

    shard: ShardKey
    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    sha256: str = ""
    rejects: tuple["Reject", ...] = ()
    sample: Sample = NO_SAMPLE

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "ImageBatch":
        """Some of its images, by position or mask; it accounts for the same rows of the shard."""
        return replace(
            self,
            image_ids=self.image_ids[rows],
            labels=self.labels[rows],
            pixels=self.pixels[rows],
        )


class ImageDigest:
    """SHA-256 of images, one record an image; how they are cut into batches does not matter.

    A record is the image_id (int64), the label (its lower 16 bits; NO_LABEL where there is none),
    both little-endian, and the 784 pixels.
    """

    def __init__(self) -> None:
        self._sha256 = sha256()

    def update(self, image_ids: np.ndarray, labels: np.ndarray, pixels: np.ndarray) -> None:
        """Adds images: int64 (n,), int32 (n,) and uint8 (n, 784) or of another shape."""
        records = np.empty(len(image_ids), _RECORD)
        records["image_id"], records["label"] = image_ids, labels.astype("<i2")
        records["pixels"] = pixels.reshape(-1, PIXELS)
        self._sha256.update(records.data)

    def hexdigest(self) -> str:
        """Of all images so far, in hex."""
        return self._sha256.hexdigest()


def with_sample(batch: ImageBatch, every: int) -> ImageBatch:
    """A batch of uint8 pixels with a sample of about one image in `every`."""
    chosen = np.flatnonzero(one_in(batch.image_ids, every))
    if not len(chosen):
        return batch
    pixels = np.ascontiguousarray(batch.pixels[chosen]).tobytes()
    ids, labels = batch.image_ids[chosen].tolist(), batch.labels[chosen].tolist()
    return replace(batch, sample=Sample(tuple(ids), tuple(labels), pixels))


def one_in(image_ids: np.ndarray, every: int) -> np.ndarray:
    """Which of these images are in a sample of about one in `every`: bool (n,).

    By Knuth's multiplicative hash, so that neither gaps nor patterns in image_ids matter.
    """
    hashed = image_ids.astype(np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
    return hashed * np.uint64(every) < np.uint64(2**32)


def with_sha256(batch: ImageBatch) -> ImageBatch:
    """A batch that is a whole shard, with the SHA-256 of its images."""
    digest = ImageDigest()
    digest.update(batch.image_ids, batch.labels, batch.pixels)
    return replace(batch, sha256=digest.hexdigest())


class Reject(NamedTuple):
    """An image that could not be read: where it is, and why."""

    split: str
    image_id: int
    path: str
    row: int
    reason: str


def label_array(labels: np.ndarray) -> pa.Array:
    """Labels int32 (n,) as Parquet has them: LABEL_TYPE, null for NO_LABEL."""
    missing = labels == NO_LABEL
    return pa.array(np.where(missing, 0, labels).astype(np.uint16), mask=missing)


def upright(pixels: np.ndarray) -> np.ndarray:
    """Turns images stored column by column upright: uint8 (n, 784) to uint8 (n, 784)."""
    return pixels.reshape(-1, SIDE, SIDE).transpose(0, 2, 1).reshape(-1, PIXELS)


def toned(pixels: np.ndarray, full: int, *, inverted: bool) -> np.ndarray:
    """Values from 0 (paper) to 255 (ink): uint8 (n, 784), from uint8 of at most `full`.

    full: the value that stands for 255. inverted: whether 0 is ink, not paper.
    """
    if full == MAX_PIXEL:
        return MAX_PIXEL - pixels if inverted else pixels
    tones = np.rint(np.arange(full + 1) * (MAX_PIXEL / full)).astype(np.uint8)
    found: np.ndarray = (tones[::-1] if inverted else tones)[pixels]
    return found


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


def too_many_rejects(rejects: list[Reject], max_rejects: int) -> str:
    """What to tell the user when more images are bad than are borne."""
    first = rejects[0]
    count = len(rejects)
    return (
        f"{count} image{'s' * (count > 1)} could not be read and --max_rejects={max_rejects}; "
        f"the first is {first.path} row {first.row}: {first.reason}; "
        "mend the input, or bear more with --max_rejects"
    )
