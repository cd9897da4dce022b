"""The bytes of a file, or of what is packed in it: gzip, xz, zstd, zip."""

import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from transforms.errors import ChangedError, InputError, first_line
from transforms.inputs.parts import RangeFile, changed, looked_at, read_part
from transforms.storage.files import FoundFile, open_binary
from transforms.storage.scratch import Scratch, ScratchFile

GZIP_MAGIC, XZ_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
ZIP_MAGIC = b"PK\x03\x04"
GZIP, XZ, ZSTD = "gzip", "xz", "zstd"
MEMBER = "member:"
"""With the name of a member of a zip behind it, a step of a packing."""

_MAGICS = {GZIP_MAGIC: GZIP, XZ_MAGIC: XZ, ZSTD_MAGIC: ZSTD}
_BLOCK_BYTES = 4 << 20
"""What is read of a packed file at once: in a store that is a request."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_XZ_BYTES = 256 << 20
"""What an xz file may have its reader keep in memory; `xz -9` takes 65 MB."""
HEAD_BYTES = 64 << 10
"""How much of what is packed is looked at to see what it is."""
DAMAGE = (
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    pa.ArrowException,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the readers of packed files raise where one is damaged, or packed in a way of its own."""


class Content(NamedTuple):
    """Bytes that a format is looked for in: a file, or what is packed in it.

    name: the path, and behind it the name within a zip. head: the first of the bytes. packing:
    steps from the file to them. start, size: where in the file they are, where packing is empty.
    here: the file is on this machine alone, as long as the dataset is in use.
    """

    name: str
    found: FoundFile
    head: bytes
    packing: tuple[str, ...] = ()
    start: int = 0
    size: int = 0
    here: bool = False

    @property
    def packed_by(self) -> str | None:
        """What these bytes are packed by; None where they are not."""
        return next((by for magic, by in _MAGICS.items() if self.head.startswith(magic)), None)

    @contextmanager
    def stream(self) -> "Iterator[Stream]":
        """These bytes from their beginning."""
        if not self.packing:
            with io.BufferedReader(random_file(self), _BLOCK_BYTES) as file:
                yield Stream(self.name, "file", file)
            return
        with open_stream(self.name, self.found, self.packing) as stream:
            yield stream

    def first(self, count: int) -> bytes:
        """The first `count` bytes, or all where there are fewer."""
        if len(self.head) >= min(count, self.size or count):
            return self.head[:count]
        return self.part(0, count)

    def part(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, as far as there are."""
        if not self.packing:
            end = min(end, self.size)
            return read_part(self.found, self.start + start, self.start + end)
        with self.stream() as stream:
            stream.skip(start)
            return stream.read(end - start)


def read_head(found: FoundFile) -> Content:
    """A file and its beginning, by one request."""
    head = read_part(found, 0, looked_at(found.bytes))
    return Content(found.path, found, head, size=found.bytes)


def unpacked(content: Content) -> Content:
    """What is packed in a gzip, xz or zstd file, with its head as far as it is known."""
    by = str(content.packed_by)
    with damage_named(content.name, by):
        head = _HEADS[by](content.head)
    return content._replace(head=head, packing=(*content.packing, by), size=0)


def once_unpacked(content: Content) -> Content:
    """What is packed in a gzip, xz or zstd file; of another file, itself."""
    return unpacked(content) if content.packed_by else content


def gzip_content(name: str, packed: bytes, at_most: int) -> bytes:
    """Up to `at_most` bytes of what is in a gzip that is in memory."""
    with damage_named(name, GZIP), gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        return file.read(at_most)


def _gzip_head(packed: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(packed, HEAD_BYTES)


def _xz_head(packed: bytes) -> bytes:
    return lzma.LZMADecompressor(memlimit=_XZ_BYTES).decompress(packed, HEAD_BYTES)


def _zstd_head(packed: bytes) -> bytes:
    head = b""
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        for size in (64, 1 << 10, 1 << 12, HEAD_BYTES):
            try:
                head += stream.read(size - len(head))
            except OSError:  # It goes on where the head ends.
                if not head:
                    raise
                break
    return head


_HEADS: dict[str, Callable[[bytes], bytes]] = {
    GZIP: _gzip_head,
    XZ: _xz_head,
    ZSTD: _zstd_head,
}


@contextmanager
def damage_named(name: str, kind: str) -> Iterator[None]:
    """Turns what goes wrong in a packed file into an InputError that names it."""
    try:
        yield
    except ChangedError as error:
        raise changed(name) from error
    except DAMAGE as error:
        raise InputError(
            f"{name}: the {kind} is truncated or damaged ({first_line(error)}): fetch it again"
        ) from error


class Stream(io.RawIOBase):
    """Packed bytes, unpacked from the beginning on; what is wrong becomes an InputError."""

    def __init__(self, name: str, kind: str, file: BinaryIO) -> None:
        super().__init__()
        self._name, self._kind, self._file = name, kind, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read(self, count: int | None = -1) -> bytes:
        """Exactly `count` bytes, fewer only at the end."""
        if count is None or count < 0:
            raise io.UnsupportedOperation("how much there is, nobody knows before")
        content = self._read(count)
        while 0 < len(content) < count and (more := self._read(count - len(content))):
            content += more
        return content

    def skip(self, count: int) -> None:
        """Leaves out `count` bytes; EOFError where there are fewer."""
        while count:
            passed = len(self._read(min(count, _BLOCK_BYTES)))
            if not passed:
                raise EOFError("it ends early")
            count -= passed

    def _read(self, count: int) -> bytes:
        with damage_named(self._name, self._kind):
            return self._file.read(count)


@contextmanager
def open_stream(name: str, found: FoundFile, packing: tuple[str, ...]) -> Iterator[Stream]:
    """What is in a file, unpacked as it is read; ChangedError where it is not as it was found."""
    with io.BufferedReader(open_binary(found.path, found), _BLOCK_BYTES) as raw:  # type: ignore[type-var]
        file: Any = raw
        kind = "file"
        opened = []
        for step in packing:
            kind = "zip" if step.startswith(MEMBER) else step
            with damage_named(name, kind):
                file = _opened(step, file)
            opened.append(file)
        try:
            yield Stream(name, kind, file)
        finally:
            for file in reversed(opened):
                file.close()


def _opened(step: str, file: Any) -> Any:
    if step == GZIP:
        return gzip.GzipFile(fileobj=file)
    if step == XZ:
        return io.BufferedReader(_XzFile(file))
    if step == ZSTD:
        return pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
    opened = zipfile.ZipFile(file)
    return open_member(opened, opened.getinfo(step.removeprefix(MEMBER)))


def open_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    """A member of a zip; NotImplementedError for one that is packed in a way of its own."""
    if info.compress_type not in _METHODS:  # LZMA takes as much memory as the member says.
        raise NotImplementedError(f"{info.filename} is packed by method {info.compress_type}")
    return opened.open(info)


class _XzFile(io.RawIOBase):
    """An xz file that takes no more than _XZ_BYTES of memory to read, as lzma.LZMAFile may."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = b""
        while not content:
            if self._decompressor.eof:
                packed = self._decompressor.unused_data or self._file.read(_BLOCK_BYTES)
                if not packed.strip(b"\0"):
                    return 0
                self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_BYTES)
            else:
                wants = self._decompressor.needs_input
                packed = self._file.read(_BLOCK_BYTES) if wants else b""
                if wants and not packed:
                    raise EOFError("it ends early")
            content = self._decompressor.decompress(packed, len(buffer))
        buffer[: len(content)] = content
        return len(content)


def random_file(content: Content) -> RangeFile:
    """A file of which any part can be read, for content that is not packed."""
    file = RangeFile(content.found, content.start, content.size)
    file.know(0, content.head)
    return file


def in_scratch(content: Content, scratch: Scratch, most: int) -> Content:
    """The content, unpacked into a file where it is packed; InputError above `most` bytes."""
    if not content.packing:
        return content
    with content.stream() as stream, ScratchFile(content.name, scratch, most) as file:
        while block := stream.read(_BLOCK_BYTES):
            file.write(block)
    return scratch_content(content.name, file.found())


def scratch_content(name: str, found: FoundFile) -> Content:
    """What was unpacked into a file. name: what it is in messages."""
    return read_head(found)._replace(name=name, here=True)
