"""The dataset that files make up: images, and their labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import NamedTuple

import pyarrow as pa

from transforms.errors import InputError
from transforms.images import Stretch
from transforms.inputs.appearance import with_appearance
from transforms.inputs.content import Content, read_head
from transforms.inputs.dataset import Dataset, ImageFile, Source, cut_stretches, is_split_name
from transforms.inputs.describe import describe
from transforms.inputs.formats import pictures
from transforms.inputs.formats.part import Part, Wanted, has_labels, with_common_classes
from transforms.inputs.labels import (
    checked_labels,
    holds_labels,
    labels_next_to,
    with_characters,
)
from transforms.inputs.matching import match_files
from transforms.inputs.names import NO_SPLIT, kind_of, paired, split_of
from transforms.inputs.notes import Described, notes_of
from transforms.json_documents import MAX_COUNT
from transforms.settings import MAX_UNPACKED_BYTES, SHARD_SIZE
from transforms.storage.files import (
    REQUESTS_AT_ONCE,
    FoundFile,
    is_local,
)


class _Inspected(NamedTuple):
    """A file, some of the images in it, and the file of their labels."""

    found: FoundFile
    part: Part
    labels: FoundFile | None

    @property
    def split(self) -> str:
        return split_of(self.part.name).split


def stretches_of(
    pattern: str | Sequence[str],
    shard_size: int = SHARD_SIZE,
    labels: str | Sequence[str] = (),
    orientation: str = "auto",
) -> list[Stretch]:
    """The shards of files, for ReadImages.

    pattern, labels, orientation: as files_dataset has them. Raises InputError as that does, and for
    a file that has to be unpacked first.
    """
    dataset = files_dataset(pattern, labels, orientation)
    for file in dataset.files:
        if file.segment.here:
            raise InputError(
                f"{file.segment.name}: has to be unpacked before it can be read: unpack it"
            )
    return cut_stretches(dataset, shard_size)


def files_dataset(  # noqa: PLR0913  # As many as there are flags of files.
    pattern: str | Sequence[str],
    labels_pattern: str | Sequence[str] | None,
    orientation: str,
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    *,
    invert: str = "auto",
    max_pixel: int | None = None,
    member: str | None = None,
    fit: bool = False,
) -> Dataset:
    """The dataset that files make up; only headers, footers and labels are read.

    pattern: a file, a folder, a glob, or several of these. labels_pattern: the same of files of
    labels, one for each file of images, paired by name; None or nothing to use those that are next
    to the images, or in a column. orientation: upright, transposed, or auto, which is transposed
    for files of EMNIST by NIST's names. invert: yes, no, or auto, by looking, whether images are
    dark on light. max_pixel: the value that stands for white; None to see it. member: a glob of
    names within a zip, .npz or .mat; None for all. fit: whether images of other sizes are brought
    to 28x28.

    Files of one split follow each other in the order of their names, several patterns in the order
    in which they are given. Raises InputError where a file is not what it should be, or unpacks to
    more than `max_unpacked_bytes`, and where names contradict each other.
    """
    patterns, labels_patterns = _several(pattern), _several(labels_pattern)
    wanted = Wanted(orientation, invert, max_pixel, max_unpacked_bytes, member, fit)
    matched = match_files(patterns, "--input")
    for file in matched.files:
        _check_split(file.path)
    opened = [file for file in matched.files if not pictures.is_picture(file.path)]
    # A request waits for its answer.
    at_once = 1 if all(map(is_local, patterns)) else REQUESTS_AT_ONCE
    pa.set_io_thread_count(max(at_once, pa.io_thread_count()))  # Arrow reads by its own threads.
    with ThreadPoolExecutor(at_once) as pool:
        heads, labels_heads = _without_labels(list(pool.map(read_head, opened)))
        given = _given_labels(heads, labels_patterns)
        labels = given or labels_next_to(heads, labels_heads)
        parts = pool.map(_inspected, heads, labels, repeat(wanted))
        inspected = [part for of_file in parts for part in of_file]
        inspected += _pictures(matched.files, wanted)
        described = with_common_classes([with_characters(file.part) for file in inspected])
        common, seen = with_appearance(described, wanted, pool)
    inspected = [file._replace(part=part) for file, part in zip(inspected, common, strict=True)]
    files = _numbered(inspected)
    if not any(file.segment.rows for file in files):
        raise InputError(f"--input={patterns[0]} holds no images: give files that hold some")
    noted = [Described(file.part, file.labels) for file in inspected]
    unused = [head.found for head in labels_heads if head.found not in labels]
    return Dataset(
        ", ".join(patterns),
        tuple(file for file in files if file.segment.rows),
        _merged_characters(inspected),
        tuple(_sources(inspected)),
        notes=(*notes_of(noted, matched.left_out, unused), *seen),
        scratch=wanted.scratch,
    )


def _several(pattern: str | Sequence[str] | None) -> tuple[str, ...]:
    return (pattern,) if isinstance(pattern, str) else tuple(pattern or ())


def _check_split(path: str) -> None:
    split = split_of(path).split
    if not is_split_name(split):
        raise InputError(
            f"{path}: its folder says split={split}: call a split by letters, digits, spaces, - . "
            "and _"
        )


def _without_labels(heads: Sequence[Content]) -> tuple[list[Content], list[Content]]:
    """The files of images, and those of labels that a glob or folder matches with them."""
    images = [head for head in heads if not holds_labels(head)]
    if not images:
        return list(heads), []
    return images, [head for head in heads if holds_labels(head)]


def _given_labels(heads: Sequence[Content], patterns: Sequence[str]) -> list[FoundFile]:
    """The labels of --labels for each file of images; nothing where none are given."""
    if not patterns:
        return []
    images = [head.found.path for head in heads]
    labels = match_files(patterns, "--labels").files
    shown = ", ".join(patterns)
    if len(labels) != len(images):
        raise InputError(
            f"--labels={shown} matches {_files(len(labels))} and --input {_files(len(images))} of "
            "images: give one file of labels for each file of images"
        )
    order = paired(images, [file.path for file in labels])
    if order is None:
        raise InputError(
            f"--labels={shown}: the names do not say which labels are of {images[0]}, and which of "
            f"{images[1]}: call images and labels alike (train and test, the same numbers), or "
            "compress one file at a time"
        )
    given = [labels[position] for position in order]
    for image, file in zip(images, given, strict=True):
        _check_agree(image, file.path)
    return given


def _check_agree(images: str, labels: str) -> None:
    """Raises InputError where the names of images and their labels name different data."""
    for said, other in (
        (split_of(images).split, split_of(labels).split),
        (kind_of(images), kind_of(labels)),
    ):
        if said != other and {said, other}.isdisjoint({NO_SPLIT, None}):
            raise InputError(
                f"{labels}: its name says {other}, and that of its images, {images}, says {said}: "
                "give the labels of these images by --labels"
            )


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _inspected(head: Content, labels: FoundFile | None, wanted: Wanted) -> list[_Inspected]:
    parts = describe(head, wanted)
    if labels is None:
        return [_Inspected(head.found, part, None) for part in parts]
    part = parts[0]
    if len(parts) > 1 or has_labels(part.segment):
        raise InputError(
            f"--labels={labels.path}: {head.name} has its labels in a column of its own: leave it "
            "out"
        )
    given = checked_labels(labels, head.found.path, part.segment.rows)
    part = part._replace(segment=part.segment.with_labels(given))
    return [_Inspected(head.found, part, labels)]


def _pictures(files: Sequence[FoundFile], wanted: Wanted) -> Iterator[_Inspected]:
    """Files of one image each, put together by the splits that their paths say."""
    by_split: dict[str, list[FoundFile]] = {}
    for file in files:
        if pictures.is_picture(file.path):
            by_split.setdefault(split_of(file.path).split, []).append(file)
    for some in by_split.values():
        part = pictures.describe_files(some, wanted)
        segment = part.segment
        yield _Inspected(
            FoundFile(segment.path, segment.bytes, pictures.version_of(some)), part, None
        )


def _numbered(inspected: Sequence[_Inspected]) -> list[ImageFile]:
    """The files with the image_ids that they have, or that follow from their order."""
    files, following = [], Counter[str]()
    for file in inspected:
        segment, split, part = file.part.segment, file.split, file.part
        if not part.has_image_ids:
            segment = segment._replace(first_image_id=following[split])
        elif segment.rows and segment.first_image_id < following[split]:
            raise InputError(
                f"{segment.path}: begins with image_id {segment.first_image_id} of split {split}, "
                f"and a file before it goes up to {following[split] - 1}: give each image once, in "
                "order"
            )
        last = segment.first_image_id + segment.rows - 1
        if part.last_image_id is not None:
            last = max(last, part.last_image_id)
        if last >= MAX_COUNT:
            raise InputError(
                f"{segment.path}: has image_id {last}, which is too large: count from 0"
            )
        following[split] = last + 1
        files.append(ImageFile(split, segment, part.row_groups, part.footer_bytes))
    return files


def _merged_characters(inspected: Sequence[_Inspected]) -> dict[int, str]:
    """What the labels stand for; nothing where a file with labels does not say."""
    if any(has_labels(file.part.segment) and not file.part.characters for file in inspected):
        return {}
    merged: dict[int, str] = {}
    for file in inspected:
        for label, character in file.part.characters.items():
            if merged.setdefault(label, character) != character:
                raise InputError(
                    f"{file.found.path}: label {label} stands for {character!r} here and for "
                    f"{merged[label]!r} in a file before it: compress them apart"
                )
    return merged


def _sources(inspected: Sequence[_Inspected]) -> Iterator[Source]:
    for file in inspected:
        for found in (file.found, *filter(None, (file.labels,))):
            yield Source(found.path, file.split, found.bytes, version=found.version)
