"""A dataset: which images there are, in which files they lie, and how they are cut into shards."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from beam_job.recorded import without_credentials
from transforms.errors import InputError, first_line
from transforms.files import exists, join_path, last_updated
from transforms.images import LABEL_COLUMN, Segment, Shard, ShardKey
from transforms.json_documents import (
    check_shape,
    check_version,
    is_count,
    is_name,
    is_path_below,
    read_json,
)
from transforms.printable import is_unicode

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

PUBLISHED_ROWS: dict[str, dict[str, int]] = {
    "sample": {"train": 1_500, "test": 297},
    "balanced": {"train": 112_800, "test": 18_800},
    "byclass": {"train": 697_932, "test": 116_323},
    "bymerge": {"train": 697_932, "test": 116_323},
    "letters": {"train": 124_800, "test": 20_800},
    "digits": {"train": 240_000, "test": 40_000},
    "mnist": {"train": 60_000, "test": 10_000},
}
"""Images in each split, as NIST publishes them; for plans made before the archive is there."""

_SPLIT_NAME = re.compile(r"\w[\w .-]*")

DATASET_FILE = "dataset.json"
"""Written last: a staged dataset is there if, and only if, this file is."""

DATASET_VERSION = 1
"""The newest version of DATASET_FILE, and the one that is written."""

MAX_IMAGES = 1 << 32
"""In a dataset that was staged: one that says more was altered."""

SOURCE = {"path": str, "split": (str, None), "bytes": is_count, "sha256": (str, None)}
"""The shape of a Source in JSON."""
_STAGED = {
    "name": str,
    "fingerprint": str,
    "characters": {...: str},
    "sources": [SOURCE],
    "files": [
        {
            "path": is_path_below,
            "split": is_name,
            "rows": is_count,
            "first_image_id": is_count,
            "sha256": str,
        }
    ],
}


class Source(NamedTuple):
    """A file that images or labels came from. split: None where it holds several. bytes: on disk.

    sha256: None until somebody has read it all.
    """

    path: str
    split: str | None
    bytes: int
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; a URL without credentials."""
        return {**self._asdict(), "path": without_credentials(self.path)}


class ImageFile(NamedTuple):
    """A file of images: the rows of its segment follow those of the split's file before it."""

    split: str
    segment: Segment


@dataclass(frozen=True)
class Dataset:
    """Images in files. fingerprint: SHA-256 of the content, None where nobody has read it yet.

    updated: when the files were last written to, as last_updated has it, before anything of them
    was read; of those alone whose checksums nobody knows.
    """

    name: str
    files: tuple[ImageFile, ...]
    characters: dict[int, str]
    sources: tuple[Source, ...]
    fingerprint: str | None = None
    updated: Mapping[str, float] = field(default_factory=dict)

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


def counts_in_words(rows: Mapping[str, int]) -> str:
    """How many images each split has, for an error to say."""
    return " and ".join(f"{count:,} images of split {split}" for split, count in rows.items())


def shard_keys(split: str, rows: int, shard_size: int) -> Iterator[tuple[int, ShardKey]]:
    """(first row, key) of each shard of a split: `shard_size` rows, the last one shorter."""
    starts = range(0, rows, shard_size)
    for number, start in enumerate(starts):
        yield start, ShardKey(split, number, len(starts), min(shard_size, rows - start))


def cut_shards(dataset: Dataset, shard_size: int) -> list[Shard]:
    """The shards of a dataset, each with the segments of files that make it up."""
    shards = []
    for split, rows in dataset.rows.items():
        segments = [file.segment for file in dataset.files if file.split == split]
        ends = list(accumulate(segment.rows for segment in segments))
        for start, key in shard_keys(split, rows, shard_size):
            shards.append(Shard(key, tuple(_cut(segments, ends, start, key.rows))))
    return shards


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
            yield segment._replace(
                rows=taken,
                first_row=segment.first_row + skip,
                first_image_id=segment.first_image_id + skip,
                labels=segment.labels and segment.labels[skip : skip + taken],
            )


def staged_folder(data_dir: str, name: str) -> str:
    """Where a dataset is staged."""
    return join_path(data_dir, name)


def staged_dataset(data_dir: str, name: str) -> Dataset | None:
    """The dataset as it is staged, None where it is not.

    Raises InputError where its description cannot be read, or has a newer format.
    """
    folder = staged_folder(data_dir, name)
    path = join_path(folder, DATASET_FILE)
    if not exists(path):
        return None
    try:
        description = read_json(path)
        check_version(description, DATASET_VERSION, path)
        return _described(folder, description)
    except (ValueError, TypeError, OSError) as error:
        raise InputError(
            f"{path} is not what stage writes ({type(error).__name__}: {first_line(error)}): "
            f"remove {folder} and run it again"
        ) from error


def _described(folder: str, description: dict[str, Any]) -> Dataset:
    check_shape(description, _STAGED)
    images = sum(file["rows"] for file in description["files"])
    if images > MAX_IMAGES:
        raise ValueError(f"it says that there are {images:,} images")
    files = tuple(
        ImageFile(
            file["split"],
            Segment(
                join_path(folder, *file["path"].split("/")),
                "parquet",
                file["rows"],
                0,
                file["first_image_id"],
                label_column=LABEL_COLUMN,
                sha256=file["sha256"],
            ),
        )
        for file in description["files"]
    )
    characters = {int(label): name for label, name in description["characters"].items()}
    if not all(map(is_split_name, split_names(files))):
        raise ValueError("a split is no name for a folder")
    if not all(map(is_unicode, characters.values())):
        raise ValueError("a character is no Unicode text")
    return Dataset(
        description["name"],
        files,
        characters,
        tuple(Source(**source) for source in description["sources"]),
        description["fingerprint"],
    )


def check_unchanged(updated: Mapping[str, float]) -> None:
    """Raises InputError where a file has been written to since, or is gone.

    updated: as Dataset has it.
    """
    try:
        now = last_updated(list(updated))
    except OSError as error:
        raise InputError(
            f"an input went away while the job read it ({error}): put it back, and run it again"
        ) from error
    for path, before in updated.items():
        if now[path] != before:
            raise InputError(
                f"{path}: was written to while the job read it, so nothing is published: leave the "
                "input as it is while the job runs, then run it again"
            )


def with_checksums(sources: Sequence[Source], checksums: Mapping[str, str]) -> tuple[Source, ...]:
    """The sources as they are recorded: with the SHA-256 that was found, without credentials."""
    return tuple(
        source._replace(
            path=without_credentials(source.path),
            sha256=checksums.get(source.path, source.sha256),
        )
        for source in sources
    )
