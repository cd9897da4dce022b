"""Files on any file system that Beam knows, and the one place where a file becomes final.

Local files are reached without Beam, whose import takes longer than all that is done with them
before a job starts; a path with a scheme (gs://, s3://, ...) goes to Beam's file systems.
"""

import hashlib
import io
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from transforms.errors import RunError
from transforms.file_errors import FileGoneError, FileSystemError, told_of, told_unless
from transforms.store_clients import is_store_path, put, set_up_store_clients

if TYPE_CHECKING:
    from apache_beam.io.filesystem import FileSystem
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

_CHUNK_BYTES = 1 << 20
_MOVED_TOGETHER, PARTS_AT_ONCE = 64, 16
_SCHEME = re.compile(r"\s*[a-zA-Z][-a-zA-Z0-9+.]*://")
# What a glob is made of: [!...] and [...] (a bracket that comes first is one of the set), or one
# character that stands for itself.
_GLOB_PART = re.compile(r"\*\*|\*|\?|\[(!|(?!!))(\][^]]*|[^]]+)\]|.", re.DOTALL)
_GLOB_MEANING = {"**": ".*", "*": r"[^/\\]*", "?": "."}


class FileFacts(NamedTuple):
    """What identifies a file's content: size in bytes and SHA-256 in hex."""

    bytes: int
    sha256: str


def is_local(path: str) -> bool:
    """Whether a path is on this machine's file system."""
    return _SCHEME.match(path) is None


def _beam_file_systems() -> "type[FileSystems]":
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.options.value_provider import RuntimeValueProvider

    # Nobody gives a job without flags of Beam's any options, nor the workers of a pool; S3 then
    # works with none of its files, though all that it needs is in the environment.
    given = FileSystems._pipeline_options  # noqa: SLF001  # There is no other way to ask.
    if given is None and RuntimeValueProvider.runtime_options is None:
        FileSystems.set_options(PipelineOptions([]))
    set_up_store_clients()
    return FileSystems


def file_system_options() -> "PipelineOptions | None":
    """The options that Beam's file systems go by."""
    from apache_beam.options.value_provider import RuntimeValueProvider

    given = _beam_file_systems()._pipeline_options  # noqa: SLF001  # As above.
    return given or RuntimeValueProvider.runtime_options


def file_system(path: str) -> "FileSystem":
    """Beam's file system for a path; raises ValueError or OSError where there is none.

    So it does where one lacks something: Beam's extra for a cloud, or settings of that cloud's.
    """
    return _beam_file_systems().get_filesystem(path)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone at the end; raises RunError where it, or a file in it, cannot be."""
    told = told_unless("written", tempfile.gettempdir())
    with told, tempfile.TemporaryDirectory(prefix="emnist-") as folder:
        yield Path(folder)


def join_path(folder: str, *names: str) -> str:
    """The path of what lies below a folder."""
    if is_local(folder):
        return os.path.join(folder, *names)
    return str(_beam_file_systems().join(folder, *names))


def split_path(path: str) -> tuple[str, str]:
    """(folder, name) of a path; the folder of a local one is absolute."""
    if is_local(path):
        return os.path.split(os.path.abspath(path))
    folder, name = _beam_file_systems().split(path)
    return folder, name


def exists(path: str) -> bool:
    """Whether there is a file, or a local folder."""
    if is_local(path):
        return os.path.exists(path)
    with told_of(path):
        return bool(_beam_file_systems().exists(path))


def open_binary(path: str) -> BinaryIO:
    """Opens a file for reading as it is stored: a name that ends in .gz changes nothing."""
    if is_local(path):
        return open(path, "rb")
    with told_of(path):
        file = _beam_file_systems().open(path, compression_type="uncompressed")
    return cast(BinaryIO, _RemoteFile(path, file))


class _RemoteFile(io.RawIOBase):
    """A file that Beam has opened for reading, whose errors name it."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        super().__init__()
        self._path = path
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with told_of(self._path):
            return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return self.read()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with told_of(self._path):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def read_bytes(path: str, at_most: int | None = None) -> bytes:
    """The whole content of a file; raises FileSystemError where it has more than `at_most` bytes.

    No more than that is taken into memory, whatever size the file says it has.
    """
    with open_binary(path) as file:
        if at_most is None:
            return file.read()
        content = bytearray()
        while chunk := file.read(_CHUNK_BYTES):
            content += chunk
            if len(content) > at_most:
                raise FileSystemError(f"{path}: has more than {at_most:,} bytes")
        return bytes(content)


