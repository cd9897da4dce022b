"""The interface of a reader: the rows of a segment, as they are stored."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from transforms.errors import InputError
from transforms.images import MAX_PIXEL, Segment
from transforms.storage.files import FoundFile, find_files


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a file, as they are stored.

    pixels: uint8 (n, 784), of the rows that could be read. labels: int32 (count,), image_ids: int64
    (count,); None where the file has none. reasons: why a row could not be read, by its position.
    """

    count: int
    pixels: np.ndarray
    labels: np.ndarray | None = None
    image_ids: np.ndarray | None = None
    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def readable(self) -> np.ndarray:
        """The positions of the rows that could be read."""
        return np.delete(np.arange(self.count), list(self.reasons))

    def slice(self, start: int, stop: int) -> "Rows":
        """Some of the rows, by position."""
        if (start, stop) == (0, self.count):
            return self
        before = sum(position < start for position in self.reasons)
        within = {
            position - start: reason
            for position, reason in self.reasons.items()
            if start <= position < stop
        }
        count = stop - start
        first = start - before
        return Rows(
            count,
            self.pixels[first : first + count - len(within)],
            None if self.labels is None else self.labels[start:stop],
            None if self.image_ids is None else self.image_ids[start:stop],
            within,
        )


class Reader(Protocol):
    """A module that reads the rows of segments."""

    def read(self, segment: Segment, batch_size: int) -> Iterator[Rows]:
        """The rows of a segment in order, no more than `batch_size` at once."""


def to_pixels(path: str, values: np.ndarray, scale: float) -> np.ndarray:
    """Values as uint8, times `scale`. Raises InputError for one that is then not from 0 to 255."""
    if values.dtype == np.uint8 and scale == 1:
        return values
    scaled = values.astype(np.float64) * scale if values.dtype.kind in "bf" else values
    if scaled.size and not (scaled.min() >= 0 and scaled.max() <= MAX_PIXEL):
        raise InputError(
            f"{path}: its pixels run from {values.min()} to {values.max()}, and those before "
            f"from 0 to {MAX_PIXEL / scale:g}: save all of them as uint8, from 0 to {MAX_PIXEL}"
        )
    return np.rint(scaled).astype(np.uint8)


def found_of(segment: Segment) -> FoundFile:
    """The segment's file as it was when the shard was planned, or as it is if nobody looked."""
    found = segment.found or next(iter(find_files(segment.path)), None)
    if found is None:
        raise FileNotFoundError("there is no such file")
    return found
