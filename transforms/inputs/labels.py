"""Files of labels, and which images they are of."""

import glob
import struct
from collections.abc import Sequence

import numpy as np

from transforms.errors import InputError
from transforms.images import MAX_LABEL
from transforms.inputs.formats import (
    GZIP_MAGIC,
    IDX_LABELS_MAGIC,
    NPY_MAGIC,
    npy_header_of,
    unpacked,
)
from transforms.inputs.npy_header import MAX_NPY_HEADER_BYTES
from transforms.inputs.parts import read_part
from transforms.storage.files import FoundFile, find_files

_IDX_HEADER_BYTES = 8
_LABEL_BYTES = 8
"""What the largest whole numbers of NumPy take."""
_IMAGES, _LABELS = "images-idx3", "labels-idx1"


def labels_next_to(images: Sequence[FoundFile]) -> list[FoundFile | None]:
    """The labels of IDX files by NIST's naming, as they are or as a gzip; None if not there.

    Each folder is listed once.
    """
    folders = {_parts(image.path)[0] for image in images if _IMAGES in _parts(image.path)[1]}
    there = {
        file.path: file
        for folder in folders
        for file in find_files(f"{glob.escape(folder)}*{_LABELS}*")
    }
    return [_labels_of(image.path, there) for image in images]


def _parts(path: str) -> tuple[str, str]:
    """(folder with the slash at its end, name) of a path."""
    folder, slash, name = path.rpartition("/")
    return folder + slash, name


def _labels_of(path: str, there: dict[str, FoundFile]) -> FoundFile | None:
    folder, name = _parts(path)
    named = name.replace(_IMAGES, _LABELS)
    bare = named.removesuffix(".gz")
    candidates = (named, bare, f"{bare}.gz") if named != name else ()
    return next((there[folder + name] for name in candidates if folder + name in there), None)


def checked_labels(found: FoundFile, images: str, rows: int) -> bytes:
    """The labels of a file of images; raises InputError where it has more or fewer of them."""
    labels = read_labels(found, rows)
    if len(labels) != rows:
        raise InputError(
            f"{found.path}: holds {len(labels):,} labels, and {images} {rows:,} images: "
            "give the labels of these images by --labels"
        )
    return labels.tobytes()


def read_labels(found: FoundFile, rows: int) -> np.ndarray:
    """Labels from an IDX file (raw or gzip) or a .npy of whole numbers: uint8 (n,).

    rows: how many there should be; no more is read than they may take. Raises InputError where it
    is neither, or a label is not from 0 to 255.
    """
    at_most = MAX_NPY_HEADER_BYTES + rows * _LABEL_BYTES
    path = found.path
    content = read_part(found, 0, at_most + 1)
    if len(content) <= at_most and content.startswith(GZIP_MAGIC):
        content = unpacked(path, content, at_most + 1)
    if len(content) > at_most:
        raise InputError(
            f"{path}: holds more labels than the {rows:,} images that they are of: give the "
            "labels of these images by --labels"
        )
    if content.startswith(NPY_MAGIC):
        return _npy_labels(path, content)
    if len(content) < _IDX_HEADER_BYTES:
        raise InputError(
            f"{path}: truncated: {len(content)} bytes are no file of labels: fetch it again"
        )
    magic, rows = struct.unpack(">II", content[:_IDX_HEADER_BYTES])
    if magic != IDX_LABELS_MAGIC:
        raise InputError(
            f"{path}: begins with {magic:#010x}; an IDX file of labels begins with "
            f"{IDX_LABELS_MAGIC:#010x}: give one"
        )
    labels = np.frombuffer(content, np.uint8, offset=_IDX_HEADER_BYTES)
    if len(labels) != rows:
        what = "truncated" if len(labels) < rows else "too long"
        raise InputError(
            f"{path}: {what}: says {rows:,} labels and holds {len(labels):,}: fetch it again"
        )
    return labels


def _npy_labels(path: str, content: bytes) -> np.ndarray:
    shape, _, dtype, offset = npy_header_of(path, content)
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
