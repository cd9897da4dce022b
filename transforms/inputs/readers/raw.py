"""Reads arrays of pixels: as they lie in a file, or are packed in it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from transforms.errors import InputError
from transforms.images import PIXELS, SIDE, Segment
from transforms.inputs.content import open_stream
from transforms.inputs.readers.fit import fit_image
from transforms.inputs.readers.rows import Rows, found_of, to_pixels
from transforms.storage.files import FoundFile, read_range

RAW = "raw"
"""The format of a segment that this module reads."""

_BLOCK_BYTES = 4 << 20
"""What is read of a file at once, unless a batch is larger."""
_PLANE_ROWS = 1 << 14
"""Of an array that is stored pixel by pixel, how many images are read at once."""


class RawLayout(NamedTuple):
    """How images lie in a file, from byte `offset` on (of what is unpacked, if it is packed).

    rows: of the whole array. dtype: as NumPy writes it. planes: whether the first pixel of all
    images comes first, then the second, as in an array in Fortran order. by_column: whether the
    pixels of an image follow each other down its columns.
    """

    offset: int = 0
    rows: int = 0
    dtype: str = "|u1"
    height: int = SIDE
    width: int = SIDE
    planes: bool = False
    by_column: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of an image."""
        return self.height, self.width

    @property
    def image_bytes(self) -> int:
        """The bytes of one image."""
        return self.height * self.width * np.dtype(self.dtype).itemsize


def check_length(path: str, found: int, rows: int, image_bytes: int = PIXELS) -> None:
    """Raises InputError unless `found` bytes are those of `rows` images."""
    expected = rows * image_bytes
    if found != expected:
        what = "truncated" if found < expected else "too long"
        raise InputError(
            f"{path}: {what}: {rows:,} images take {expected:,} bytes and there are {found:,}: "
            "fetch it again"
        )


def read(segment: Segment, batch_size: int) -> Iterator[Rows]:
    """The rows of a segment in order, no more than `batch_size` at once."""
    layout = segment.layout or RawLayout(rows=segment.end)
    if segment.packing:
        values = _packed(segment, layout, batch_size)
    elif layout.planes:
        values = _planes(segment, layout, batch_size)
    else:
        values = _rows(segment, layout, batch_size)
    for images in values:
        pixels = to_pixels(segment.name, images, segment.scale)
        if layout.by_column:
            pixels = pixels.reshape(-1, layout.width, layout.height).transpose(0, 2, 1)
        if segment.fit:
            pixels = np.stack([fit_image(image) for image in pixels.reshape(-1, *layout.size)])
        yield Rows(len(pixels), pixels.reshape(len(pixels), -1))


def _rows(segment: Segment, layout: RawLayout, batch_size: int) -> Iterator[np.ndarray]:
    found = found_of(segment)
    size = layout.image_bytes
    begin = layout.offset + segment.first_row * size
    at_once = batch_size * max(1, _BLOCK_BYTES // (batch_size * size))
    for block in range(0, segment.rows, at_once):
        rows = min(at_once, segment.rows - block)
        start = begin + block * size
        content = _read_range(segment, found, start, start + rows * size)
        values = np.frombuffer(content, layout.dtype).reshape(rows, -1)
        for first in range(0, rows, batch_size):
            yield values[first : first + batch_size]


def _planes(segment: Segment, layout: RawLayout, batch_size: int) -> Iterator[np.ndarray]:
    found, dtype = found_of(segment), np.dtype(layout.dtype)
    pixels = layout.height * layout.width
    for block in range(0, segment.rows, _PLANE_ROWS):
        rows = min(_PLANE_ROWS, segment.rows - block)
        values = np.empty((rows, pixels), dtype)
        for pixel in range(pixels):
            first = pixel * layout.rows + segment.first_row + block
            start = layout.offset + first * dtype.itemsize
            content = _read_range(segment, found, start, start + rows * dtype.itemsize)
            values[:, pixel] = np.frombuffer(content, dtype)
        for first in range(0, rows, batch_size):
            yield values[first : first + batch_size]


def _read_range(segment: Segment, found: FoundFile, start: int, end: int) -> bytes:
    content = read_range(found, start, end)
    if len(content) != end - start:
        raise InputError(
            f"{segment.name}: shorter than it was when the job was planned; "
            "leave the input as it is while the job runs, then run it again"
        )
    return content


def _packed(segment: Segment, layout: RawLayout, batch_size: int) -> Iterator[np.ndarray]:
    size = layout.image_bytes
    with open_stream(segment.name, found_of(segment), segment.packing) as stream:
        stream.skip(layout.offset + segment.first_row * size)
        for first in range(0, segment.rows, batch_size):
            rows = min(batch_size, segment.rows - first)
            content = stream.read(rows * size)
            if len(content) < rows * size:
                read_before = (segment.first_row + first) * size
                check_length(segment.name, read_before + len(content), layout.rows, size)
            yield np.frombuffer(content, layout.dtype).reshape(rows, -1)
        # How much more a gzip may take days to unpack.
        if segment.end == layout.rows and stream.read(1):
            raise InputError(
                f"{segment.name}: too long: more follows {layout.rows:,} images: fetch it again"
            )
