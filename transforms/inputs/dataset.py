"""A dataset: which images there are, in which files, and how they are cut into shards."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from transforms.images import Segment, Shard, ShardKey, Stretch
from transforms.json_documents import Count

_DIGITS = "0123456789"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Where upper and lower case look alike, balanced and bymerge have one class for both; these
# lower-case letters have a class of their own (Cohen et al. 2017, section II.D).
_MERGED = _DIGITS + _UPPER + "abdefghnqrt"

CHARACTERS: dict[str, dict[int, str]] = {
    "sample": dict(enumerate(_DIGITS)),
    "balanced": dict(enumerate(_MERGED)),
    "byclass": dict(enumerate(_DIGITS + _UPPER + _UPPER.lower())),
    "bymerge": dict(enumerate(_MERGED)),
    # Labels 1 to 26; each class holds the upper and the lower case of its letter.
    "letters": dict(enumerate(_UPPER, start=1)),
    "digits": dict(enumerate(_DIGITS)),
    "mnist": dict(enumerate(_DIGITS)),
}
"""What each label stands for, by dataset (Cohen et al. 2017, arXiv:1702.05373)."""

_SPLIT_NAME = re.compile(r"\w[\w .-]*")
_READ_TWICE = 40
"""What is read twice is at most one part in so many."""


class Source(msgspec.Struct, frozen=True):
    """A file that images or labels came from. split: None where it holds several. bytes: on disk.

    sha256: None until somebody has read it all. version: as a listing shows it, which changes when
    the file is written to; None where nobody has looked.
    """

    path: str
    split: str | None
    bytes: Count
    sha256: str | None = None
    version: str | None = None


class ImageFile(NamedTuple):
    """A file of images: the rows of its segment follow those of the split's file before it.

    row_groups: the rows of each row group of a Parquet file; empty for a file that is read whole.
    footer_bytes: what of it is read besides each time that it is opened.
    """

    split: str
    segment: Segment
    row_groups: tuple[int, ...] = ()
    footer_bytes: int = 0


@dataclass(frozen=True)
class Dataset:
    """Images in files.

    fingerprint: SHA-256 of the content, None where nobody has read it yet. notes: what was taken
    for granted of the files, in lines for people. scratch: holds the files that were unpacked to be
    read; they are gone when it is.
    """

    name: str
    files: tuple[ImageFile, ...]
    characters: dict[int, str]
    sources: tuple[Source, ...]
    fingerprint: str | None = None
    notes: tuple[str, ...] = ()
    scratch: Any = field(default=None, compare=False)

    @property
    def rows(self) -> dict[str, int]:
        """Images in each split."""
        return {
            split: sum(file.segment.rows for file in self.files if file.split == split)
            for split in split_names(self.files)
        }


def split_names(files: Sequence[ImageFile]) -> list[str]:
    """The splits that there are: train, test, then others by name."""
    order = {"train": 0, "test": 1}
    return sorted({file.split for file in files}, key=lambda name: (order.get(name, 2), name))


def is_split_name(name: str) -> bool:
    """Whether a split may be called so: it becomes a part of paths, which readers take apart."""
    return _SPLIT_NAME.fullmatch(name) is not None


def shard_keys(split: str, rows: int, shard_size: int) -> Iterator[tuple[int, ShardKey]]:
    """(first row, key) of each shard of a split: `shard_size` rows, the last one shorter."""
    starts = range(0, rows, shard_size)
    for number, start in enumerate(starts):
        yield start, ShardKey(split, number, len(starts), min(shard_size, rows - start))


def cut_shards(dataset: Dataset, shard_size: int) -> list[Shard]:
    """The shards of a dataset, each with the segments of files that make it up."""
    return [shard for stretch in cut_stretches(dataset, shard_size) for shard in stretch.shards]


def cut_stretches(dataset: Dataset, shard_size: int) -> list[Stretch]:
    """The shards of a dataset, those together that would else read much of a file twice.

    A shard is alone where its ends are in raw files, or between files. A cut within a Parquet file
    costs its footer, and a row group if it is within one; it is made where _READ_TWICE times as
    much has been read since the last one that cost anything.
    """
    stretches = []
    for split, rows in dataset.rows.items():
        files = [file for file in dataset.files if file.split == split]
        segments = [file.segment for file in files]
        ends = list(accumulate(segment.rows for segment in segments))
        units = list(_units(files))
        waiting: list[Shard] = []
        read = 0
        for start, key in shard_keys(split, rows, shard_size):
            waiting.append(Shard(key, tuple(_cut(segments, ends, start, key.rows))))
            read += key.rows
            cost = _rows_read_twice(units, start + key.rows)
            if cost * _READ_TWICE <= read or start + key.rows == rows:
                stretches.append(Stretch(tuple(waiting)))
                waiting, read = [], 0 if cost else read
    return stretches


class _Unit(NamedTuple):
    """Rows that are read together. What a cut costs, in rows: before them, and within them."""

    start: int
    before: float
    within: float


def _units(files: Sequence[ImageFile]) -> Iterator[_Unit]:
    start = 0
    for segment, row_groups, footer_bytes in (file[1:] for file in files):
        footer = footer_bytes * segment.rows / max(1, segment.bytes)
        for number, rows in enumerate(row_groups or (segment.rows,)):
            within = footer + rows if segment.format == "parquet" or segment.packing else 0
            yield _Unit(start, footer if number else 0, within)
            start += rows


def _rows_read_twice(units: Sequence[_Unit], row: int) -> float:
    """What it costs to cut before a row of a split."""
    unit = units[bisect_right(units, row, key=attrgetter("start")) - 1]
    return unit.before if row == unit.start else unit.within


def _cut(
    segments: Sequence[Segment], ends: Sequence[int], start: int, rows: int
) -> Iterator[Segment]:
    """The rows from `start` on of segments laid end to end; ends: the row after each."""
    for index in range(bisect_right(ends, start), len(segments)):
        segment, end = segments[index], ends[index]
        before = end - segment.rows
        if before >= start + rows:
            return
        skip = max(start, before) - before
        taken = min(start + rows, end) - before - skip
        if taken > 0:
            yield segment.part(skip, taken)
