"""MATLAB's .mat, version 5, as NIST's matlab.zip has them; read as a stream.

The format: "MAT-File Format", MathWorks, chapter 1. Each element is a tag (type, bytes) and data;
an array is an element of elements: flags, dimensions, name, and its data or its fields.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from transforms.errors import ChangedError, InputError, first_line
from transforms.inputs.content import DAMAGE, Content, scratch_content
from transforms.inputs.dataset import CHARACTERS
from transforms.inputs.formats.arrays import shaped
from transforms.inputs.formats.named import NamedArray, parts_of
from transforms.inputs.formats.part import Part, Wanted, is_transposed
from transforms.inputs.names import is_of_emnist, kind_of
from transforms.inputs.parts import changed
from transforms.storage.scratch import ScratchFile

NAME = ".mat"

_HEADER_BYTES = 128
_VERSIONS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
"""The end of the header, by the order of bytes that it is in."""
_HDF5 = b"MATLAB 7.3 MAT-file"
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"}
_STRUCT, _NUMERIC = 2, range(6, 16)
"""Classes of arrays."""
_DEEPEST, _MOST_FIELDS, _MOST_AXES = 8, 1000, 8
_MOST_NAMES_BYTES, _MOST_LIST_BYTES = 1 << 16, 64 << 20
_BLOCK_BYTES = 1 << 20


def recognizes(content: Content) -> bool:
    """Whether the content begins as a .mat does."""
    return content.head.startswith(b"MATLAB") or content.head[124:128] in _VERSIONS


def describe(content: Content, wanted: Wanted) -> list[Part]:
    """The arrays of images in it; transposed in NIST's files."""
    if content.head.startswith(_HDF5):
        raise InputError(f"{content.name}: is a .mat of version 7.3: save it with -v7")
    try:
        arrays = list(_arrays(content, wanted))
    except ChangedError as error:
        raise changed(content.name) from error
    except DAMAGE as error:
        raise InputError(
            f"{content.name}: cannot be read as .mat ({first_line(error)}): fetch it again"
        ) from error
    transposed = is_transposed(wanted.orientation, stored_by_nist=is_of_emnist(content.name))
    characters = CHARACTERS.get(kind_of(content.name) or "", {})
    parts = parts_of(content.name, arrays, wanted, transposed=transposed)
    return [part._replace(characters=characters) for part in parts]


def _arrays(content: Content, wanted: Wanted) -> Iterator[NamedArray]:
    with content.stream() as stream:
        source = _Source(stream, _order_of(stream.read(_HEADER_BYTES)), _HEADER_BYTES)
        while (tag := source.tag()) is not None:
            if tag.kind == _COMPRESSED:
                inner = _Source(_Inflated(source, tag.end), source.order)
                matrix = inner.tag()
                if matrix is not None and matrix.kind == _MATRIX:
                    yield from _Arrays(inner, content, wanted, packed=True).of_matrix(matrix)
                source.skip_to(tag.end)
            else:
                if tag.kind == _MATRIX:
                    packed = bool(content.packing)
                    yield from _Arrays(source, content, wanted, packed=packed).of_matrix(tag)
                source.skip_to(tag.padded_end)


def _order_of(header: bytes) -> str:
    order = _VERSIONS.get(header[124:])
    if order is None:
        raise ValueError("it is of another version")
    return order


class _Tag(NamedTuple):
    """What an element is, and where its data end. small: its data, where the tag has them."""

    kind: int
    size: int
    end: int
    small: bytes | None = None

    @property
    def padded_end(self) -> int:
        """Where the next element begins."""
        return self.end if self.small is not None else self.end + -self.size % 8


class _Source:
    """Bytes that are read once, in order. place: how many were read."""

    def __init__(self, file: Any, order: str, place: int = 0) -> None:
        self._file, self.order, self.place = file, order, place

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        content: bytes = self._file.read(count)
        if len(content) < count:
            raise EOFError("it ends early")
        self.place += count
        return content

    def skip_to(self, place: int) -> None:
        """Leaves out what there is before a place."""
        while self.place < place:
            self.read(min(_BLOCK_BYTES, place - self.place))

    def tag(self, end: int | None = None) -> _Tag | None:
        """The tag of the next element; None where there is none. end: of what it is within."""
        if self.place == end:
            return None
        head = self._file.read(8)
        if not head and end is None:
            return None
        self.place += len(head)
        if len(head) < 8:  # noqa: PLR2004
            raise EOFError("it ends early")
        kind, count = struct.unpack(f"{self.order}II", head)
        if kind >> 16:  # A small element: up to four bytes, in the tag.
            return _Tag(kind & 0xFFFF, min(4, kind >> 16), self.place, head[4:])
        if end is not None and self.place + count > end:
            raise ValueError("an element is longer than what it is in")
        return _Tag(kind, count, self.place + count)

    def data(self, kind: int, most: int, end: int) -> bytes:
        """The data of the next element, which is of this kind."""
        tag = self.tag(end)
        if tag is None or tag.kind != kind or tag.size > most:
            raise ValueError("an element is not what it should be")
        if tag.small is not None:
            return tag.small[: tag.size]
        content = self.read(tag.size)
        self.skip_to(min(tag.padded_end, end))
        return content


