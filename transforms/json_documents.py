"""JSON that anybody may have written: read within limits, and checked for its shape."""

import json
from typing import Any

from transforms.errors import InputError
from transforms.storage.files import read_bytes

MAX_JSON_BYTES = 64 << 20
"""A manifest takes 350 bytes a shard: 190,000 shards. Parsed it takes some 20 times as much."""
MAX_DEPTH = 64
"""Levels of a document; ours have 5, a network of Keras's own layers about 12."""
MAX_COUNT = 1 << 62

_MAX_NAME_CHARACTERS = 255


def read_json(path: str) -> Any:
    """What a JSON document holds. Raises ValueError as parse_json does, OSError as read_bytes."""
    return parse_json(read_bytes(path, at_most=MAX_JSON_BYTES))


def parse_json(content: bytes) -> Any:
    """The value of a JSON document in UTF-8.

    Raises ValueError where it is none, is too long, is nested too deep, or has text that is none.
    """
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"more than {MAX_JSON_BYTES:,} bytes of JSON")
    text = content.decode()
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    _check_depth(value)
    if "\\ud" in text.lower():  # Half a character cannot be printed, nor be part of a path.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [below for part in level for below in _parts(part)]
        if not level:
            return
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


def check_version(document: Any, known: int, name: str) -> None:
    """Raises InputError where a document's format is newer than the newest known one.

    name: what the document is called in the error. Raises ValueError where it is not an object
    with a whole number for a version. Check it before the shape, which a newer format may change.
    """
    _check_is(isinstance(document, dict), document, "")
    version = document.get("format_version", 1)
    if not is_count(version):
        raise ValueError(f"format_version is {repr(version)[:60]}")
    if version > known:
        raise InputError(
            f"{name} has format version {version}, and this program knows versions up to {known}: "
            "use a newer emnist-latents"
        )


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
