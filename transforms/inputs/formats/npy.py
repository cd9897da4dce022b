"""NumPy's .npy; what is pickled in one is never loaded."""

import io
import warnings
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np

from transforms.errors import InputError, first_line
from transforms.inputs.content import Content
from transforms.inputs.formats.arrays import layout_of, raw_part
from transforms.inputs.formats.part import Part, Wanted, is_transposed

NAME = ".npy"
MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 1 << 16
"""NumPy itself parses none of more than 10,000 characters."""

_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpyHeader(NamedTuple):
    """What a .npy says that it holds. fortran: stored column by column. offset: of the data."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int


def recognizes(content: Content) -> bool:
    """Whether the content begins as a .npy does."""
    return content.head.startswith(MAGIC)


def describe(content: Content, wanted: Wanted) -> list[Part]:
    """The images of the array."""
    header = header_of(content)
    layout = layout_of(
        content.name, header.shape, header.dtype, fortran=header.fortran, fit=wanted.fit
    )
    transposed = is_transposed(wanted.orientation, stored_by_nist=False)
    layout = layout._replace(offset=header.offset)
    return [raw_part(content, layout, wanted, transposed=transposed)]


def header_of(content: Content) -> NpyHeader:
    """The header of a .npy; raises InputError where it is none."""
    head = content.head
    if int.from_bytes(head[8:10], "little") > len(head) - 10:
        head = content.first(MAX_HEADER_BYTES)
    return named_header(content.name, head)


def named_header(name: str, head: bytes) -> NpyHeader:
    """The header of a .npy of a name, from its first bytes; raises InputError where it is none."""
    try:
        return npy_header(head)
    except ValueError as error:
        raise InputError(
            f"{name}: its .npy header cannot be read ({first_line(error)}): save it with "
            "numpy.save()"
        ) from error


def npy_header(head: bytes) -> NpyHeader:
    """The header of a .npy, from its first bytes. Raises ValueError where it is none.

    No memory is taken for what it speaks of.
    """
    file = io.BytesIO(head[:MAX_HEADER_BYTES])
    version = np.lib.format.read_magic(file)
    if version not in _READERS:
        raise ValueError(f"version {version} of the format")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of headers by Python 2, and of odd literals.
            shape, fortran, dtype = _READERS[version](file)
    # Python parses the header: what is cut off or nested deep is no ValueError.
    except (TypeError, TokenError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"no header ({error})") from error
    if any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"an array of shape {shape}")
    return NpyHeader(shape, fortran, dtype, file.tell())
