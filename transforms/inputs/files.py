"""The dataset that files make up: a glob of images, and their labels."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from transforms.errors import InputError, first_line
from transforms.images import Segment, Stretch
from transforms.inputs.dataset import Dataset, ImageFile, Source, cut_stretches, is_split_name
from transforms.inputs.formats import GZIP, Facts, Head, inspect, read_head
from transforms.inputs.labels import checked_labels, labels_next_to
from transforms.json_documents import MAX_COUNT
from transforms.printable import is_unicode
from transforms.settings import MAX_UNPACKED_BYTES, SHARD_SIZE
from transforms.storage.files import (
    REQUESTS_AT_ONCE,
    FoundFile,
    find_files,
    is_local,
    join_path,
)


class _Inspected(NamedTuple):
    """A file, what it turned out to be, and the file of its labels."""

    found: FoundFile
    facts: Facts
    labels: FoundFile | None

    @property
    def split(self) -> str:
        return split_name(self.found.path)


def stretches_of(
    pattern: str,
    shard_size: int = SHARD_SIZE,
    labels: str | None = None,
    orientation: str = "auto",
) -> list[Stretch]:
    """The shards of the files that a glob matches, for ReadImages.

    labels: a glob of files of labels, one for each file of images; None to use those that are next
    to NIST's files, or in a column. orientation: upright, transposed, or auto, which is transposed
    for NIST's files alone. Raises InputError as files_dataset does, and for a gzip.
    """
    dataset = files_dataset(pattern, labels, orientation)
    for file in dataset.files:
        if file.segment.format == GZIP:
            raise InputError(
                f"{file.segment.path}: is a gzip, which cannot be read from the middle: unpack it"
            )
    return cut_stretches(dataset, shard_size)


def files_dataset(
    pattern: str,
    labels_pattern: str | None,
    orientation: str,
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
) -> Dataset:
    """The dataset that the matched files make up; only headers, footers and labels are read.

    Files of one split follow each other in the order of their names. Raises InputError where a
    file is not what it should be, or unpacks to more than `max_unpacked_bytes`.
    """
    found = _matched(pattern, "--input")
    for file in found:
        _check_split(file.path)
    at_once = 1 if is_local(pattern) else REQUESTS_AT_ONCE  # A request waits for its answer.
    pa.set_io_thread_count(max(at_once, pa.io_thread_count()))  # Arrow reads by its own threads.
    with ThreadPoolExecutor(at_once) as pool:
        heads = _without_labels(list(pool.map(read_head, found)))
        labels = _labels_of([head.found for head in heads], pattern, labels_pattern)
        limits = repeat(orientation), repeat(max_unpacked_bytes)
        inspected = list(pool.map(_inspected, heads, labels, *limits))
    files = _numbered(inspected)
    if not any(file.segment.rows for file in files):
        raise InputError(f"--input={pattern} holds no images: give files that hold some")
    return Dataset(
        pattern,
        tuple(file for file in files if file.segment.rows),
        _merged_characters(inspected),
        tuple(_sources(inspected)),
    )


def split_name(path: str) -> str:
    """The split that a file's name says: train or test (or a folder split=NAME), else all."""
    posix = PurePosixPath(path.replace("\\", "/"))
    for part in reversed(posix.parts[:-1]):
        if part.startswith("split="):
            return part.removeprefix("split=")
    named = set(re.findall(r"(?<![a-z])(train|test)(?![a-z])", posix.name.lower()))
    return named.pop() if len(named) == 1 else "all"


def _check_split(path: str) -> None:
    if not is_split_name(split_name(path)):
        raise InputError(
            f"{path}: its folder says split={split_name(path)}: call a split by letters, digits, "
            "spaces, - . and _"
        )


def _matched(pattern: str, flag: str) -> list[FoundFile]:
    if is_local(pattern) and Path(pattern).is_dir():
        raise InputError(
            f"{flag}={pattern} is a folder: give a file, or a glob such as "
            f"{join_path(pattern, '*')}"
        )
    try:
        found = find_files(pattern)
    except OSError as error:
        raise InputError(
            f"{flag}={pattern} cannot be looked up ({first_line(error)}): correct the path, or let "
            "it be read"
        ) from error
    if not found:
        raise InputError(f"{flag}={pattern} matches no file: give a file or a glob that does")
    for file in found:
        if not is_unicode(file.path):
            raise InputError(f"{file.path}: its name is no Unicode text: rename it")
    return found


def _without_labels(heads: list[Head]) -> list[Head]:
    """A glob over NIST's files matches the labels too; those are found again by their name."""
    images = [head for head in heads if not head.is_labels]
    return images or heads


def _labels_of(
    images: Sequence[FoundFile], pattern: str, labels_pattern: str | None
) -> Sequence[FoundFile | None]:
    if labels_pattern is None:
        return labels_next_to(images)
    labels = _matched(labels_pattern, "--labels")
    if len(labels) != len(images):
        raise InputError(
            f"--labels={labels_pattern} matches {_files(len(labels))} and --input={pattern} "
            f"{_files(len(images))}: give one file of labels for each file of images"
        )
    return labels


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _inspected(
    head: Head, labels: FoundFile | None, orientation: str, max_unpacked_bytes: int
) -> _Inspected:
    facts = inspect(head, orientation, max_unpacked_bytes)
    if labels is not None:
        if facts.segment.format == "parquet":
            raise InputError(
                f"--labels={labels.path}: Parquet has its labels in a column of its own: leave it "
                "out"
            )
        given = checked_labels(labels, head.found.path, facts.segment.rows)
        facts = facts._replace(segment=facts.segment._replace(labels=given))
    return _Inspected(head.found, facts, labels)


def _numbered(inspected: Sequence[_Inspected]) -> list[ImageFile]:
    """The files with the image_ids that they have, or that follow from their order."""
    files, following = [], Counter[str]()
    for file in inspected:
        segment, split, facts = file.facts.segment, file.split, file.facts
        if not facts.has_image_ids:
            segment = segment._replace(first_image_id=following[split])
        elif segment.rows and segment.first_image_id < following[split]:
            raise InputError(
                f"{segment.path}: begins with image_id {segment.first_image_id} of split {split}, "
                f"and a file before it goes up to {following[split] - 1}: give each image once, in "
                "order"
            )
        last = segment.first_image_id + segment.rows - 1
        if facts.last_image_id is not None:
            last = max(last, facts.last_image_id)
        if last >= MAX_COUNT:
            raise InputError(
                f"{segment.path}: has image_id {last}, which is too large: count from 0"
            )
        following[split] = last + 1
        files.append(ImageFile(split, segment, facts.row_groups, facts.footer_bytes))
    return files


def _merged_characters(inspected: Sequence[_Inspected]) -> dict[int, str]:
    """What the labels stand for; nothing where a file with labels does not say."""
    if any(_has_labels(file.facts.segment) and not file.facts.characters for file in inspected):
        return {}
    merged: dict[int, str] = {}
    for file in inspected:
        for label, character in file.facts.characters.items():
            if merged.setdefault(label, character) != character:
                raise InputError(
                    f"{file.found.path}: label {label} stands for {character!r} here and for "
                    f"{merged[label]!r} in a file before it: compress them apart"
                )
    return merged


def _has_labels(segment: Segment) -> bool:
    in_column = segment.format == "parquet" and segment.label_column is not None
    return in_column or segment.labels is not None


def _sources(inspected: Sequence[_Inspected]) -> Iterator[Source]:
    for file in inspected:
        for found in (file.found, *filter(None, (file.labels,))):
            yield Source(found.path, file.split, found.bytes, version=found.version)
