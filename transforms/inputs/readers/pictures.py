"""Reads files of one image each, in folders or in a zip."""

import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from transforms.errors import FileSystemError, InputError, first_line
from transforms.images import PIXELS, Segment
from transforms.inputs.content import DAMAGE, open_member
from transforms.inputs.readers.decode import MAX_ENCODED_BYTES, decode_image
from transforms.inputs.readers.rows import Rows
from transforms.storage.files import REQUESTS_AT_ONCE, child, is_local, open_binary, read_bytes

PICTURES = "pictures"
"""The format of a segment that this module reads."""
IN_ZIP = "zip"
"""The packing of pictures in a zip."""


def read(segment: Segment, batch_size: int) -> Iterator[Rows]:
    """The rows of a segment in order, no more than `batch_size` at once."""
    names = segment.files or ()
    with ExitStack() as stack:
        if segment.packing:
            file = stack.enter_context(open_binary(segment.path, segment.found))
            opened = stack.enter_context(zipfile.ZipFile(file))
            read_one: Callable[[str], bytes] = lambda name: _member(opened, name)  # noqa: E731
            at_once = 1
        else:
            read_one = lambda name: _file(child(segment.path, name))  # noqa: E731
            at_once = 1 if is_local(segment.path) else REQUESTS_AT_ONCE
        pool = stack.enter_context(ThreadPoolExecutor(at_once))
        for first in range(0, len(names), batch_size):
            some = names[first : first + batch_size]
            images = pool.map(lambda name: _image(name, read_one, fit=segment.fit), some)
            yield _rows(list(images))


def _rows(images: list[np.ndarray | str]) -> Rows:
    pixels = [image for image in images if not isinstance(image, str)]
    reasons = {place: image for place, image in enumerate(images) if isinstance(image, str)}
    return Rows(len(images), np.array(pixels, np.uint8).reshape(-1, PIXELS), reasons=reasons)


def _image(name: str, read_one: Callable[[str], bytes], *, fit: bool) -> np.ndarray | str:
    """The pixels of an image, or why it cannot be read."""
    try:
        return decode_image(read_one(name), fit=fit)
    except (InputError, FileSystemError) as error:
        return f"{name} {error}"


def _file(path: str) -> bytes:
    return read_bytes(path, MAX_ENCODED_BYTES)


def _member(opened: zipfile.ZipFile, name: str) -> bytes:
    try:
        with open_member(opened, opened.getinfo(name)) as member:
            content: bytes = member.read(MAX_ENCODED_BYTES + 1)
    except DAMAGE as error:
        raise InputError(f"is damaged ({first_line(error)})") from error
    if len(content) > MAX_ENCODED_BYTES:
        raise InputError(f"has more than {MAX_ENCODED_BYTES:,} bytes")
    return content
