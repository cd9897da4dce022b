"""Files of labels, and which images they are of."""

import glob
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from transforms.errors import InputError
from transforms.images import MAX_LABEL
from transforms.inputs.content import GZIP_MAGIC, Content, gzip_content, once_unpacked
from transforms.inputs.dataset import CHARACTERS
from transforms.inputs.formats import idx, npy
from transforms.inputs.formats.part import Part
from transforms.inputs.names import is_called_images, is_called_labels, kind_of, subject_of
from transforms.inputs.parts import read_part
from transforms.storage.files import FoundFile, find_files

_IDX_HEADER_BYTES = 8
_HEAD_BYTES = 4 << 10
_SHOWN = 5
_LABEL_BYTES = 8
"""What the largest whole numbers of NumPy take."""


def holds_labels(head: Content) -> bool:
    """Whether a file is one of labels: IDX of labels, or a .npy that is called so and is a list."""
    if not npy.recognizes(head):
        return idx.has_labels(once_unpacked(head))
    return is_called_labels(head.name) and _npy_count(head) is not None


def _npy_count(head: Content) -> int | None:
    """How many whole numbers there are in a .npy of nothing else; None for any other."""
    try:
        shape, _, dtype, _ = npy.named_header(head.name, head.head)
    except InputError:
        return None
    return shape[0] if len(shape) == 1 and np.issubdtype(dtype, np.integer) else None


def labels_next_to(images: Sequence[Content], matched: Sequence[Content]) -> list[FoundFile | None]:
    """The labels of IDX and .npy files, by their names: train-images and train-labels, x and y.

    matched: files of labels that a glob or folder matched with the images. Others are looked for
    in the same folder, and in the next one where each file has a folder of its own. Each folder is
    listed once.
    """
    named = filter(_may_have_labels, images)
    folders = {folder for head in named for folder in _folders(head.found.path)}
    there = {head.found.path: head.found for head in matched}
    for folder in sorted(folders):
        there |= {file.path: file for file in _labels_in(folder)}
    by_subject = defaultdict(list)
    for file in there.values():
        by_subject[subject_of(file.path)].append(file)
    return [
        _labels_of(head, by_subject[subject_of(head.found.path)])
        if _may_have_labels(head)
        else None
        for head in images
    ]


def _may_have_labels(head: Content) -> bool:
    is_array = idx.recognizes(once_unpacked(head)) or npy.recognizes(head)
    return is_array and is_called_images(head.name)


def _folder(path: str) -> str:
    """The folder of a file, with the slash at its end."""
    folder, slash, _ = path.rpartition("/")
    return folder + slash


def _folders(path: str) -> Iterator[str]:
    """The folder of a file, and that of the labels where images have a folder of their own."""
    folder = _folder(path)
    yield folder
    above, name = _folder(folder.rstrip("/")), folder.rstrip("/").rpartition("/")[2]
    if (other := name.replace("images", "labels").replace("idx3", "idx1")) != name:
        yield f"{above}{other}/"


def _labels_in(folder: str) -> list[FoundFile]:
    return [file for file in find_files(f"{glob.escape(folder)}*") if is_called_labels(file.path)]


def _labels_of(head: Content, able: Sequence[FoundFile]) -> FoundFile | None:
    """Of labels of the same subject as the images the near ones, packed or not as they are."""
    folders = list(_folders(head.found.path))
    near = [file for file in able if _folder(file.path) in folders]
    near.sort(
        key=lambda file: (file.path.endswith(".gz") != head.head.startswith(GZIP_MAGIC), file.path)
    )
    chosen = near[0] if near else able[0] if len(able) == 1 else None
    return chosen if chosen is not None and _may_be_of(head, chosen) else None


