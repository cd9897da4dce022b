"""Parquet: which columns hold the images and their labels.

Images are bytes (pixels, or PNG and the like), a struct with `bytes` (Hugging Face), lists of
numbers, or a column for each pixel.
"""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.errors import ChangedError, InputError, first_line
from transforms.images import (
    IMAGE_COLUMN,
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    PIXELS,
    STAGED_IMAGE_TYPE,
    Segment,
    check_row_groups,
)
from transforms.inputs.content import Content, in_scratch, random_file
from transforms.inputs.formats.arrays import scale_of
from transforms.inputs.formats.part import (
    Part,
    Wanted,
    check_unpacked,
    class_names,
    is_transposed,
)
from transforms.inputs.parts import changed
from transforms.inputs.readers import columns, row_groups
from transforms.inputs.readers.parquet import PARQUET, ParquetLayout
from transforms.json_documents import parse_json
from transforms.printable import is_unicode
from transforms.staged import STAGED_METADATA_KEY

NAME = "Parquet"
IMAGE_NAMES = (IMAGE_COLUMN, "img", "images", "pixels", "pixel_values", "picture", "data", "x")
LABEL_NAMES = (LABEL_COLUMN, "labels", "class", "character", "target", "letter", "digit", "y")
"""What columns are called, the likeliest first, in small letters."""

_SHOWN_CHARACTERS = 300
_ROWS_AT_ONCE = 1 << 16
_ROWS_LOOKED_AT = 64
"""To tell whether floats go up to 1 or to 255."""


def recognizes(content: Content) -> bool:
    """Whether the content begins as Parquet does."""
    return content.head.startswith(row_groups.MAGIC)


def describe(content: Content, wanted: Wanted) -> list[Part]:
    """The images; what is packed is unpacked first, as Parquet is read from its end."""
    try:
        return [_part(in_scratch(content, wanted.scratch, wanted.max_unpacked_bytes), wanted)]
    except ChangedError as error:
        raise changed(content.name) from error
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise InputError(
            f"{content.name}: cannot be read as Parquet ({first_line(error)}): fetch it again"
        ) from error


def _part(content: Content, wanted: Wanted) -> Part:
    name = content.name
    file = random_file(content)
    metadata = row_groups.read_metadata(file)
    opened = pq.ParquetFile(file, metadata=metadata)
    check_row_groups(name, opened)
    check_unpacked(name, metadata.num_rows, wanted)
    schema = opened.schema_arrow
    images = image_columns(name, schema)
    label = _label_column(name, schema)
    classes = _classes(name, opened, label)
    has_image_ids = _has_image_ids(name, schema, images)
    image_ids = _end_image_ids(opened) if has_image_ids else []
    scale, notes = _scale(name, opened, images)
    unused = [field for field in schema.names if field not in (*images, label, IMAGE_ID_COLUMN)]
    if unused:
        notes += (f"{name}: columns not used: {', '.join(unused)[:_SHOWN_CHARACTERS]}",)
    segment = Segment(
        content.found.path,
        PARQUET,
        metadata.num_rows,
        first_row=0,
        first_image_id=image_ids[0] if image_ids else 0,
        transposed=is_transposed(wanted.orientation, stored_by_nist=False),
        layout=ParquetLayout(images, label, classes, content.start, content.size),
        scale=scale,
        fit=wanted.fit,
        here=content.here,
        called=name,
        bytes=content.found.bytes,
        version=content.found.version,
    )
    return Part(
        name,
        segment,
        _characters(schema, label),
        classes,
        has_image_ids,
        image_ids[-1] if image_ids else None,
        tuple(row_groups.row_group_rows(metadata)),
        row_groups.footer_bytes(content.size, metadata),
        "" if label is None else f"column {label!r}",
        notes,
    )


def image_columns(name: str, schema: pa.Schema) -> tuple[str, ...]:
    """The column of images, or the 784 columns of pixels; raises InputError where none is told."""
    fields = [field for field in schema if field.name != IMAGE_ID_COLUMN]
    for holds in (_is_image, _is_list_of_pixels):
        fitting = [field.name for field in fields if holds(field)]
        chosen = _by_name(fitting, IMAGE_NAMES) or (fitting[0] if len(fitting) == 1 else None)
        if chosen is not None:
            return (chosen,)
        if fitting:
            raise InputError(
                f"{name}: columns {', '.join(fitting)[:_SHOWN_CHARACTERS]} could all be the "
                f"images: call that of the images {IMAGE_COLUMN!r}"
            )
    pixels = _pixel_columns([field.name for field in fields if columns.is_number(field.type)])
    if pixels:
        return pixels
    shown = ", ".join(f"{field.name} ({field.type})" for field in schema)[:_SHOWN_CHARACTERS]
    raise InputError(
        f"{name}: no column holds images, of {shown}: give a column {IMAGE_COLUMN!r} of bytes, of "
        f"structs with `bytes` (Hugging Face) or of lists of {PIXELS} numbers, or {PIXELS} columns"
    )


