"""The header of a .npy file, read without taking the memory that it speaks of."""

import io
import warnings
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np

MAX_NPY_HEADER_BYTES = 1 << 16
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


def npy_header(head: bytes) -> NpyHeader:
    """The header of a .npy, from its first bytes. Raises ValueError where it is none."""
    file = io.BytesIO(head[:MAX_NPY_HEADER_BYTES])
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
