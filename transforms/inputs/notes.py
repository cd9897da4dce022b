"""What a run takes for granted of files, in lines for people: the only place that words it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from transforms.inputs.formats.part import Part
from transforms.inputs.matching import LeftOut
from transforms.inputs.names import split_of
from transforms.storage.files import FoundFile

_SHOWN = 3
"""Of a list; the manifest's sources have all."""


class Described(NamedTuple):
    """Images as notes speak of them. labels: the file that they are in, if in another."""

    part: Part
    labels: FoundFile | None


def notes_of(
    files: Sequence[Described], left_out: Sequence[LeftOut], unused: Sequence[FoundFile]
) -> Iterator[str]:
    """The notes of a dataset of files. unused: files of labels that are of none of the images."""
    first, *others = (_name(file.part.segment.name) for file in files)
    yield f"files: {first}" + (f" and {_counted(len(others), 'other')}" if others else "")
    left = [f"{_name(file.path)} ({file.reason})" for file in left_out]
    left += [f"{_name(file.path)} (labels, and of no file of images here)" for file in unused]
    if left:
        yield f"left out: {_some(left)}"
    yield f"splits: {_some(_splits(files), 5)}"
    yield f"labels: {_some(_labels(files))}"
    yield from (note for file in files for note in file.part.notes)


def _splits(files: Sequence[Described]) -> list[str]:
    """Each split, and what names it."""
    by_name = {(named := split_of(file.part.name)).split: named.by for file in files}
    return [
        f"{split} (named by {by})" if by else f"{split} (no name says another)"
        for split, by in sorted(by_name.items())
    ]


def _labels(files: Sequence[Described]) -> list[str]:
    said = Counter[str]()
    for part, labels in files:
        if labels is not None:
            said[f"{_name(labels.path)} for {_name(part.segment.name)}"] += 1
        elif part.labels_in:
            said[part.labels_in] += 1
        else:
            said["none found"] += 1
    return [
        f"{what} for {_counted(count, 'file')}" if len(said) > 1 and " for " not in what else what
        for what, count in said.items()
    ]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _some(items: Sequence[str], most: int = _SHOWN) -> str:
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more:,} more" if more > 0 else "")