def _may_be_of(head: Content, labels: FoundFile) -> bool:
    """Whether labels that nobody named are taken: IDX by NIST's naming, .npy where as many."""
    if not npy.recognizes(head):
        return True
    try:
        shape = npy.named_header(head.name, head.head).shape
        content = read_part(labels, 0, _HEAD_BYTES)
        count = _npy_count(Content(labels.path, labels, content, size=labels.bytes))
    except InputError:
        return False
    return count is not None and shape[:1] == (count,)


def with_characters(part: Part) -> Part:
    """The part with what its labels stand for, by EMNIST's dataset that it is called by.

    Letters are counted from 1, and by others from 0: told by the labels, where 0 is among them.
    """
    labels = part.segment.label_numbers(0, part.segment.rows)
    if part.classes or labels is None or not len(labels):
        return part
    known = part.characters or CHARACTERS.get(kind_of(part.name) or "", {})
    if not known:
        return part
    found, notes = set(np.unique(labels).tolist()), part.notes
    if kind_of(part.name) == "letters" and 0 in found and max(found) < len(known):
        known = {label - 1: character for label, character in known.items()}
        notes += (f"characters: labels of {part.name} count from 0, so 0 is {known[0]}",)
    if unknown := sorted(found - known.keys()):
        shown = ", ".join(map(str, unknown[:_SHOWN]))
        notes += (f"characters: labels {shown} of {part.name} stand for none that is known",)
    return part._replace(characters=known, notes=notes)


def checked_labels(found: FoundFile, images: str, rows: int) -> np.ndarray:
    """The labels of a file of images; raises InputError where it has more or fewer of them."""
    return counted(found.path, read_labels(found, rows), images, rows)


def counted(path: str, labels: np.ndarray, images: str, rows: int) -> np.ndarray:
    """The labels; raises InputError where there are more or fewer than images."""
    if len(labels) != rows:
        raise InputError(
            f"{path}: holds {len(labels):,} labels, and {images} {rows:,} images: "
            "give the labels of these images by --labels"
        )
    return labels


def read_labels(found: FoundFile, rows: int) -> np.ndarray:
    """Labels from an IDX file (raw or gzip) or a .npy of whole numbers: integers (n,).

    rows: how many there should be; no more is read than they may take. Raises InputError where it
    is neither, or a label is not from 0 to MAX_LABEL.
    """
    at_most = most_bytes(rows)
    content = read_part(found, 0, at_most + 1)
    if len(content) <= at_most and content.startswith(GZIP_MAGIC):
        content = gzip_content(found.path, content, at_most + 1)
    return labels_in(found.path, content, rows)


def most_bytes(rows: int) -> int:
    """What a file of so many labels may take."""
    return npy.MAX_HEADER_BYTES + rows * _LABEL_BYTES


def labels_in(path: str, content: bytes, rows: int) -> np.ndarray:
    """The labels in the content of a file, as read_labels has them."""
    if len(content) > most_bytes(rows):
        raise InputError(
            f"{path}: holds more labels than the {rows:,} images that they are of: give the "
            "labels of these images by --labels"
        )
    if content.startswith(npy.MAGIC):
        return _npy_labels(path, content)
    if len(content) < _IDX_HEADER_BYTES:
        raise InputError(
            f"{path}: truncated: {len(content)} bytes are no file of labels: fetch it again"
        )
    magic, said = struct.unpack(">II", content[:_IDX_HEADER_BYTES])
    if magic != idx.LABELS_MAGIC:
        raise InputError(
            f"{path}: begins with {magic:#010x}; an IDX file of labels begins with "
            f"{idx.LABELS_MAGIC:#010x}: give one"
        )
    labels = np.frombuffer(content, np.uint8, offset=_IDX_HEADER_BYTES)
    if len(labels) != said:
        what = "truncated" if len(labels) < said else "too long"
        raise InputError(
            f"{path}: {what}: says {said:,} labels and holds {len(labels):,}: fetch it again"
        )
    return labels


def _npy_labels(path: str, content: bytes) -> np.ndarray:
    shape, _, dtype, offset = npy.named_header(path, content)
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
    return labels
