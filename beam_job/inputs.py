"""Files that people have: what each one is, read from its content, as a dataset."""

import gzip
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_job.datasets import CHARACTERS, Dataset, ImageFile, Source, is_split_name
from beam_job.options import DEFAULT_MAX_UNPACKED_BYTES
from beam_job.recorded import without_credentials
from transforms.errors import InputError, first_line
from transforms.files import (
    exists,
    file_bytes,
    file_system,
    is_local,
    join_path,
    last_updated,
    list_files,
    open_binary,
    split_path,
)
from transforms.images import (
    IMAGE_COLUMN,
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    MAX_LABEL,
    PIXELS,
    SIDE,
    STAGED_IMAGE_TYPE,
    Segment,
    check_row_groups,
)
from transforms.json_documents import MAX_COUNT, parse_json
from transforms.npy_header import MAX_NPY_HEADER_BYTES, NpyHeader, npy_header
from transforms.object_stores import StoreError, check_store
from transforms.printable import is_unicode
from transforms.staged import STAGED_METADATA_KEY

GZIP = "gzip"
"""The format of a segment that cannot be read from the middle, and so is staged first."""

IDX_HEADER_BYTES = 16
_IDX_LABELS_HEADER_BYTES = 8
_IDX_IMAGES_MAGIC = 0x00000803
_IDX_LABELS_MAGIC = 0x00000801
_GZIP_MAGIC = b"\x1f\x8b"
_NPY_MAGIC = b"\x93NUMPY"
_PARQUET_MAGIC = b"PAR1"
FILES_AT_ONCE = 16
_SHOWN_CHARACTERS = 300
_LABEL_BYTES = 8
"""What the largest whole numbers of NumPy take."""
_KINDS = "IDX (raw or gzip), .npy, or Parquet"


class _Facts(NamedTuple):
    """What a file turned out to be. segment: all its rows; image_ids from 0 but for its own."""

    path: str
    segment: Segment
    has_image_ids: bool
    characters: dict[int, str]
    label_sources: tuple[str, ...] = ()


def files_dataset(
    pattern: str,
    labels_pattern: str | None,
    orientation: str,
    max_unpacked_bytes: int = DEFAULT_MAX_UNPACKED_BYTES,
) -> Dataset:
    """The dataset that the matched files make up; only headers and labels are read.

    Files of one split follow each other in the order of their names. Raises InputError where a
    file is not what it should be, or unpacks to more than `max_unpacked_bytes`.
    """
    paths = _without_label_files(_matched(pattern, "--input"))
    labels: Sequence[str | None]
    if labels_pattern is None:
        labels = [_labels_beside(path) for path in paths]
    else:
        labels = _matched(labels_pattern, "--labels")
    if len(labels) != len(paths):
        raise InputError(
            f"--labels={labels_pattern} matches {_files(len(labels))} and --input={pattern} "
            f"{_files(len(paths))}: give one file of labels for each file of images"
        )
    updated = last_updated([*paths, *filter(None, labels)])
    # Each file takes some requests, where it lies in a store, that wait for their answers.
    with ThreadPoolExecutor(1 if is_local(pattern) else FILES_AT_ONCE) as pool:
        facts = list(
            pool.map(_inspect, paths, labels, repeat(orientation), repeat(max_unpacked_bytes))
        )
    files = _numbered(facts)
    if not any(file.segment.rows for file in files):
        raise InputError(f"--input={pattern} holds no images: give files that hold some")
    return Dataset(
        without_credentials(pattern),
        tuple(file for file in files if file.segment.rows),
        _merged_characters(facts),
        tuple(_sources(facts)),
        updated=updated,
    )


def check_file_system(flag: str, path: str | None) -> None:
    """Raises InputError where Beam has no file system for a path, or its store can't be used."""
    if not path or is_local(path):
        return
    try:
        check_store(path)
        file_system(path)
    except StoreError as error:
        raise InputError(f"--{flag}={path}: {error}") from error
    except (ValueError, OSError) as error:
        raise InputError(
            f"--{flag}={path}: there is no file system for it ({error}): correct the path, or "
            "install what it needs (pip install 'emnist-latents[gcp]' or '[aws]')"
        ) from error


def split_name(path: str) -> str:
    """The split that a file's name says: train or test (or a folder split=NAME), else all."""
    posix = PurePosixPath(path.replace("\\", "/"))
    for part in reversed(posix.parts[:-1]):
        if part.startswith("split="):
            return part.removeprefix("split=")
    named = set(re.findall(r"(?<![a-z])(train|test)(?![a-z])", posix.name.lower()))
    return named.pop() if len(named) == 1 else "all"


