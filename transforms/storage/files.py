"""Files by their paths: on this machine, or in a store where a path has a scheme (s3://, gs://).

A file is there whole under its name, or not at all. The store's library is imported only when a
path needs it.
"""

import fnmatch
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from transforms.errors import FileSystemError
from transforms.storage import local, stores
from transforms.storage.local import local_errors

REQUESTS_AT_ONCE = 64
"""Of one process to a store: a request waits for its answer, and computes nothing meanwhile."""
_WHOLE_BYTES = 8 << 20
"""An object of up to so many bytes is read by one request."""
_SCHEME = re.compile(r"\s*[a-zA-Z][-a-zA-Z0-9+.]*://")
_GLOB = re.compile(r"[*?[]")
_GLOB_PART = re.compile(r"\*|\?|\[(!|(?!!))(\][^]]*|[^]]+)\]|.", re.DOTALL)


class FileFacts(NamedTuple):
    """What identifies a file's content: size in bytes and SHA-256 in hex."""

    bytes: int
    sha256: str


class FoundFile(NamedTuple):
    """A file as a listing shows it. version: changes when the file is written to."""

    path: str
    bytes: int
    version: str


class Versioned(NamedTuple):
    """A small file as it was read. version: for swap and withdraw to compare."""

    content: bytes
    version: str


def is_local(path: str) -> bool:
    """Whether a path is on this machine's file system."""
    return _SCHEME.match(path) is None


def _at(path: str) -> Any:
    return local if is_local(path) else stores


def join_path(folder: str, *names: str) -> str:
    """The path of what is below a folder."""
    if is_local(folder):
        return os.path.join(folder, *names)
    return "/".join([folder.rstrip("/"), *names])


def child(folder: str, name: str) -> str:
    """The path of what is below a folder by a name with forward slashes."""
    return join_path(folder, *name.split("/"))


def split_path(path: str) -> tuple[str, str]:
    """(folder, name) of a path; the folder of a local one is absolute."""
    if is_local(path):
        return os.path.split(os.path.abspath(path))
    folder, _, name = path.rpartition("/")
    return folder, name


def exists(path: str) -> bool:
    """Whether there is a file, or a local folder."""
    return os.path.exists(path) if is_local(path) else stores.find(path) is not None


def find_files(pattern: str) -> list[FoundFile]:
    """The files that a glob matches as in a shell, sorted; of a path without a glob, that file."""
    if is_local(pattern):
        return [FoundFile(path, *local.facts(path)) for path in sorted(local.matching(pattern))]
    pattern = pattern.strip()
    if _GLOB.search(pattern) is None:
        found = stores.find(pattern)
        return [] if found is None else [FoundFile(pattern, *found)]
    pattern = "{}://{}/{}".format(*stores.parse(pattern))
    folder = _GLOB.split(pattern, maxsplit=1)[0].rpartition("/")[0]
    matches = re.compile(_as_regex(pattern), re.DOTALL).fullmatch
    return [file for file in list_folder(folder) if matches(file.path)]


def list_folder(folder: str) -> list[FoundFile]:
    """All files below a folder, sorted; none where there is no such folder."""
    if is_local(folder):
        return [FoundFile(path, *local.facts(path)) for path in sorted(local.below(folder))]
    return sorted(FoundFile(*found) for found in stores.below(folder))


def list_names(folder: str) -> list[str]:
    """The names of files and folders in a folder, sorted; none where there is no such folder."""
    return sorted(_at(folder).names(folder))


def _as_regex(pattern: str) -> str:
    """A shell's glob of paths with forward slashes; wildcards match no hidden names."""
    regex = ""
    for part in pattern.split("/"):
        if part == "**":
            regex += r"(?:(?!\.)[^/]+/)*"
        else:
            hidden = r"(?!\.)" if _GLOB.match(part) else ""
            regex += hidden + _GLOB_PART.sub(_part_as_regex, part) + "/"
    return regex.removesuffix("/") + (r"(?!\.)[^/]+" if part == "**" else "")


def _part_as_regex(part: re.Match[str]) -> str:
    if part[2] is None:
        return {"*": "[^/]*", "?": "[^/]"}.get(part[0], re.escape(part[0]))
    # fnmatch knows what becomes of a range from b to a.
    return "(?!/)" + fnmatch.translate(part[0]).removeprefix("(?s:").rpartition(")")[0]


