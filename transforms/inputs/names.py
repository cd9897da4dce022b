"""What the paths of files say: the split, the dataset of EMNIST, and which labels go with them."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain
from operator import and_
from pathlib import PurePosixPath
from typing import NamedTuple

from transforms.inputs.dataset import CHARACTERS

NO_SPLIT = "all"
"""The split of files whose paths name none."""

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
}
_KINDS = CHARACTERS.keys() - {"sample"}
_IMAGE_WORDS = {"images", "image", "img", "imgs", "pixels", "x"}
_LABEL_WORDS = {"labels", "label", "lab", "lbl", "lbls", "targets", "target", "y"}
_PLAIN_WORDS = {
    *_SPLITS,
    *_KINDS,
    *_IMAGE_WORDS,
    *_LABEL_WORDS,
    *("emnist", "raw", "data", "dataset", "set", "split", "files", "gzip", "nist", "idx", "npy"),
}
"""A folder that is called by these words alone speaks of its files; `emnist-latents` does not."""

_EMNIST = re.compile(r"(?<![a-z])emnist", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"t10k|[^\W\d_]+|\d+")
_FORMAT = re.compile(r"([-._]?idx\d)?([-._]ubyte)?(\.(npy|npz|parquet|csv|gz|xz|zst|zip|bz2))*$")

Word = str | int


class NamedSplit(NamedTuple):
    """A split, and the file or folder whose name says it; empty where none does."""

    split: str
    by: str = ""


def words(name: str) -> list[Word]:
    """The words of a name in lower case, numbers as such, splits by one word each."""
    found = _WORD.findall(_CAMEL.sub("_", _EMNIST.sub("_emnist_", name)).lower())
    return [int(word) if word.isdecimal() else _SPLITS.get(word, word) for word in found]


def _parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(path.replace("\\", "/")).parts


def _speaking_folders(path: str) -> Iterator[tuple[str, list[Word]]]:
    """(name, words) of the folders that are called by plain words alone, the nearest first."""
    for part in reversed(_parts(path)[:-1]):
        found = words(part)
        if found and all(word in _PLAIN_WORDS for word in found):
            yield part, found


def _speaking_names(path: str) -> Iterator[list[Word]]:
    yield words(_parts(path)[-1])
    yield from (found for _, found in _speaking_folders(path))


def split_of(path: str) -> NamedSplit:
    """The split that a folder split=NAME says, else the file's name, else the nearest folder's."""
    *folders, name = _parts(path)
    for part in reversed(folders):
        if part.startswith("split="):
            return NamedSplit(part.removeprefix("split="), part)
    for part, found in chain([(name, words(name))], _speaking_folders(path)):
        named = {word for word in found if word in _SPLITS.values()}
        if len(named) == 1:
            return NamedSplit(str(named.pop()), part)
        if named:
            break
    return NamedSplit(NO_SPLIT)


def is_of_emnist(path: str) -> bool:
    """Whether a file is called by EMNIST's name, or a folder of it is."""
    return "emnist" in chain(
        words(_parts(path)[-1]), *(found for _, found in _speaking_folders(path))
    )


def kind_of(path: str) -> str | None:
    """Which of EMNIST's datasets a file of it is called by: balanced, byclass, ..."""
    if not is_of_emnist(path):
        return None
    for found in _speaking_names(path):
        for word in found:
            if word in _KINDS:
                return str(word)
    return None


def is_called_images(path: str) -> bool:
    """Whether a name says that the file is one of images, so that one of labels may be near."""
    return bool(_IMAGE_WORDS & set(words(_parts(path)[-1])))


def is_called_labels(path: str) -> bool:
    """Whether a name says that the file is one of labels."""
    return bool(_LABEL_WORDS & set(words(_parts(path)[-1])))


def subject_of(path: str) -> tuple[Word, ...]:
    """What a file is of, besides images or labels: the same for a file of images and its labels."""
    name = _FORMAT.sub("", _parts(path)[-1])
    return tuple(word for word in words(name) if word not in _IMAGE_WORDS | _LABEL_WORDS)


def paired(images: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """For each file of images the position of its labels, by name; None where names contradict.

    There are as many of the one as of the other. They are paired by all words that vary, else by
    split and number, else by split. The order decides where there is one of each, and where names
    have nothing in common that could contradict it.
    """
    of_images, of_labels = _varying(images), _varying(labels)
    for chosen in (_all, _splits_and_numbers, _splits):
        keys = [chosen(found) for found in of_images]
        others = [chosen(found) for found in of_labels]
        if len(set(keys)) == len(keys) and sorted(keys, key=repr) == sorted(others, key=repr):
            return [others.index(key) for key in keys]
    return list(range(len(images))) if _say_nothing(of_images, of_labels) else None


def _varying(paths: Sequence[str]) -> list[list[Word]]:
    """The words of each path that not all of them have, without those for images and labels."""
    found = [
        [word for part in _parts(path)[:-1] for word in words(part)] + list(subject_of(path))
        for path in paths
    ]
    common = reduce(and_, map(Counter, found))
    return [_without(each, Counter(common)) for each in found]


def _without(found: Sequence[Word], common: Counter[Word]) -> list[Word]:
    left = []
    for word in reversed(found):
        if common[word] > 0:
            common[word] -= 1
        elif word not in _IMAGE_WORDS | _LABEL_WORDS:
            left.append(word)
    return left[::-1]


def _all(found: Sequence[Word]) -> tuple[Word, ...]:
    return tuple(found)


def _splits_and_numbers(found: Sequence[Word]) -> tuple[Word, ...]:
    return tuple(word for word in found if isinstance(word, int) or word in _SPLITS.values())


def _splits(found: Sequence[Word]) -> tuple[Word, ...]:
    return tuple(word for word in found if word in _SPLITS.values())


def _say_nothing(images: Sequence[Sequence[Word]], labels: Sequence[Sequence[Word]]) -> bool:
    """Whether no word of the ones could be meant to lead to one of the others."""
    for own, other in ((images, labels), (labels, images)):
        if any(map(_splits, own)) or set(chain(*own)) & set(chain(*other)):
            return False
        numbers = [[word for word in found if isinstance(word, int)] for found in own]
        if numbers != sorted(numbers):  # By name 10 comes before 2: which order is meant?
            return False
    has_numbers = [any(isinstance(word, int) for word in chain(*side)) for side in (images, labels)]
    return not all(has_numbers)
