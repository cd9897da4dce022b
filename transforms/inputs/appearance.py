"""Looks at some images of each file: whether they lie, and are inked, as they are taken.

What is certain is taken as it is seen, and noted. What a name and the eye say differently, and what
could be one thing or the other, is refused.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from itertools import repeat
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from transforms.errors import InputError
from transforms.images import MAX_PIXEL, PIXELS, Segment, toned, upright
from transforms.inputs.formats.part import Part, Wanted
from transforms.inputs.looks import is_dark_on_light, largest_value, orientation_of
from transforms.inputs.readers.raw import RAW
from transforms.inputs.readers.rows import Rows
from transforms.inputs.readers.table import READERS
from transforms.storage.files import is_local

_FILES = 16
"""Looked at, evenly spread; the others are taken as these are."""
_IMAGES, _BLOCKS = 256, 8
"""Of a file; from so many places where that is no further request."""
_SCALES = (1, 15, 16, MAX_PIXEL)
"""The largest values that are known: of bits, of 4 bits, of the UCI digits, and of bytes."""
_DIM = 128
_FEW = 0.05


class _Seen(NamedTuple):
    """A file's images as they are stored, and what values and ink they have. full: full ink."""

    part: Part
    pixels: np.ndarray
    full: int
    inverted: bool

    @property
    def upright(self) -> np.ndarray:
        """The images as they would be encoded, as far as can be told."""
        pixels = toned(np.minimum(self.pixels, self.full), self.full, inverted=self.inverted)
        return upright(pixels) if self.part.segment.transposed else pixels


def with_appearance(
    parts: Sequence[Part], wanted: Wanted, pool: Executor
) -> tuple[list[Part], list[str]]:
    """The parts with the appearance that their images have, and notes on it.

    pool: what looks at files. Raises InputError where it cannot be told, or contradicts the name of
    a file.
    """
    with_rows = [part for part in parts if part.segment.rows]
    if not with_rows:
        return list(parts), []
    chosen = with_rows[:: -(-len(with_rows) // _FILES)]
    seen = list(pool.map(_seen, chosen, repeat(wanted)))
    fulls, inks = {each.full for each in seen}, {each.inverted for each in seen}
    if len(seen) < len(with_rows) and (len(fulls) > 1 or len(inks) > 1):
        raise InputError(
            "--input: some files are dark on light or have other values than others, and there are "
            "too many to look at all: give those that are alike, or say --invert and --max_pixel"
        )
    looks = _check_orientation(seen, wanted)
    toning = {each.part.name: (each.full, each.inverted) for each in seen}
    first = seen[0].full, seen[0].inverted
    found = []
    for part in parts:
        full, inverted = toning.get(part.name, first)
        found.append(part._replace(segment=part.segment._replace(full=full, inverted=inverted)))
    return found, [f"orientation: {looks}", f"pixels: {', '.join(_pixels(seen))}"]


def _seen(part: Part, wanted: Wanted) -> _Seen:
    pixels = _sample(part.segment)
    full = wanted.max_pixel or _full(part.name, pixels)
    return _Seen(part, pixels, full, _inverted(part.name, pixels, full, wanted.invert))


def _sample(segment: Segment) -> np.ndarray:
    """Some images as they are stored: uint8 (n, 784), n = 0 where they cannot be read."""
    try:
        parts = [rows.pixels for some in _some(segment) for rows in _read(some)]
    # What is wrong with them, the job says in its own time, with the row.
    except (InputError, pa.ArrowException, OSError, KeyError, ValueError, MemoryError):
        parts = []
    return np.concatenate([np.zeros((0, PIXELS), np.uint8), *parts])


def _read(segment: Segment) -> Iterator[Rows]:
    return READERS[segment.format].read(segment, segment.rows)


def _some(segment: Segment) -> Iterator[Segment]:
    """Rows from several places of a file; from its beginning where others cost more."""
    is_far = not is_local(segment.path)
    layout = segment.layout
    if is_far and getattr(layout, "planes", False):
        return
    can_skip = segment.format == RAW and not segment.packing and not is_far
    count = min(_IMAGES, segment.rows)
    blocks = _BLOCKS if can_skip and segment.rows > _IMAGES else 1
    for block in range(blocks):
        skip = block * (segment.rows - count // blocks) // max(1, blocks - 1)
        yield segment.part(skip, count // blocks)


def _full(name: str, pixels: np.ndarray) -> int:
    """The value of full ink."""
    largest = largest_value(pixels)
    if largest is None or largest >= _DIM:
        return MAX_PIXEL
    if largest not in _SCALES:
        raise InputError(
            f"{name}: its brightest pixel is {largest} of {MAX_PIXEL} in {len(pixels)} images: say "
            f"by --max_pixel what stands for white ({MAX_PIXEL} if they are as dark as that)"
        )
    return largest


def _inverted(name: str, pixels: np.ndarray, full: int, invert: str) -> bool:
    if invert != "auto":
        return invert == "yes"
    contrasting = pixels[np.ptp(pixels, axis=1) > 0] if len(pixels) else pixels
    if not len(contrasting):
        return False
    dark = is_dark_on_light(toned(np.minimum(contrasting, full), full, inverted=False))
    share = float(dark.mean())
    if _FEW < share < 1 - _FEW:
        raise InputError(
            f"{name}: {int(dark.sum())} of {len(dark)} images are dark on light, and others are "
            "not: give them apart, or say by --invert=yes or --invert=no how to take all"
        )
    return share > _FEW


def _check_orientation(seen: Sequence[_Seen], wanted: Wanted) -> str:
    """How images lie, in words. Raises InputError where they do not look as they are taken."""
    said = Counter("transposed" if each.part.segment.transposed else "upright" for each in seen)
    taken = " and ".join(said)
    if wanted.orientation != "auto":
        return f"{taken}, as --orientation says"
    judged = [orientation_of(each.upright) for each in seen]
    together = orientation_of(np.concatenate([each.upright for each in seen]))
    wrong = [each for each, look in zip(seen, judged, strict=True) if look == "transposed"]
    if not wrong and together == "transposed" and "upright" not in judged:
        wrong = list(seen)
    if wrong:
        part = wrong[0].part
        is_named = part.segment.transposed
        raise InputError(
            f"{part.name}: its images look {'upright' if is_named else 'transposed'}, and "
            + (
                "by its name, as NIST's files are, they are transposed"
                if is_named
                else "nothing in its name says so"
            )
            + ": say --orientation=upright or --orientation=transposed"
        )
    if "upright" in judged or together == "upright":
        return f"{taken}, and they look so"
    why = "by their names" if "transposed" in said else "as no name says otherwise"
    return f"{taken}, {why} (not to be told by looking at them)"


def _pixels(seen: Sequence[_Seen]) -> list[str]:
    said = Counter(_words(each) for each in seen)
    return [
        what if len(said) == 1 else f"{what} in {count} of {len(seen)} files"
        for what, count in said.items()
    ]


def _words(seen: _Seen) -> str:
    values = f"0 to {seen.full}"
    if seen.full != MAX_PIXEL:
        values += f", brought to 0 to {MAX_PIXEL}"
    return values + (", dark on light: inverted" if seen.inverted else ", light on dark")
