"""The interface of a file format: what it gives of a file, and what it is given.

A format is a module with the functions of Format, and a line in `transforms.inputs.describe`. What
it finds are parts: arrays of images, each with the Segment that one of
`transforms.inputs.readers` reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from transforms.errors import InputError
from transforms.images import MAX_LABEL, PIXELS, Segment
from transforms.inputs.content import Content
from transforms.settings import MAX_UNPACKED_BYTES
from transforms.storage.scratch import Scratch


@dataclass(frozen=True)
class Wanted:
    """How files are to be read, as the user says.

    orientation, invert: one of ORIENTATIONS, of INVERT. max_pixel: the value that stands for white;
    None to see it. max_unpacked_bytes: the most that a compressed file may
    unpack to. member: a glob of the names in a zip, .npz or .mat that are to be read; None for
    all. fit: whether images of other sizes are brought to 28x28. scratch: where a file is unpacked
    that can be read no other way.
    """

    orientation: str = "auto"
    invert: str = "auto"
    max_pixel: int | None = None
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES
    member: str | None = None
    fit: bool = False
    scratch: Scratch = field(default_factory=Scratch)


class Part(NamedTuple):
    """Images that a file holds: all of them, or one array of several.

    name: the path, and the name within the file; its split is told from it. segment: all rows,
    image_ids from 0 unless the file has its own. characters: what labels stand for. classes: the
    names that labels are numbers of, in order, where the file has names instead of numbers.
    last_image_id: None where the file has no image_ids of its own, or no rows. row_groups,
    footer_bytes: as ImageFile has them. labels_in: where the labels are, in words. notes: what was
    taken for granted, in lines for people.
    """

    name: str
    segment: Segment
    characters: dict[int, str]
    classes: tuple[str, ...] = ()
    has_image_ids: bool = False
    last_image_id: int | None = None
    row_groups: tuple[int, ...] = ()
    footer_bytes: int = 0
    labels_in: str = ""
    notes: tuple[str, ...] = ()


class Format(Protocol):
    """A module that knows a file format."""

    NAME: str
    """As people call it."""

    def recognizes(self, content: Content) -> bool:
        """Whether the content begins as a file of this format does."""

    def describe(self, content: Content, wanted: Wanted) -> list[Part]:
        """What is in it. Raises InputError where it is not what it should be."""


def is_transposed(orientation: str, *, stored_by_nist: bool) -> bool:
    """Whether images are stored column by column."""
    return stored_by_nist if orientation == "auto" else orientation == "transposed"


def check_unpacked(path: str, rows: int, wanted: Wanted, pixels: int = PIXELS) -> None:
    """Raises InputError where a compressed file says that it has more images than may be."""
    if rows * pixels > wanted.max_unpacked_bytes:
        raise InputError(
            f"{path}: says that it unpacks to {rows:,} images of {pixels} bytes, more than "
            f"--max_unpacked_bytes={wanted.max_unpacked_bytes}: raise that if it is right"
        )


def class_names(name: str, texts: set[str]) -> tuple[str, ...]:
    """Texts of labels in order; () where all of them are numbers that labels may be.

    Raises InputError where there are more of them than labels.
    """
    if len(texts) > MAX_LABEL + 1:
        raise InputError(
            f"{name}: its labels have more than {MAX_LABEL + 1:,} names: give the images classes"
        )
    numbers = all(
        text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_LABEL)) for text in texts
    )
    return () if numbers and all(int(text) <= MAX_LABEL for text in texts) else tuple(sorted(texts))


def with_texts(part: Part, texts: Sequence[str]) -> Part:
    """The part with labels that are text: numbers already, or names of classes."""
    found = set(texts)
    classes = class_names(part.name, found)
    number = {text: place for place, text in enumerate(classes)}
    labels = np.array([number[text] if classes else int(text) for text in texts], np.int64)
    return part._replace(segment=part.segment.with_labels(labels), classes=classes)


def with_common_classes(parts: Sequence[Part]) -> list[Part]:
    """The parts with one number for each name of a class, the same in all of them.

    Raises InputError where some have names, and others numbers.
    """
    names = tuple(sorted({name for part in parts for name in part.classes}))
    if not names:
        return list(parts)
    characters = dict(enumerate(names))
    found = []
    for part in parts:
        segment = part.segment
        if not part.classes and has_labels(segment):
            raise InputError(
                f"{part.name}: its labels are numbers, and those of other files are names such as "
                f"{names[0]!r}: compress them apart"
            )
        if segment.labels is not None:
            numbers = np.array([names.index(name) for name in part.classes])
            labels = segment.label_numbers(0, segment.rows)
            segment = segment.with_labels(numbers[labels])
        elif part.classes:
            segment = segment._replace(layout=segment.layout._replace(classes=names))
        found.append(part._replace(segment=segment, classes=names, characters=characters))
    return found


def has_labels(segment: Segment) -> bool:
    """Whether images have labels, in the segment or in a column."""
    return segment.labels is not None or getattr(segment.layout, "label", None) is not None
