"""Files on any file system that Beam knows, and the one place where a file becomes final."""

import hashlib
import os
import uuid
from pathlib import Path
from typing import BinaryIO, NamedTuple

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

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


def move(source: str, destination: str) -> None:
    """Gives a finished file its final name; a no-op where an earlier attempt has done it."""
    if FileSystems.exists(source) or not FileSystems.exists(destination):
        make_parent(destination)
        FileSystems.rename([source], [destination])


def remove(path: str) -> None:
    """Removes a file, or a folder and all below it, if it is there."""
    if FileSystems.exists(path):
        FileSystems.delete([path])


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
    return int(FileSystems.match([path])[0].metadata_list[0].size_in_bytes)


def list_files(pattern: str) -> list[str]:
    """The files that match a glob (`**` crosses folders), sorted; empty where there are none."""
    # Beam finds nothing for a local glob without a folder.
    is_bare = FileSystems.get_scheme(pattern) is None and Path(pattern).name == pattern
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
