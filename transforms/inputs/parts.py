"""Parts of files: no byte is read that is not needed, and none of a file that has changed."""

import io
import os
from typing import Any

from transforms.errors import ChangedError, InputError, first_line
from transforms.images import Segment
from transforms.storage.files import FoundFile, is_local, read_range

_MOST_LOOKED_AT = 64 << 10
_LEAST_LOOKED_AT = 4 << 10
_HEAD_SHARE, TAIL_SHARE = 200, 100


def changed(path: str) -> InputError:
    """The error for a file that is another version than the one that was found."""
    return InputError(
        f"{path}: was written to while the job read it, so nothing is published: leave the input "
        "as it is while the job runs, then run it again"
    )


def check_unchanged(segment: Segment) -> None:
    """Raises ChangedError if a local file has changed; a store checks that at each request."""
    if segment.found is not None and is_local(segment.path):
        read_range(segment.found, 0, 0)


def looked_at(size: int, share: int = _HEAD_SHARE) -> int:
    """How many bytes of an end of a file are read to see what it is; a small file, whole.

    share: at most one part in so many is read, though no less than a few thousand bytes.
    """
    if size <= _MOST_LOOKED_AT:
        return size
    return min(_MOST_LOOKED_AT, max(_LEAST_LOOKED_AT, size // share))


def read_part(found: FoundFile, start: int, end: int) -> bytes:
    """The bytes of a file that there are from `start` to before `end`.

    Raises InputError where they cannot be read.
    """
    try:
        return read_range(found, start, min(end, found.bytes))
    except ChangedError as error:
        raise changed(found.path) from error
    except OSError as error:
        raise InputError(
            f"{found.path}: cannot be read ({first_line(error)}): put it back, or give another file"
        ) from error


class RangeFile(io.RawIOBase):
    """A file of which exactly those bytes are read that are asked for, and are not known yet."""

    def __init__(self, found: FoundFile, start: int = 0, size: int | None = None) -> None:
        """start, size: of a part of the file that is taken for all of it."""
        super().__init__()
        self._found = found
        self._start = start
        self._size = found.bytes - start if size is None else size
        self._at = 0
        self._known: list[tuple[int, bytes]] = []

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return self._size

    def know(self, start: int, content: bytes) -> None:
        """Takes a part of the file that has been read."""
        self._known.append((start, content))

    def range(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`; raises ChangedError as read_range does."""
        for known, content in self._known:
            if known < end <= known + len(content):
                before = self._read(start, known) if start < known else b""
                return before + content[max(0, start - known) : end - known]
        return self._read(start, end)

    def _read(self, start: int, end: int) -> bytes:
        return read_range(self._found, self._start + start, self._start + end)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        end = self.size if size is None or size < 0 else min(self._at + size, self.size)
        content = self.range(self._at, end) if end > self._at else b""
        self._at += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at
