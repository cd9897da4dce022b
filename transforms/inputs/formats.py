"""What a file of images is, by its content: IDX, .npy or Parquet."""

import gzip
import io
import struct
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import ChangedError, InputError, first_line
from transforms.images import (
    IMAGE_COLUMN,
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    PIXELS,
    SIDE,
    STAGED_IMAGE_TYPE,
    Segment,
    check_row_groups,
)
from transforms.inputs import parquet
from transforms.inputs.dataset import CHARACTERS
from transforms.inputs.names import is_of_emnist, kind_of
from transforms.inputs.npy_header import MAX_NPY_HEADER_BYTES, NpyHeader, npy_header
from transforms.inputs.parts import RangeFile, changed, looked_at, read_part
from transforms.json_documents import parse_json
from transforms.printable import is_unicode
from transforms.staged import STAGED_METADATA_KEY
from transforms.storage.files import FoundFile, open_binary

GZIP = "gzip"
"""The format of a segment that cannot be read from the middle, and so is staged first."""

IDX_HEADER_BYTES = 16
GZIP_MAGIC = b"\x1f\x8b"
NPY_MAGIC = b"\x93NUMPY"
IDX_LABELS_MAGIC = 0x00000801
_IDX_IMAGES_MAGIC = 0x00000803
_SHOWN_CHARACTERS = 300
_IDS_AT_ONCE = 1 << 16
_BLOCK_BYTES = 4 << 20
"""What is read of a gzip at once: in a store that is a request."""
_KINDS = "IDX (raw or gzip), .npy, or Parquet"


class Facts(NamedTuple):
    """What a file turned out to be. segment: all its rows; image_ids from 0 but for its own.

    last_image_id: None where the file has no image_ids of its own, or no rows. row_groups,
    footer_bytes: as ImageFile has them.
    """

    segment: Segment
    characters: dict[int, str]
    has_image_ids: bool = False
    last_image_id: int | None = None
    row_groups: tuple[int, ...] = ()
    footer_bytes: int = 0


class Head(NamedTuple):
    """The beginning of a file. content: as it is stored. unpacked: of what is in it if a gzip."""

    found: FoundFile
    content: bytes
    unpacked: bytes

    @property
    def is_gzip(self) -> bool:
        """Whether it is packed."""
        return self.content.startswith(GZIP_MAGIC)

    @property
    def is_labels(self) -> bool:
        """Whether it is IDX of labels."""
        return self.unpacked.startswith(struct.pack(">I", IDX_LABELS_MAGIC))


def read_head(found: FoundFile) -> Head:
    """The beginning of a file, by one request."""
    content = read_part(found, 0, looked_at(found.bytes))
    packed = content.startswith(GZIP_MAGIC)
    return Head(
        found, content, unpacked(found.path, content, IDX_HEADER_BYTES) if packed else content
    )


def unpacked(path: str, content: bytes, count: int) -> bytes:
    """Up to `count` bytes of what is in a gzip that begins with `content`."""
    with GzipReader(path, io.BytesIO(content)) as unzipped:
        return unzipped.read(count)


class GzipReader:
    """Reads a gzip; what is wrong with it becomes an InputError that names it."""

    def __init__(self, path: str, file: BinaryIO | None = None) -> None:
        """file: the gzip, if it is open already; it is closed with the reader."""
        self._path = path
        self._raw = io.BufferedReader(
            open_binary(path) if file is None else file,  # type: ignore[type-var]
            _BLOCK_BYTES,
        )
        self._file = gzip.GzipFile(fileobj=self._raw)

    def __enter__(self) -> "GzipReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._raw.close()

    def read(self, count: int) -> bytes:
        """Up to `count` bytes of what is in the gzip."""
        try:
            return self._file.read(count)
        except ChangedError as error:
            raise changed(self._path) from error
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(
                f"{self._path}: the gzip is truncated or damaged ({error}): fetch it again"
            ) from error


def open_gzip(segment: Segment) -> GzipReader:
    """The gzip of a segment; raises InputError where it is not the version that was found."""
    try:
        return GzipReader(segment.path, open_binary(segment.path, segment.found))
    except ChangedError as error:
        raise changed(segment.path) from error


