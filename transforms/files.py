"""Files on any file system that Beam knows, and the one place where a file becomes final."""

import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO, NamedTuple

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.errors import RunError

_CHUNK_BYTES = 1 << 20


class FileFacts(NamedTuple):
    """What identifies a file's content: size in bytes and SHA-256 in hex."""

    bytes: int
    sha256: str


def open_binary(path: str) -> BinaryIO:
    """Opens a file for reading as it is stored: a name that ends in .gz changes nothing."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def read_bytes(path: str) -> bytes:
    """The whole content of a file."""
    with open_binary(path) as file:
        return file.read()


def write_bytes(path: str, content: bytes) -> FileFacts:
    """Writes a file so that, under its own name, it is there whole or not at all.

    The content goes to a temporary name beside it and is renamed, so that a worker that dies
    while writing, or a second attempt at the same bundle, never leaves half a file.
    """
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    make_parent(path)
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(content)
        FileSystems.rename([temporary], [path])
    except BaseException:
        remove(temporary)
        raise
    return FileFacts(len(content), hashlib.sha256(content).hexdigest())


def move(source: str, destination: str, facts: FileFacts) -> None:
    """Gives a finished file its final name; a no-op where an earlier attempt has done it.

    facts: what the file was when it was written. Raises RunError if it is no longer there, under
    either name.
    """
    if FileSystems.exists(source):
        make_parent(destination)
        FileSystems.rename([source], [destination])
    elif not FileSystems.exists(destination) or file_facts(destination) != facts:
        raise RunError(f"{source} is gone: something removed it while the job ran; run it again")


def remove(path: str) -> None:
    """Removes a file, or a folder and all below it, if it is there; the path is no pattern."""
    if is_local(path):
        local = Path(path)
        if local.is_dir() and not local.is_symlink():
            shutil.rmtree(local)
        else:
            local.unlink(missing_ok=True)
        return
    # An object store has no folders: what lies below has to be found by its name.
    found = list_files(f"{path}/**") + ([path] if FileSystems.exists(path) else [])
    if found:
        FileSystems.delete(found)


def remove_empty_folders(folder: str) -> None:
    """Removes the folders below a local folder that hold nothing; object stores have none."""
    if is_local(folder):
        for path, _, _ in os.walk(folder, topdown=False):
            if not os.listdir(path):  # noqa: PTH208  # os.walk gives strings.
                Path(path).rmdir()


def is_local(path: str) -> bool:
    """Whether a path is on this machine's file system."""
    return FileSystems.get_scheme(path) is None


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
    return int(FileSystems.get_filesystem(path).size(path))


def list_files(pattern: str) -> list[str]:
    """The files that match a glob (`**` crosses folders), sorted; empty where there are none."""
    # Beam finds nothing for a local glob without a folder.
    is_bare = is_local(pattern) and Path(pattern).name == pattern
    here = f".{os.sep}" if is_bare else ""
    try:
        matched = FileSystems.match([here + pattern])[0].metadata_list
    except BeamIOError:
        return []
    return sorted(metadata.path.removeprefix(here) for metadata in matched)


def make_parent(path: str) -> None:
    """Makes the folder that a file belongs in, where the file system has folders."""
    parent, _ = FileSystems.split(path)
    try:
        FileSystems.mkdirs(parent)
    except OSError:  # It is there, or another worker has just made it.
        if not FileSystems.exists(parent):
            raise