class _Inflated:
    """The compressed data of an element, up to `end`, as what is in them."""

    def __init__(self, source: _Source, end: int) -> None:
        self._source, self._end = source, end
        self._inflate = zlib.decompressobj()

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, fewer only at the end."""
        content = b""
        while len(content) < count and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail
            if not packed:
                packed = self._source.read(min(_BLOCK_BYTES, self._end - self._source.place))
            more = self._inflate.decompress(packed, count - len(content))
            if not packed and not more:
                break
            content += more
        return content


class _Arrays(NamedTuple):
    """Looks for arrays of numbers in an element. packed: whether they have to be unpacked."""

    source: _Source
    content: Content
    wanted: Wanted
    packed: bool

    def of_matrix(self, tag: _Tag, above: str = "", depth: int = 0) -> Iterator[NamedArray]:
        """An array of numbers itself, or those in the fields of a struct."""
        source, end = self.source, tag.end
        if not tag.size or depth > _DEEPEST:  # An empty one has nothing.
            return
        (kind,) = struct.unpack(f"{source.order}I4x", source.data(_UINT32, 8, end))
        lengths = source.data(_INT32, _MOST_AXES * 4, end)
        shape = struct.unpack(f"{source.order}{len(lengths) // 4}i", lengths)
        name = source.data(_INT8, _MOST_NAMES_BYTES, end).decode("latin-1")
        name = "/".join(filter(None, (above, name)))
        if kind & 0xFF == _STRUCT and math.prod(shape) == 1:
            for field in _fields(source, end):
                inner = source.tag(end)
                if inner is None or inner.kind != _MATRIX:
                    raise ValueError("a field is not an array")
                yield from self.of_matrix(inner, f"{name}/{field}", depth + 1)
                source.skip_to(min(inner.padded_end, end))
        elif kind & 0xFF in _NUMERIC:
            yield from self._numbers(name, shape, end)

    def _numbers(self, name: str, shape: tuple[int, ...], end: int) -> Iterator[NamedArray]:
        """An array where it lies, or unpacked; nothing where it is neither images nor a list."""
        tag = self.source.tag(end)
        if tag is None or tag.kind not in _TYPES or min(shape) <= 0:
            return
        dtype = np.dtype(self.source.order + _TYPES[tag.kind])
        if math.prod(shape) * dtype.itemsize != tag.size:
            raise ValueError(f"{name} of shape {shape} takes {tag.size} bytes")
        is_images = shaped(shape, dtype.str, fortran=True) is not None
        if not is_images and (max(shape) != math.prod(shape) or tag.size > _MOST_LIST_BYTES):
            return
        if not self.packed and tag.small is None:
            start = self.content.start + self.source.place
            there = self.content._replace(start=start, size=tag.size, head=b"")
            yield NamedArray(name, shape, dtype, True, there, 0)
            return
        yield NamedArray(name, shape, dtype, True, self._unpacked(tag), 0)

    def _unpacked(self, tag: _Tag) -> Content:
        wanted, source = self.wanted, self.source
        most = wanted.max_unpacked_bytes
        with ScratchFile(self.content.name, wanted.scratch, most) as file:
            file.write((tag.small or b"")[: tag.size])
            while tag.small is None and source.place < tag.end:
                file.write(source.read(min(_BLOCK_BYTES, tag.end - source.place)))
        return scratch_content(self.content.name, file.found())


def _fields(source: _Source, end: int) -> list[str]:
    (width,) = struct.unpack(f"{source.order}i", source.data(_INT32, 4, end))
    names = source.data(_INT8, _MOST_NAMES_BYTES, end)
    if not 0 < width <= len(names) or len(names) // width > _MOST_FIELDS:
        raise ValueError("the names of its fields are not what they should be")
    cut = [names[start : start + width] for start in range(0, len(names), width)]
    return [name.partition(b"\0")[0].decode("latin-1") for name in cut]