def _is_image(field: pa.Field) -> bool:
    kind = field.type
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and columns.is_bytes(kind.field(place).type)
    return columns.is_bytes(kind)


def _is_list_of_pixels(field: pa.Field) -> bool:
    return columns.pixel_type(field.type) is not None


def _by_name(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The one of the names that is the likeliest of the known ones; None for none."""
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[name] for name in known if name in by_lower), None)


def _pixel_columns(names: Sequence[str]) -> tuple[str, ...]:
    """784 columns of pixels, in the order of the numbers in their names; () where there are not."""
    label = _by_name(names, LABEL_NAMES)
    pixels = [name for name in names if name != label and not name.startswith("__index")]
    if len(pixels) != PIXELS:
        return ()
    numbers = {name: tuple(map(int, re.findall(r"\d{1,9}", name))) for name in pixels}
    if len(set(numbers.values())) == PIXELS:
        pixels.sort(key=numbers.__getitem__)
    return tuple(pixels)


def _label_column(name: str, schema: pa.Schema) -> str | None:
    label = _by_name(schema.names, LABEL_NAMES)
    if label is None:
        return None
    kind = schema.field(label).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (columns.is_number(value) or columns.is_text(value)):
        raise InputError(
            f"{name}: column {label!r} is {kind}: store labels there, as whole numbers or text"
        )
    return label


def _classes(name: str, file: pq.ParquetFile, label: str | None) -> tuple[str, ...]:
    """The texts of a column of labels, sorted; () where they are numbers."""
    if label is None or not columns.is_text(file.schema_arrow.field(label).type):
        return ()
    found: set[str] = set()
    classes: tuple[str, ...] = ()
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[label], use_threads=False):
        texts = pc.unique(batch.column(0).cast(pa.large_string())).drop_null()
        found.update(texts.to_pylist())
        classes = class_names(name, found)
    return classes


def _scale(
    name: str, file: pq.ParquetFile, images: tuple[str, ...]
) -> tuple[float, tuple[str, ...]]:
    """What values are multiplied by, and a note on it; floats are told by the first of them."""
    kind = file.schema_arrow.field(images[0]).type
    kind = columns.pixel_type(kind) or kind
    if not pa.types.is_floating(kind):
        return scale_of(name, np.zeros(0, bool if pa.types.is_boolean(kind) else np.uint8))
    for batch in file.iter_batches(_ROWS_LOOKED_AT, columns=list(images), use_threads=False):
        arrays = [batch.column(image) for image in images]
        return scale_of(name, columns.first_values(arrays))
    return 1.0, ()


def _has_image_ids(name: str, schema: pa.Schema, images: tuple[str, ...]) -> bool:
    """Whether the file has image_ids of its own, as staged images have."""
    if schema.field(images[0]).type != STAGED_IMAGE_TYPE or IMAGE_ID_COLUMN not in schema.names:
        return False
    kind = schema.field(IMAGE_ID_COLUMN).type
    if not pa.types.is_integer(kind):
        raise InputError(f"{name}: column 'image_id' is {kind}: store whole numbers there")
    return True


def _end_image_ids(file: pq.ParquetFile) -> list[int]:
    """The image_ids of a file's first and last row groups; a null counts as 0.

    They are read: the statistics of a column could be damaged, and then Arrow ends the process.
    """
    rows = row_groups.row_group_rows(file.metadata)
    groups = [group for group, count in enumerate(rows) if count]
    ends = sorted({*groups[:1], *groups[-1:]})
    batches = file.iter_batches(
        _ROWS_AT_ONCE, row_groups=ends, columns=[IMAGE_ID_COLUMN], use_threads=False
    )
    ends_of_batches = ((batch.column(0)[0], batch.column(0)[-1]) for batch in batches)
    return [image_id.as_py() or 0 for pair in ends_of_batches for image_id in pair]


def _characters(schema: pa.Schema, label_column: str | None) -> dict[int, str]:
    metadata = schema.metadata or {}
    try:
        if STAGED_METADATA_KEY in metadata:
            characters = parse_json(metadata[STAGED_METADATA_KEY])["characters"]
            return _in_unicode({int(label): str(name) for label, name in characters.items()})
        features = parse_json(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return _in_unicode(dict(enumerate(map(str, features[label_column]["names"]))))
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # Characters are shown where they are known, and not needed.


def _in_unicode(characters: dict[int, str]) -> dict[int, str]:
    """The characters; nothing where one is no text that can be stored."""
    return characters if all(map(is_unicode, characters.values())) else {}
