"""All file formats, and what a file holds."""

from typing import cast

from transforms.errors import InputError
from transforms.inputs.content import Content, unpacked
from transforms.inputs.formats import csv, idx, mat, npy, parquet, tfrecord, zips
from transforms.inputs.formats.part import Format, Part, Wanted

FORMATS = cast(tuple[Format, ...], (idx, npy, parquet, mat, tfrecord, csv))
"""A format is recognized by the first of these that does."""
_MOST_LAYERS = 3
"""Of packing: a gzip within a zip within a zip."""


def describe(content: Content, wanted: Wanted) -> list[Part]:
    """What a file holds, whatever it is packed in. Raises InputError where that cannot be read."""
    if content.packed_by is not None and len(content.packing) < _MOST_LAYERS:
        return describe(unpacked(content), wanted)
    if zips.recognizes(content):
        return zips.describe(content, wanted, describe)
    for known in FORMATS:
        if known.recognizes(content):
            return known.describe(content, wanted)
    raise InputError(
        f"{content.name}: unknown format (it begins with {content.head[:8]!r}): give one of "
        + ", ".join(known.NAME for known in FORMATS)
    )