def _matched(pattern: str, flag: str) -> list[str]:
    if exists(pattern):
        if _is_local_folder(pattern):
            raise InputError(
                f"{flag}={pattern} is a folder: give a file, or a glob such as "
                f"{join_path(pattern, '*')}"
            )
        return [pattern]
    paths = list_files(pattern)
    if not paths:
        raise InputError(f"{flag}={pattern} matches no file: give a file or a glob that does")
    for path in paths:
        if not is_unicode(path):
            raise InputError(f"{path}: its name is no Unicode text: rename it")
    return paths


def _is_local_folder(path: str) -> bool:
    return is_local(path) and Path(path).is_dir()


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _without_label_files(paths: list[str]) -> list[str]:
    """A glob over NIST's files matches the labels too; those are found again by their name."""
    if len(paths) == 1:
        return paths
    images = [path for path in paths if _head(path, 4) != struct.pack(">I", _IDX_LABELS_MAGIC)]
    return images or paths


def _head(path: str, count: int) -> bytes:
    """The first bytes of a file, of what is in it if it is a gzip."""
    with open_binary(path) as file:
        head = file.read(max(count, 4))
    if not head.startswith(_GZIP_MAGIC):
        return head[:count]
    with GzipReader(path) as unzipped:
        return unzipped.read(count)


class GzipReader:
    """Reads a gzip; what is wrong with it becomes an InputError that names it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._raw = open_binary(path)
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
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(
                f"{self._path}: the gzip is truncated or damaged ({error}): fetch it again"
            ) from error


def _inspect(
    path: str, label_path: str | None, orientation: str, max_unpacked_bytes: int
) -> _Facts:
    if not is_split_name(split_name(path)):
        raise InputError(
            f"{path}: its folder says split={split_name(path)}: call a split by letters, digits, "
            "spaces, - . and _"
        )
    head = _head(path, 16)
    with open_binary(path) as file:
        zipped = file.read(2) == _GZIP_MAGIC
    if zipped and not head.startswith(b"\0\0"):
        raise InputError(f"{path}: a gzip of something else than IDX: unpack it first")
    if head.startswith(_PARQUET_MAGIC):
        return _inspect_parquet(path, label_path, orientation, max_unpacked_bytes)
    if head.startswith(_NPY_MAGIC):
        offset, rows = _npy_images(path)
    elif head.startswith(b"\0\0"):
        offset, rows = _idx_header(path, head, zipped)
        if zipped:
            _check_unpacked(path, rows, max_unpacked_bytes)
    else:
        raise InputError(
            f"{path}: is none of {_KINDS}, as it begins with {head[:8]!r}: give a file that is"
        )
    labels = None if label_path is None else _checked_labels(label_path, path, rows)
    is_idx = head.startswith(b"\0\0")
    nist = re.match(r"emnist-([a-z]+)-", PurePosixPath(path).name)
    segment = Segment(
        path,
        GZIP if zipped else "raw",
        rows,
        first_row=0,
        first_image_id=0,
        transposed=_is_transposed(orientation, stored_by_nist=nist is not None and is_idx),
        offset=offset,
        labels=labels,
    )
    characters = CHARACTERS.get(nist[1], {}) if nist else {}
    return _Facts(path, segment, False, characters, (label_path,) if label_path else ())


def _check_unpacked(path: str, rows: int, max_unpacked_bytes: int) -> None:
    """Raises InputError where a compressed file says that it holds more images than are borne."""
    if rows * PIXELS > max_unpacked_bytes:
        raise InputError(
            f"{path}: says that it unpacks to {rows:,} images of {PIXELS} bytes, more than "
            f"--max_unpacked_bytes={max_unpacked_bytes}: raise that if it is right"
        )


def _is_transposed(orientation: str, *, stored_by_nist: bool) -> bool:
    return stored_by_nist if orientation == "auto" else orientation == "transposed"


def _idx_header(path: str, head: bytes, zipped: bool) -> tuple[int, int]:
    (magic,) = struct.unpack(">I", head[:4].ljust(4, b"\0"))
    if magic == _IDX_LABELS_MAGIC:
        raise InputError(f"{path}: holds labels, not images: give the images, labels by --labels")
    if magic != _IDX_IMAGES_MAGIC:
        raise InputError(
            f"{path}: begins with {magic:#010x}; an IDX file of uint8 images begins with "
            f"{_IDX_IMAGES_MAGIC:#010x}: give one"
        )
    if len(head) < IDX_HEADER_BYTES:
        raise InputError(f"{path}: truncated: {len(head)} bytes are no IDX file: fetch it again")
    rows, height, width = struct.unpack(">III", head[4:])
    if (height, width) != (SIDE, SIDE):
        raise InputError(
            f"{path}: its images are {height}x{width}, not {SIDE}x{SIDE}: scale them first"
        )
    if not zipped:
        check_length(path, file_bytes(path) - IDX_HEADER_BYTES, rows)
    return IDX_HEADER_BYTES, rows


def check_length(path: str, found: int, rows: int) -> None:
    """Raises InputError unless `found` bytes are those of `rows` images."""
    expected = rows * PIXELS
    if found != expected:
        what = "truncated" if found < expected else "too long"
        raise InputError(
            f"{path}: {what}: {rows:,} images take {expected:,} bytes and there are {found:,}: "
            "fetch it again"
        )


def _npy_images(path: str) -> tuple[int, int]:
    """(offset of the data, rows) of a .npy of uint8 images; nothing in it is ever unpickled."""
    with open_binary(path) as file:
        header = _npy_header_of(path, file.read(MAX_NPY_HEADER_BYTES))
    shape, fortran, dtype, offset = header
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
    check_length(path, file_bytes(path) - offset, shape[0])
    return offset, shape[0]


def _npy_header_of(path: str, head: bytes) -> NpyHeader:
    try:
        return npy_header(head)
    except ValueError as error:
        raise InputError(
            f"{path}: its .npy header cannot be read ({first_line(error)}): save it with "
            "numpy.save()"
        ) from error


def _labels_beside(path: str) -> str | None:
    """The labels of an IDX file by NIST's naming, as they are or as a gzip; None if not there."""
    folder, name = split_path(path)
    named = name.replace("images-idx3", "labels-idx1")
    if named == name:
        return None
    bare = named.removesuffix(".gz")
    for candidate in dict.fromkeys((named, bare, f"{bare}.gz")):
        beside = join_path(folder, candidate) if folder else candidate
        if exists(beside):
            return beside
    return None


