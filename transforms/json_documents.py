"""JSON that anybody may have written: read within limits, as the type that it has to be."""

import json
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from transforms.errors import InputError
from transforms.storage.files import read_bytes

MAX_JSON_BYTES = 64 << 20
"""A manifest takes 350 bytes a shard: 190,000 shards. Parsed it takes some 20 times as much."""
MAX_DEPTH = 64
"""Levels of a document of any type; a network of Keras's own layers has about 12."""
MAX_COUNT = 1 << 62

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
"""A whole number from 0 up, within what 64 bits hold."""
Document = TypeVar("Document")

_MAX_NAME_CHARACTERS = 255


class Header(msgspec.Struct, frozen=True):
    """What a document says of itself before all else."""

    format: str = ""
    format_version: Count = 1


def read_document(path: str, kind: type[Document]) -> Document:
    """Reads a document. Raises ValueError as decode does, OSError as read_bytes."""
    return decode(read_bytes(path, at_most=MAX_JSON_BYTES), kind)


def decode(content: bytes, kind: type[Document]) -> Document:
    """The document in some JSON.

    Raises ValueError where it is not JSON, is too long or nested too deep, or is of another type.
    """
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"more than {MAX_JSON_BYTES:,} bytes of JSON")
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def encode(document: Any) -> bytes:
    """The JSON of a document, for a person to read too."""
    return (json.dumps(json.loads(msgspec.json.encode(document)), indent=2) + "\n").encode()


def check_version(header: Header, known: int, name: str) -> None:
    """Raises InputError where a document's format is newer than the newest known one.

    name: what the document is called in the error. Check it before the rest of the document, which
    a newer format may change.
    """
    if header.format_version > known:
        raise InputError(
            f"{name} has format version {header.format_version}, and this program knows versions "
            f"up to {known}: use a newer emnist-latents"
        )


def read_json(path: str) -> Any:
    """What a JSON document of any type holds. Raises ValueError as parse_json does."""
    return parse_json(read_bytes(path, at_most=MAX_JSON_BYTES))


def parse_json(content: bytes) -> Any:
    """The value of a JSON document of any type; raises ValueError as decode does."""
    value = decode(content, Any)
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [below for part in level for below in _parts(part)]
        if not level:
            return value
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def check_shape(value: Any, shape: Any, place: str = "") -> None:
    """Raises ValueError, with the place, unless a value of JSON has the shape.

    shape: a type; None; a predicate; a tuple of shapes, one of which it has; [shape] for a list;
    {name: shape} for an object that has at least these; {...: shape} for one of any names.
    """
    if isinstance(shape, tuple):
        _check_one_of(value, shape, place)
    elif isinstance(shape, list):
        _check_is(isinstance(value, list), value, place)
        for position, part in enumerate(value):
            check_shape(part, shape[0], f"{place}[{position}]")
    elif isinstance(shape, dict):
        _check_is(isinstance(value, dict), value, place)
        for name, below in value.items() if ... in shape else shape.items():
            if ... not in shape and name not in value:
                raise ValueError(f"{place or 'it'} has no {name!r}")
            part, expected = (below, shape[...]) if ... in shape else (value[name], below)
            check_shape(part, expected, f"{place}.{name}".lstrip("."))
    elif shape is None:
        _check_is(value is None, value, place)
    else:
        _check_is(_is_a(value, shape), value, place)


def _check_one_of(value: Any, shapes: tuple[Any, ...], place: str) -> None:
    errors = []
    for shape in shapes:
        try:
            check_shape(value, shape, place)
        except ValueError as error:
            errors.append(error)
        else:
            return
    raise errors[-1]


def _check_is(is_so: bool, found: Any, place: str) -> None:
    if not is_so:
        raise ValueError(f"{place or 'it'} is {repr(found)[:60]}")


def _is_a(value: Any, kind: Any) -> bool:
    if not isinstance(kind, type):
        return bool(kind(value))
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def is_count(value: Any) -> bool:
    """Whether a value of JSON is a whole number from 0 up, within what 64 bits hold."""
    return _is_a(value, int) and 0 <= value <= MAX_COUNT


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number, if a whole one within what 64 bits hold."""
    return _is_a(value, float) or (_is_a(value, int) and abs(value) <= MAX_COUNT)


def check_name(value: str) -> None:
    """Raises ValueError unless a file or a folder may have this name, and it can be shown."""
    if not is_name(value):
        raise ValueError(f"{value[:60]!r} is not a name")


def check_path_below(value: str) -> None:
    """Raises ValueError unless a path, with forward slashes, stays below the folder it is of."""
    if not is_path_below(value):
        raise ValueError(f"{value[:60]!r} is not a path below its folder")


def is_name(value: Any) -> bool:
    """Whether a value is a name that a file or a folder may have, and that can be shown."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAX_NAME_CHARACTERS
        and value.isprintable()
        and value not in (".", "..")
        and not set(value) & set("/\\")
    )


def is_path_below(value: Any) -> bool:
    """Whether a value is a path, with forward slashes, that stays below the folder it is of."""
    return isinstance(value, str) and all(is_name(part) for part in value.split("/"))
