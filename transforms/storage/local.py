"""Files on this machine: whole or not there, on the disk before they have their name."""

import errno
import fcntl
import glob
import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from transforms.errors import ChangedError, InputError, RunError

_CHUNK_BYTES = 1 << 20
_WAYS_OUT = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.ENOENT: "see what removed its folder",
}
"""By what is wrong with a local disk."""


@contextmanager
def local_errors(done: str, path: str, *, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Turns an OSError of this machine into a RunError that names the path and the way out.

    but: a kind that stays as it is.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, but):
            raise
        way_out = _WAYS_OUT.get(error.errno or 0, "give a folder that can be written")
        raise RunError(
            f"{path} cannot be {done} ({error.strerror or error}): {way_out}, and run it again"
        ) from error


def facts(path: str) -> tuple[int, str]:
    """The bytes of a file, and what changes when it is written to."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is not a regular file: give a file that can be read twice")
    return found.st_size, f"{found.st_size} bytes, {found.st_mtime_ns} ns"


def matching(pattern: str) -> Iterator[str]:
    """The files that a shell's glob matches: no hidden ones, links followed, `**` any depth."""
    found = [pattern] if os.path.lexists(pattern) else glob.iglob(pattern, recursive=True)
    for path in found:
        if path == pattern or (os.path.exists(path) and not os.path.isdir(path)):
            yield path


def below(folder: str) -> Iterator[str]:
    """Every file below a folder."""
    for path, _, names in os.walk(folder):
        yield from (os.path.join(path, name) for name in names)


def names(folder: str) -> list[str]:
    """What is in a folder."""
    return os.listdir(folder) if os.path.isdir(folder) else []


def opened(found: Any) -> BinaryIO:
    """A file for reading; raises ChangedError where it is not as it was found."""
    file = open(found.path, "rb")  # noqa: SIM115  # It is the caller's.
    if facts(found.path)[1] != found.version:
        file.close()
        raise ChangedError(found.path)
    return file


def chunks(path: str) -> Iterator[bytes]:
    """The content of a file, piece by piece."""
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def write(path: str, content: bytes) -> None:
    """Writes a file so that it is there whole, and on the disk, or not at all."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with local_errors("written", path):
            _make_parent(path)
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folders([path])
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def publish(pairs: Iterable[tuple[str, str]]) -> None:
    """Gives each file a second name, in one step that needs it under its first one.

    The file that had that name is replaced. Where a file system has no hard links the first name
    goes.
    """
    pairs = list(pairs)
    for source, destination in pairs:
        second = f"{source}.{uuid.uuid4().hex}"
        with local_errors("written", destination, but=FileNotFoundError):
            _make_parent(destination)
            try:
                os.link(source, second)
            except FileNotFoundError:
                raise
            except OSError:  # File systems without hard links have several words for it.
                second = source
            os.replace(second, destination)
    _sync_folders(destination for _, destination in pairs)


def read_versioned(path: str) -> tuple[bytes, str] | None:
    """(content, version) of a small file; None where there is none."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return None
    return content, content.decode("latin-1")


def swap(path: str, content: bytes, version: str | None) -> None:
    """Writes a small file if it is of a version still; else ChangedError.

    The file is its own lock, held for the moment: it is neither renamed nor removed.
    """
    with _locked(path) as descriptor, local_errors("written", path):
        if os.read(descriptor, _CHUNK_BYTES).decode("latin-1") != (version or ""):
            raise ChangedError(path)
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    _sync_folders([path])


def withdraw(path: str, version: str, lock: str) -> None:
    """Removes a small file if it is of a version still; else ChangedError.

    lock: the file that everybody locks who removes it.
    """
    with _locked(lock):
        found = read_versioned(path)
        if found is None or found[1] != version:
            raise ChangedError(path)
        os.unlink(path)


@contextmanager
def _locked(path: str) -> Iterator[int]:
    with local_errors("written", path):
        _make_parent(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise RunError(
                f"{path} cannot be locked ({error.strerror}): its file system has no locks; "
                "give a folder on another one"
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)


def discard(paths: Iterable[str], trash: str) -> None:
    """Moves files or folders into one that is there as long as who discards them may."""
    for path in paths:
        try:
            os.replace(path, os.path.join(trash, uuid.uuid4().hex))
        except FileNotFoundError:
            if os.path.lexists(path):
                raise


def remove(path: str) -> None:
    """Removes a file, or a folder and all below it, if it is there."""
    with local_errors("removed", path):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)


def _make_parent(path: str) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)


def _sync_folders(paths: Iterable[str]) -> None:
    """Brings the names of files to the disk, where the file system can."""
    for folder in {os.path.dirname(path) or "." for path in paths}:
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            os.fsync(descriptor)
        os.close(descriptor)