def inspect(head: Head, orientation: str, max_unpacked_bytes: int) -> Facts:
    """What a file holds. Raises InputError where it is not what it should be."""
    found, content = head.found, head.unpacked
    path, is_idx = found.path, content.startswith(b"\0\0")
    if head.is_gzip and not is_idx:
        raise InputError(f"{path}: a gzip of something else than IDX: unpack it first")
    if content.startswith(parquet.MAGIC):
        return _inspect_parquet(head, orientation, max_unpacked_bytes)
    if content.startswith(NPY_MAGIC):
        offset, rows = _npy_images(head)
    elif is_idx:
        offset, rows = IDX_HEADER_BYTES, _idx_rows(head)
    else:
        raise InputError(
            f"{path}: is none of {_KINDS}, as it begins with {content[:8]!r}: give a file that is"
        )
    if head.is_gzip:
        _check_unpacked(path, rows, max_unpacked_bytes)
    else:
        check_length(path, found.bytes - offset, rows)
    segment = Segment(
        path,
        GZIP if head.is_gzip else "raw",
        rows,
        first_row=0,
        first_image_id=0,
        transposed=_is_transposed(orientation, stored_by_nist=is_idx and is_of_emnist(path)),
        offset=offset,
        bytes=found.bytes,
        version=found.version,
    )
    return Facts(segment, CHARACTERS.get(kind_of(path) or "", {}))


def _check_unpacked(path: str, rows: int, max_unpacked_bytes: int) -> None:
    """Raises InputError where a compressed file says that it holds more images than are borne."""
    if rows * PIXELS > max_unpacked_bytes:
        raise InputError(
            f"{path}: says that it unpacks to {rows:,} images of {PIXELS} bytes, more than "
            f"--max_unpacked_bytes={max_unpacked_bytes}: raise that if it is right"
        )


def _is_transposed(orientation: str, *, stored_by_nist: bool) -> bool:
    return stored_by_nist if orientation == "auto" else orientation == "transposed"


def _idx_rows(head: Head) -> int:
    path, content = head.found.path, head.unpacked[:IDX_HEADER_BYTES]
    if head.is_labels:
        raise InputError(f"{path}: holds labels, not images: give the images, labels by --labels")
    (magic,) = struct.unpack(">I", content[:4].ljust(4, b"\0"))
    if magic != _IDX_IMAGES_MAGIC:
        raise InputError(
            f"{path}: begins with {magic:#010x}; an IDX file of uint8 images begins with "
            f"{_IDX_IMAGES_MAGIC:#010x}: give one"
        )
    if len(content) < IDX_HEADER_BYTES:
        raise InputError(f"{path}: truncated: {len(content)} bytes are no IDX file: fetch it again")
    rows, height, width = struct.unpack(">III", content[4:])
    if (height, width) != (SIDE, SIDE):
        raise InputError(
            f"{path}: its images are {height}x{width}, not {SIDE}x{SIDE}: scale them first"
        )
    return int(rows)


def check_length(path: str, found: int, rows: int) -> None:
    """Raises InputError unless `found` bytes are those of `rows` images."""
    expected = rows * PIXELS
    if found != expected:
        what = "truncated" if found < expected else "too long"
        raise InputError(
            f"{path}: {what}: {rows:,} images take {expected:,} bytes and there are {found:,}: "
            "fetch it again"
        )


def _npy_images(head: Head) -> tuple[int, int]:
    """(offset of the data, rows) of a .npy of uint8 images; nothing in it is ever unpickled."""
    path, content = head.found.path, head.content
    if int.from_bytes(content[8:10], "little") > len(content) - 10:
        content = read_part(head.found, 0, MAX_NPY_HEADER_BYTES)
    shape, fortran, dtype, offset = npy_header_of(path, content)
    if dtype.hasobject:
        raise InputError(f"{path}: holds pickled objects, which are never loaded: save it as uint8")
    if dtype != np.uint8:
        raise InputError(f"{path}: is of type {dtype}, not uint8: save pixels from 0 to 255")
    if shape[1:] not in ((SIDE, SIDE), (SIDE, SIDE, 1), (PIXELS,)):
        raise InputError(
            f"{path}: is of shape {shape}; images are (n, {SIDE}, {SIDE}), or (n, {PIXELS}): "
            "reshape it"
        )
    if fortran:
        raise InputError(
            f"{path}: is stored column by column: save it with numpy.ascontiguousarray()"
        )
    return offset, shape[0]


def npy_header_of(path: str, head: bytes) -> NpyHeader:
    """The header of a .npy; raises InputError where it is none."""
    try:
        return npy_header(head)
    except ValueError as error:
        raise InputError(
            f"{path}: its .npy header cannot be read ({first_line(error)}): save it with "
            "numpy.save()"
        ) from error