def write_bytes(path: str, content: bytes) -> FileFacts:
    """Writes a file so that, under its own name, it is there whole or not at all.

    On S3 and GCS that is what a request to write does. Elsewhere the content goes to a temporary
    name beside it and is renamed, so that a worker that dies while writing, or a second attempt at
    the same bundle, never leaves half a file. On this machine it is on the disk before it is
    renamed: no loss of power leaves a name without content. Raises RunError where this machine
    cannot write it.
    """
    if is_store_path(path):
        with told_of(path):
            put(path, content, file_system_options())
    else:
        _write_and_rename(path, content)
    return FileFacts(len(content), hashlib.sha256(content).hexdigest())


def _write_and_rename(path: str, content: bytes) -> None:
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with told_unless("written", path) if is_local(path) else told_of(path):
            make_parent(path)
            with _create(temporary) as file:
                file.write(content)
                if is_local(temporary):
                    file.flush()
                    os.fsync(file.fileno())
            _rename(temporary, path)
    except BaseException:
        with suppress(RunError):  # Where it cannot be written, it is not there; told is why.
            remove(temporary)
        raise


def _create(path: str) -> BinaryIO:
    if is_local(path):
        return open(path, "wb")
    return _beam_file_systems().create(path, compression_type="uncompressed")


def _rename(source: str, destination: str) -> None:
    """Gives a file another name, which another file may have had; both on one file system."""
    if is_local(source):
        os.replace(source, destination)
        return
    with told_of(destination):
        _beam_file_systems().rename([source], [destination])


def move(source: str, destination: str, facts: FileFacts) -> None:
    """Gives a finished file its final name; a no-op where an earlier attempt has done it.

    facts: what the file was when it was written. Raises RunError if it is no longer there, under
    either name, or cannot be moved on this machine.
    """
    if exists(source):
        with told_unless("written", destination) if is_local(source) else nullcontext():
            make_parent(destination)
            _rename(source, destination)
    else:
        check_moved(source, destination, facts)


def check_moved(source: str, destination: str, facts: FileFacts) -> None:
    """Raises RunError unless a file that is no longer where it was has been moved."""
    if not exists(destination) or file_facts(destination) != facts:
        raise RunError(f"{source} is gone: something removed it while the job ran; run it again")


def move_all(folder: str, moves: Sequence[tuple[str, str, FileFacts]]) -> None:
    """Moves files that lie below a folder, each as `move` does; those of a store many at once.

    Beam makes a client of a store for each thing it does, which takes longer than to do it, and
    moves a list of files one after the other, each by requests that wait for their answers.
    """
    there = set() if is_local(folder) else set(list_files(f"{folder}/**"))
    at_once = [(source, destination) for source, destination, _ in moves if source in there]
    parts = [at_once[n : n + _MOVED_TOGETHER] for n in range(0, len(at_once), _MOVED_TOGETHER)]
    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        list(pool.map(_rename_all, parts))  # For the errors.
    for source, destination, facts in moves:
        if source not in there:
            move(source, destination, facts)


def _rename_all(moves: Sequence[tuple[str, str]]) -> None:
    sources, destinations = zip(*moves, strict=True)
    with told_of(destinations[0]):
        _beam_file_systems().rename(list(sources), list(destinations))


def remove_all(paths: Sequence[str]) -> None:
    """Removes files that are there, on one file system; those of a store all at once."""
    if paths and not is_local(paths[0]):
        try:
            with told_of(paths[0]):
                _beam_file_systems().delete(list(paths))
        except FileGoneError:  # Somebody else removes them too; Beam's of GCS bears it not always.
            remove_all([path for path in paths if exists(path)])
        return
    for path in paths:
        remove(path)