def _checked_labels(path: str, images: str, rows: int) -> bytes:
    labels = read_labels(path, rows)
    if len(labels) != rows:
        raise InputError(
            f"{path}: holds {len(labels):,} labels, and {images} {rows:,} images: "
            "give the labels of these images by --labels"
        )
    return labels.tobytes()


def read_labels(path: str, rows: int) -> np.ndarray:
    """Labels from an IDX file (raw or gzip) or a .npy of whole numbers: uint8 (n,).

    rows: how many there should be; no more is read than they may take. Raises InputError where it
    is neither, or a label is not from 0 to 255.
    """
    at_most = MAX_NPY_HEADER_BYTES + rows * _LABEL_BYTES
    with open_binary(path) as file:
        content = file.read(at_most + 1)
    if content.startswith(_GZIP_MAGIC):
        with GzipReader(path) as unzipped:
            content = unzipped.read(at_most + 1)
    if len(content) > at_most:
        raise InputError(
            f"{path}: holds more labels than the {rows:,} images that they are of: give the "
            "labels of these images by --labels"
        )
    if content.startswith(_NPY_MAGIC):
        return _npy_labels(path, content)
    if len(content) < _IDX_LABELS_HEADER_BYTES:
        raise InputError(
            f"{path}: truncated: {len(content)} bytes are no file of labels: fetch it again"
        )
    magic, rows = struct.unpack(">II", content[:_IDX_LABELS_HEADER_BYTES])
    if magic != _IDX_LABELS_MAGIC:
        raise InputError(
            f"{path}: begins with {magic:#010x}; an IDX file of labels begins with "
            f"{_IDX_LABELS_MAGIC:#010x}: give one"
        )
    labels = np.frombuffer(content, np.uint8, offset=_IDX_LABELS_HEADER_BYTES)
    if len(labels) != rows:
        what = "truncated" if len(labels) < rows else "too long"
        raise InputError(
            f"{path}: {what}: says {rows:,} labels and holds {len(labels):,}: fetch it again"
        )
    return labels


