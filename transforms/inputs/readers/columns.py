"""Columns of Parquet that hold images or labels, as arrays of NumPy."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.errors import InputError
from transforms.images import (
    MAX_LABEL,
    NO_LABEL,
    PIXELS,
    STAGED_IMAGE_TYPE,
)
from transforms.inputs.readers.decode import MAX_ENCODED_BYTES, decode_image
from transforms.inputs.readers.rows import Rows, to_pixels

_DECODED_MAGICS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
"""How the encoded images begin that are decoded; other bytes are pixels, if they are 784."""


def is_list(kind: pa.DataType) -> bool:
    """Whether each value is a list."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    """Whether each value is a number, or true or false."""
    floats = pa.types.is_floating(kind)
    return bool(floats or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether each value is a string of bytes."""
    fixed = pa.types.is_fixed_size_binary(kind)
    return bool(fixed or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether each value is text, itself or by a dictionary."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def storage_type(kind: pa.DataType) -> pa.DataType:
    """How a type is stored: without what an extension says that it means."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def pixel_type(kind: pa.DataType) -> pa.DataType | None:
    """The type of one pixel, for a column of lists of numbers; None for other columns."""
    kind = storage_type(kind)
    if not is_list(kind):
        return None
    while is_list(kind):
        kind = kind.value_type
    return kind if is_number(kind) else None


def image_rows(path: str, columns: list[pa.Array], scale: float, *, fit: bool) -> Rows:
    """Images of a column that holds them, or of one column for each pixel."""
    if len(columns) > 1:
        return _pixel_columns(path, columns, scale)
    images = columns[0]
    if isinstance(images, pa.ExtensionArray):
        images = images.storage
    if images.type == STAGED_IMAGE_TYPE and images.null_count == 0:
        start = images.offset * PIXELS
        pixels = np.frombuffer(images.buffers()[1], np.uint8, len(images) * PIXELS, start)
        return Rows(len(images), pixels.reshape(-1, PIXELS))
    if is_list(images.type):
        return _lists(path, images, scale)
    return _decoded(images, fit=fit)


def first_values(images: list[pa.Array]) -> np.ndarray:
    """The numbers in some rows of images, in no order that matters."""
    if len(images) > 1:
        return np.concatenate([column.to_numpy(zero_copy_only=False) for column in images])
    values = images[0].storage if isinstance(images[0], pa.ExtensionArray) else images[0]
    while is_list(values.type):
        values = values.flatten()
    numbers: np.ndarray = values.to_numpy(zero_copy_only=False)
    return numbers


def _pixel_columns(path: str, columns: list[pa.Array], scale: float) -> Rows:
    values = np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)
    empty = {
        int(row): "a pixel is null"
        for row in np.flatnonzero(np.any([column.is_null() for column in columns], axis=0))
    }
    kept = np.delete(values, list(empty), axis=0)
    return Rows(len(values), to_pixels(path, kept, scale), reasons=empty)


def _lists(path: str, images: pa.Array, scale: float) -> Rows:
    ends, values = np.arange(len(images) + 1), images
    while is_list(values.type):
        if pa.types.is_fixed_size_list(values.type):
            ends = (ends + values.offset) * values.type.list_size
        else:
            ends = values.offsets.to_numpy()[ends]
        values = values.values
    lengths, valid = np.diff(ends), images.is_valid().to_numpy(zero_copy_only=False)
    reasons: dict[int, str] = {}
    for position in np.flatnonzero((lengths != PIXELS) | ~valid):
        length = lengths[position]
        reasons[int(position)] = (
            f"has {length} pixels, not {PIXELS}" if valid[position] else "there is no image"
        )
    kept = np.delete(np.arange(len(images)), list(reasons))
    if not reasons:  # They follow each other.
        values = values.slice(ends[0], ends[-1] - ends[0])
    else:
        values = values.take(pa.array((ends[kept, None] + np.arange(PIXELS)).ravel()))
    if values.null_count:
        empty = values.is_null().to_numpy(zero_copy_only=False).reshape(-1, PIXELS).any(axis=1)
        reasons.update(dict.fromkeys(kept[empty].tolist(), "a pixel is null"))
        values = values.filter(pa.array(np.repeat(~empty, PIXELS)))
    pixels = values.to_numpy(zero_copy_only=False).reshape(-1, PIXELS)
    return Rows(len(images), to_pixels(path, pixels, scale), reasons=reasons)


def _decoded(images: pa.Array, *, fit: bool) -> Rows:
    contents = pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images
    pixels, reasons = [], {}
    for position, content in enumerate(contents):
        try:
            pixels.append(_pixels_of(content, fit=fit))
        except InputError as error:
            reasons[position] = str(error)
    return Rows(len(images), np.array(pixels, np.uint8).reshape(-1, PIXELS), reasons=reasons)


def _pixels_of(content: pa.Scalar, *, fit: bool) -> np.ndarray:
    """An image of a row: bare pixels, or an encoded image."""
    if not content.is_valid:
        raise InputError("there are no bytes")
    buffer = content.as_buffer()
    if buffer.size > MAX_ENCODED_BYTES:
        raise InputError(f"takes {buffer.size:,} bytes, and {MAX_ENCODED_BYTES:,} are the most")
    encoded = buffer.to_pybytes()
    if len(encoded) == PIXELS and not encoded.startswith(_DECODED_MAGICS):
        return np.frombuffer(encoded, np.uint8)
    return decode_image(encoded, fit=fit)


def label_numbers(path: str, name: str, column: pa.Array, classes: tuple[str, ...]) -> np.ndarray:
    """Labels as int32, NO_LABEL for null. classes: what texts are numbers of, in order."""
    if is_text(column.type):
        texts = column.cast(pa.large_string())
        if classes:
            numbers = pc.index_in(texts, pa.array(classes, pa.large_string()))
        else:
            numbers = texts.cast(pa.int64())
    elif pa.types.is_dictionary(column.type):
        numbers = column.dictionary_decode()
    else:
        numbers = column
    values = _whole(path, name, numbers)
    wrong = values[(values < NO_LABEL) | (values > MAX_LABEL)]
    if len(wrong):
        raise InputError(
            f"{path}: column {name!r} holds {wrong[0]}; labels are whole numbers from 0 to "
            f"{MAX_LABEL} (null or -1: none)"
        )
    return values.astype(np.int32)


def _whole(path: str, name: str, numbers: Any) -> np.ndarray:
    if pa.types.is_floating(numbers.type):
        floats: np.ndarray = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
        floats = np.where(np.isnan(floats), NO_LABEL, floats)
        part = next((value for value in floats if not value.is_integer()), None)
        if part is not None:
            raise InputError(
                f"{path}: column {name!r} holds {part:g}; labels are whole numbers: store them so"
            )
        bounded: np.ndarray = np.clip(floats, -math.inf, float(1 << 40)).astype(np.int64)
        return bounded
    values: np.ndarray = numbers.cast(pa.int64()).fill_null(NO_LABEL).to_numpy()
    return values
