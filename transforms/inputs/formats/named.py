"""Arrays with names, as .npz and .mat files hold them: which are images, and which their labels."""

import re
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from transforms.errors import InputError
from transforms.images import MAX_LABEL
from transforms.inputs.content import Content
from transforms.inputs.formats.arrays import layout_of, raw_part, shaped
from transforms.inputs.formats.part import Part, Wanted, with_texts

_LABEL_WORDS = frozenset(("y", "label", "labels", "target", "targets", "class", "classes"))
_IMAGE_WORDS = frozenset(("x", "image", "images", "img", "imgs", "data", "pixels", "features"))
_SHOWN_CHARACTERS = 300


class NamedArray(NamedTuple):
    """An array in content, from byte `offset` on. fortran: its first axis runs fastest."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    content: Content
    offset: int

    @property
    def words(self) -> frozenset[str]:
        """The words of its name, in small letters."""
        return frozenset(re.findall(r"[a-z]+|\d+", self.name.lower()))

    @property
    def subject(self) -> frozenset[str]:
        """What its name says besides that it is of images or labels."""
        return self.words - _LABEL_WORDS - _IMAGE_WORDS

    @property
    def is_images(self) -> bool:
        """Whether it has the shape of images."""
        return shaped(self.shape, self.dtype.str, fortran=self.fortran) is not None

    @property
    def is_list(self) -> bool:
        """Whether it is a list of numbers or of text."""
        return self.dtype.kind in "biufUS" and max(self.shape, default=0) == _count(self.shape)

    def values(self) -> np.ndarray:
        """The array in memory; for one that is small."""
        size = _count(self.shape) * self.dtype.itemsize
        content = self.content.first(self.offset + size)[self.offset :]
        values: np.ndarray = np.zeros(0, self.dtype)
        if 0 < size == len(content):
            values = np.frombuffer(content, self.dtype)
        if len(content) < size or not _is_text(values):
            raise InputError(
                f"{self.content.name}: {self.name} is truncated or damaged: fetch it again"
            )
        return values


def _is_text(values: np.ndarray) -> bool:
    """Whether text is of characters that there are; what is not text is as well."""
    if values.dtype.kind != "U" or not values.size:
        return True
    return bool(values.view(values.dtype.byteorder + "u4").max() < sys.maxunicode + 1)


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=object)) if shape else 1


def parts_of(
    name: str, arrays: Sequence[NamedArray], wanted: Wanted, *, transposed: bool
) -> list[Part]:
    """The arrays of images, with the labels that are called alike. name: of the file."""
    if wanted.member is not None:
        arrays = [array for array in arrays if fnmatchcase(array.name, wanted.member)]
    images = [array for array in arrays if array.is_images]
    if not images:
        shown = ", ".join(f"{array.name} {array.shape}" for array in arrays)[:_SHOWN_CHARACTERS]
        raise InputError(f"{name}: no array in it holds images, of {shown or 'none'}: give another")
    lists = [array for array in arrays if array.is_list and not array.is_images]
    parts = []
    for array in images:
        layout = layout_of(
            array.content.name, array.shape, array.dtype, fortran=array.fortran, fit=wanted.fit
        )._replace(offset=array.offset)
        part = raw_part(array.content, layout, wanted, transposed=transposed)
        part = part._replace(name=f"{name}/{array.name.replace('/', '-')}")
        labels = _labels_of(array, part.segment.rows, lists, alone=len(images) == 1)
        parts.append(part if labels is None else _labelled(part, labels))
    return parts


def _labels_of(
    images: NamedArray, rows: int, lists: Sequence[NamedArray], *, alone: bool
) -> NamedArray | None:
    """The labels of images: those called alike, or the only list that there is."""
    called = [array for array in lists if array.words & _LABEL_WORDS]
    alike = [array for array in called if array.subject == images.subject]
    able = alike or ((called or lists) if alone else [])
    if len(able) != 1:
        return None
    (labels,) = able
    if _count(labels.shape) != rows:
        raise InputError(
            f"{images.content.name}: {images.name} holds {rows:,} images, and {labels.name} "
            f"{_count(labels.shape):,} labels: save as many of both"
        )
    return labels


def _labelled(part: Part, labels: NamedArray) -> Part:
    values = labels.values()
    part = part._replace(labels_in=f"array {labels.name!r}")
    if values.dtype.kind in "US":
        return with_texts(part, [_text(value) for value in values])
    numbers = values.astype(np.int64)
    if len(values) and (
        (numbers != values).any() or numbers.min() < 0 or numbers.max() > MAX_LABEL
    ):
        raise InputError(
            f"{part.name}: its labels, {labels.name}, run from {values.min()} to {values.max()}; "
            f"labels are whole numbers from 0 to {MAX_LABEL}: give other numbers"
        )
    return part._replace(segment=part.segment.with_labels(numbers))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