def _npy_labels(path: str, content: bytes) -> np.ndarray:
    shape, _, dtype, offset = _npy_header_of(path, content)
    if len(shape) != 1 or not np.issubdtype(dtype, np.integer):
        raise InputError(
            f"{path}: labels are whole numbers of shape (n,), not {dtype} {shape}: save them so"
        )
    if len(content) - offset != shape[0] * dtype.itemsize:
        raise InputError(
            f"{path}: {shape[0]:,} labels of type {dtype} take {shape[0] * dtype.itemsize:,} bytes "
            f"and there are {len(content) - offset:,}: save it again"
        )
    labels: np.ndarray = np.frombuffer(content, dtype, offset=offset)
    if labels.size and (labels.min() < 0 or labels.max() > MAX_LABEL):
        raise InputError(
            f"{path}: labels run from {labels.min()} to {labels.max()}, not 0 to {MAX_LABEL}: "
            "give other numbers"
        )
    return labels.astype(np.uint8)


def _inspect_parquet(
    path: str, label_path: str | None, orientation: str, max_unpacked_bytes: int
) -> _Facts:
    if label_path is not None:
        raise InputError(
            f"--labels={label_path}: Parquet has its labels in a column of its own: leave it out"
        )
    try:
        return _parquet_facts(path, orientation, max_unpacked_bytes)
    except (pa.ArrowException, OSError, ValueError, StopIteration, MemoryError) as error:
        raise InputError(
            f"{path}: cannot be read as Parquet ({first_line(error)}): fetch it again"
        ) from error


def _parquet_facts(path: str, orientation: str, max_unpacked_bytes: int) -> _Facts:
    with open_binary(path) as file:
        parquet = pq.ParquetFile(file)
        check_row_groups(path, parquet)
        _check_unpacked(path, parquet.metadata.num_rows, max_unpacked_bytes)
        schema = parquet.schema_arrow
        staged = (
            IMAGE_COLUMN in schema.names and schema.field(IMAGE_COLUMN).type == STAGED_IMAGE_TYPE
        )
        has_image_ids = staged and IMAGE_ID_COLUMN in schema.names
        if has_image_ids and not pa.types.is_integer(schema.field(IMAGE_ID_COLUMN).type):
            kind = schema.field(IMAGE_ID_COLUMN).type
            raise InputError(f"{path}: column 'image_id' is {kind}: store whole numbers there")
        segment = Segment(
            path,
            "parquet",
            parquet.metadata.num_rows,
            first_row=0,
            first_image_id=_first_image_id(parquet) if has_image_ids else 0,
            transposed=_is_transposed(orientation, stored_by_nist=False),
            image_column=IMAGE_COLUMN if staged else _image_column(path, schema),
            label_column=_label_column(path, schema),
        )
    return _Facts(path, segment, has_image_ids, _parquet_characters(schema, segment.label_column))


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


def _first_image_id(parquet: pq.ParquetFile) -> int:
    if parquet.metadata.num_rows == 0:
        return 0
    first = next(parquet.iter_batches(1, columns=[IMAGE_ID_COLUMN]))
    return int(first.column(0)[0].as_py() or 0)


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


def _numbered(facts: Sequence[_Facts]) -> list[ImageFile]:
    """The files with the image_ids that they have, or that follow from their order."""
    files, following = [], Counter[str]()
    for fact in facts:
        split = split_name(fact.path)
        segment = fact.segment
        if not fact.has_image_ids:
            segment = segment._replace(first_image_id=following[split])
        elif segment.rows and segment.first_image_id < following[split]:
            raise InputError(
                f"{fact.path}: begins with image_id {segment.first_image_id} of split {split}, "
                "which a file before it may hold too: give each image once, in order"
            )
        following[split] = segment.first_image_id + segment.rows
        if following[split] > MAX_COUNT:
            first = segment.first_image_id
            raise InputError(
                f"{fact.path}: begins with image_id {first}, which is too large: count from 0"
            )
        files.append(ImageFile(split, segment))
    return files


def _merged_characters(facts: Sequence[_Facts]) -> dict[int, str]:
    """What the labels stand for; nothing where a file with labels does not say."""
    if any(_has_labels(fact.segment) and not fact.characters for fact in facts):
        return {}
    merged: dict[int, str] = {}
    for fact in facts:
        for label, character in fact.characters.items():
            if merged.setdefault(label, character) != character:
                raise InputError(
                    f"{fact.path}: label {label} stands for {character!r} here and for "
                    f"{merged[label]!r} in a file before it: compress them apart"
                )
    return merged


def _has_labels(segment: Segment) -> bool:
    return segment.labels is not None or segment.label_column is not None


def _sources(facts: Sequence[_Facts]) -> Iterator[Source]:
    for fact in facts:
        for path in (fact.path, *fact.label_sources):
            yield Source(path, split_name(fact.path), file_bytes(path))