def _inspect_parquet(head: Head, orientation: str, max_unpacked_bytes: int) -> Facts:
    path = head.found.path
    try:
        return _parquet_facts(head, orientation, max_unpacked_bytes)
    except ChangedError as error:
        raise changed(path) from error
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise InputError(
            f"{path}: cannot be read as Parquet ({first_line(error)}): fetch it again"
        ) from error


def _parquet_facts(head: Head, orientation: str, max_unpacked_bytes: int) -> Facts:
    found, path = head.found, head.found.path
    file = RangeFile(found)
    file.know(0, head.content)
    metadata = parquet.read_metadata(file)
    opened = pq.ParquetFile(file, metadata=metadata)
    check_row_groups(path, opened)
    schema = opened.schema_arrow
    _check_unpacked(path, metadata.num_rows, max_unpacked_bytes)
    staged = IMAGE_COLUMN in schema.names and schema.field(IMAGE_COLUMN).type == STAGED_IMAGE_TYPE
    has_image_ids = staged and IMAGE_ID_COLUMN in schema.names
    if has_image_ids and not pa.types.is_integer(schema.field(IMAGE_ID_COLUMN).type):
        kind = schema.field(IMAGE_ID_COLUMN).type
        raise InputError(f"{path}: column 'image_id' is {kind}: store whole numbers there")
    image_ids = _end_image_ids(opened) if has_image_ids else []
    segment = Segment(
        path,
        "parquet",
        metadata.num_rows,
        first_row=0,
        first_image_id=image_ids[0] if image_ids else 0,
        transposed=_is_transposed(orientation, stored_by_nist=False),
        image_column=IMAGE_COLUMN if staged else _image_column(path, schema),
        label_column=_label_column(path, schema),
        bytes=found.bytes,
        version=found.version,
    )
    return Facts(
        segment,
        _parquet_characters(schema, segment.label_column),
        has_image_ids,
        image_ids[-1] if image_ids else None,
        tuple(parquet.row_group_rows(metadata)),
        parquet.footer_bytes(found.bytes, metadata),
    )


def _image_column(path: str, schema: pa.Schema) -> str:
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            content = field.type.field("bytes").type
            if pa.types.is_binary(content) or pa.types.is_large_binary(content):
                return str(field.name)
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)[:_SHOWN_CHARACTERS]
    raise InputError(
        f"{path}: no column holds images, of {columns}: give a column `image`, as fixed-size "
        f"binary of {PIXELS} bytes (staged) or a struct with `bytes` (Hugging Face)"
    )


def _label_column(path: str, schema: pa.Schema) -> str | None:
    if LABEL_COLUMN not in schema.names:
        return None
    kind = schema.field(LABEL_COLUMN).type
    if not pa.types.is_integer(kind):
        raise InputError(f"{path}: column {LABEL_COLUMN!r} is {kind}: store whole numbers there")
    return LABEL_COLUMN


def _end_image_ids(file: pq.ParquetFile) -> list[int]:
    """The image_ids of a file's first and last row groups; a null counts as 0.

    They are read: the statistics of a column could be damaged, and then Arrow ends the process.
    """
    groups = [group for group, rows in enumerate(parquet.row_group_rows(file.metadata)) if rows]
    ends = sorted({*groups[:1], *groups[-1:]})
    batches = file.iter_batches(
        _IDS_AT_ONCE, row_groups=ends, columns=[IMAGE_ID_COLUMN], use_threads=False
    )
    ends_of_batches = ((batch.column(0)[0], batch.column(0)[-1]) for batch in batches)
    return [image_id.as_py() or 0 for pair in ends_of_batches for image_id in pair]


def _parquet_characters(schema: pa.Schema, label_column: str | None) -> dict[int, str]:
    metadata = schema.metadata or {}
    try:
        if STAGED_METADATA_KEY in metadata:
            characters = parse_json(metadata[STAGED_METADATA_KEY])["characters"]
            return _in_unicode({int(label): str(name) for label, name in characters.items()})
        features = parse_json(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return _in_unicode(dict(enumerate(map(str, features[label_column]["names"]))))
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # Characters are shown where they are known, and not needed.


def _in_unicode(characters: dict[int, str]) -> dict[int, str]:
    """The characters; nothing where one is no text that can be stored."""
    return characters if all(map(is_unicode, characters.values())) else {}