def open_binary(path: str, found: FoundFile | None = None) -> BinaryIO:
    """Opens a file for reading as it is stored; what is read of a large object is a request.

    found: what a listing showed of it, which saves a request. Raises ChangedError where the file
    is no longer that version, FileNotFoundError where it is gone.
    """
    if is_local(path):
        return open(path, "rb") if found is None else local.opened(found)
    if found is None:
        found = next(iter(find_files(path)), None)
        if found is None:
            raise FileNotFoundError(2, "there is no such object", path)
    if found.bytes <= _WHOLE_BYTES:
        return io.BytesIO(read_range(found, 0, found.bytes))
    return _StoreFile(found)  # type: ignore[return-value]


class _StoreFile(io.RawIOBase):
    """A large object, read by ranges as they are asked for."""

    def __init__(self, found: FoundFile) -> None:
        super().__init__()
        self._found = found
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = read_range(self._found, self._at, self._at + len(buffer))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._found.bytes}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at


def read_range(found: FoundFile, start: int, end: int) -> bytes:
    """Bytes from `start` to before `end` of a file, as far as it goes.

    Raises ChangedError where it is not as it was found, FileNotFoundError where it is gone.
    """
    end = min(end, found.bytes)
    if not is_local(found.path):
        return stores.read_range(found, start, end)
    with local.opened(found) as file:
        return os.pread(file.fileno(), max(0, end - start), start)


def read_bytes(path: str, at_most: int | None = None) -> bytes:
    """The whole content of a file; raises FileSystemError where it has more than `at_most` bytes.

    No more than that is taken into memory, whatever size the file says it has.
    """
    content = bytearray()
    for chunk in _at(path).chunks(path):
        content += chunk
        if at_most is not None and len(content) > at_most:
            raise FileSystemError(f"{path}: has more than {at_most:,} bytes")
    return bytes(content)


def facts_of(content: bytes) -> FileFacts:
    """The facts of a file with this content."""
    return FileFacts(len(content), hashlib.sha256(content).hexdigest())


def file_facts(path: str) -> FileFacts:
    """Size and SHA-256 of a file, read in pieces."""
    digest, size = hashlib.sha256(), 0
    for chunk in _at(path).chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return FileFacts(size, digest.hexdigest())


def write_bytes(path: str, content: bytes) -> FileFacts:
    """Writes a file so that it is there whole under its name, and on the disk, or not at all."""
    _at(path).write(path, content)
    return facts_of(content)


def read_versioned(path: str) -> Versioned | None:
    """A small file with its version; None where there is none, or an empty one."""
    found = _at(path).read_versioned(path)
    return Versioned(*found) if found is not None and found[0] else None


def swap(path: str, content: bytes, seen: Versioned | None) -> None:
    """Compare and set: writes a small file if it is still as it was seen; else ChangedError.

    Only swap writes such a file, and nothing removes it.
    """
    _at(path).swap(path, content, seen and seen.version)


def withdraw(path: str, seen: Versioned, lock: str) -> None:
    """Takes a small file away if it is still as it was seen; else ChangedError.

    In a store it is emptied, which read_versioned takes for none. lock: a file that swap writes.
    """
    _at(path).withdraw(path, seen.version, lock)


def remove_if(path: str, seen: Versioned) -> None:
    """Removes an object of a store if it is still as it was seen; else ChangedError."""
    stores.remove_if(path, seen.version)


def publish_all(pairs: Sequence[tuple[str, str]]) -> None:
    """Gives each (source, destination) its final name, in one step that needs the source.

    FileNotFoundError where a source is gone. Sources stay, where the file system can.
    """
    if all(is_local(source) for source, _ in pairs):
        local.publish(pairs)
    else:
        for_each(lambda pair: stores.copy(*pair), pairs)


def for_each(action: Callable[[Any], None], items: Sequence[Any]) -> None:
    """Does something with each item; many at once, as a store answers each after a while."""
    with ThreadPoolExecutor(max(1, min(REQUESTS_AT_ONCE, len(items)))) as pool:
        for _ in pool.map(action, items):
            pass


def discard(paths: Sequence[str], trash: str) -> None:
    """Removes files or folders, those that are there.

    trash: on a disk, a folder that they move to, each in one step that needs this folder.
    """
    if is_local(trash):
        local.discard(paths, trash)
    else:
        for_each(remove, paths)


def remove(path: str) -> None:
    """Removes a file, or a folder and all below it, if it is there."""
    if is_local(path):
        local.remove(path)
    else:
        stores.delete([path for path, _, _ in stores.below(path)] or [path])


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone at the end; raises RunError where it, or a file in it, cannot be."""
    with (
        local_errors("written", tempfile.gettempdir()),
        tempfile.TemporaryDirectory(prefix="emnist-") as folder,
    ):
        yield Path(folder)