def remove(path: str) -> None:
    """Removes a file, or a folder and all below it, if it is there; the path is no pattern."""
    if is_local(path):
        local = Path(path)
        with told_unless("removed", path):
            if local.is_dir() and not local.is_symlink():
                shutil.rmtree(local)
            else:
                local.unlink(missing_ok=True)
        return
    # An object store has no folders: what lies below has to be found by its name.
    remove_all(list_files(f"{path}/**") + ([path] if exists(path) else []))


def remove_empty_folders(folder: str) -> None:
    """Removes the folders below a local folder that hold nothing; object stores have none."""
    if is_local(folder):
        for path, _, _ in os.walk(folder, topdown=False):
            if not os.listdir(path):
                Path(path).rmdir()


def file_facts(path: str) -> FileFacts:
    """Size and SHA-256 of a file, read in pieces of 1 MiB."""
    digest, size = hashlib.sha256(), 0
    with open_binary(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileFacts(size, digest.hexdigest())


def file_bytes(path: str) -> int:
    """The size of a file in bytes."""
    if is_local(path):
        return os.path.getsize(path)
    with told_of(path):
        return int(_beam_file_systems().get_filesystem(path).size(path))


def last_updated(paths: Sequence[str]) -> dict[str, float]:
    """When files were last written to, in seconds since 1970, as their file systems have it.

    Raises OSError where one is gone.
    """
    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        return dict(zip(paths, pool.map(_last_updated, paths), strict=True))


def _last_updated(path: str) -> float:
    if is_local(path):
        return os.path.getmtime(path)
    with told_of(path):
        return float(_beam_file_systems().get_filesystem(path).last_updated(path))


def list_files(pattern: str) -> list[str]:
    """The files that match a glob (`**` crosses folders), sorted; empty where there are none."""
    return sorted(_local_matches(pattern) if is_local(pattern) else _remote_matches(pattern))


def _remote_matches(pattern: str) -> list[str]:
    from apache_beam.io.filesystem import BeamIOError

    try:
        matched = _beam_file_systems().match([pattern])[0].metadata_list
    except BeamIOError as error:
        # A store says of what it hasn't that there is nothing; other file systems raise for it.
        if not is_store_path(pattern):
            return []
        with told_of(pattern):
            raise error
    return [metadata.path for metadata in matched]


def _local_matches(pattern: str) -> list[str]:
    """What Beam's file systems would match: the glob of a local path means no other files."""
    if pattern.endswith(("/", "\\")):
        pattern += "*"
    fixed = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    if fixed == pattern:
        return [pattern] if os.path.exists(pattern) else []
    folder = os.path.dirname(fixed)
    here = "" if folder else f".{os.sep}"  # What os.walk begins each path with.
    try:
        matches = re.compile(_GLOB_PART.sub(_as_regex, here + pattern), re.DOTALL).fullmatch
    except re.error:  # Such as [z-a].
        return []
    found = (
        os.path.join(path, name) for path, _, names in os.walk(folder or ".") for name in names
    )
    # A link to nothing is no file.
    return [path.removeprefix(here) for path in found if matches(path) and os.path.exists(path)]


def _as_regex(part: re.Match[str]) -> str:
    if part[2] is None:
        return _GLOB_MEANING.get(part[0], re.escape(part[0]))
    characters = re.sub(r"[][\\^&~|]", r"\\\g<0>", part[2])
    return f"[^{characters}]" if part[1] else f"[{characters}]"


def make_parent(path: str) -> None:
    """Makes the folder that a file belongs in, where the file system has folders."""
    parent, _ = split_path(path)
    if is_local(path):
        os.makedirs(parent, exist_ok=True)
        return
    try:
        _beam_file_systems().mkdirs(parent)
    except OSError:  # It is there, or another worker has just made it.
        if not exists(parent):
            raise
