"""Arrays of pixels in a file: whether they are images, and how they lie."""

import numpy as np

from transforms.errors import InputError
from transforms.images import MAX_PIXEL, PIXELS, SIDE, Segment
from transforms.inputs.content import Content, in_scratch
from transforms.inputs.formats.part import Part, Wanted, check_unpacked
from transforms.inputs.readers.raw import RAW, RawLayout, check_length

_KINDS = "biuf"
"""Of NumPy's types, those of numbers."""
_LOOKED_AT_BYTES = 4 << 10


def layout_of(
    name: str, shape: tuple[int, ...], dtype: np.dtype, *, fortran: bool, fit: bool
) -> RawLayout:
    """The layout of an array of images, at offset 0; raises InputError where it is not one."""
    if dtype.hasobject:
        raise InputError(f"{name}: holds pickled objects, which are never loaded: save it as uint8")
    if dtype.kind not in _KINDS:
        raise InputError(f"{name}: is of type {dtype}, not numbers: save pixels from 0 to 255")
    layout = shaped(shape, dtype.str, fortran=fortran)
    if layout is None:
        raise InputError(
            f"{name}: is of shape {shape}; images are (n, {SIDE}, {SIDE}), (n, {SIDE}, {SIDE}, 1), "
            f"(n, 1, {SIDE}, {SIDE}), ({SIDE}, {SIDE}, n) or (n, {PIXELS}): reshape it"
        )
    check_size(name, layout.height, layout.width, fit=fit)
    return layout


def shaped(shape: tuple[int, ...], dtype: str, *, fortran: bool) -> RawLayout | None:
    """The layout of an array of the shape of images, at offset 0; None for another shape."""
    if len(shape) == 3 and shape[:2] == (SIDE, SIDE) and shape[1:] != (SIDE, SIDE):  # noqa: PLR2004
        # The images are side by side: the order of the axes is that of Fortran, turned round.
        return RawLayout(0, shape[2], dtype, planes=not fortran, by_column=fortran)
    if len(shape) == 4 and 1 in (shape[1], shape[3]):  # noqa: PLR2004  # One channel.
        shape = (shape[0], *(shape[2:] if shape[1] == 1 else shape[1:3]))
    if len(shape) == 2 and shape[1] == PIXELS:  # noqa: PLR2004
        return RawLayout(0, shape[0], dtype, planes=fortran)
    if len(shape) == 3 and shape[1] and shape[2]:  # noqa: PLR2004
        return RawLayout(0, *shape[:1], dtype, *shape[1:], planes=fortran, by_column=fortran)
    return None


def check_size(name: str, height: int, width: int, *, fit: bool) -> None:
    """Raises InputError for images of another size, unless they are to be fitted."""
    if (height, width) != (SIDE, SIDE) and not fit:
        raise InputError(
            f"{name}: its images are {height}x{width}, not {SIDE}x{SIDE}: --fit brings them to "
            "EMNIST's size and margin"
        )


def raw_part(content: Content, layout: RawLayout, wanted: Wanted, *, transposed: bool) -> Part:
    """The part of an array of images within content. Raises InputError where it is cut off."""
    if content.packing and layout.planes:
        content = in_scratch(content, wanted.scratch, wanted.max_unpacked_bytes)
    if content.packing:
        check_unpacked(content.name, layout.rows, wanted, layout.image_bytes)
    else:
        check_length(content.name, content.size - layout.offset, layout.rows, layout.image_bytes)
        layout = layout._replace(offset=layout.offset + content.start)
    scale, notes = _scale_of(content, layout)
    segment = Segment(
        content.found.path,
        RAW,
        layout.rows,
        first_row=0,
        first_image_id=0,
        transposed=transposed,
        layout=layout,
        packing=content.packing,
        scale=scale,
        fit=layout.size != (SIDE, SIDE),
        here=content.here,
        called=content.name,
        bytes=content.found.bytes,
        version=content.found.version,
    )
    return Part(content.name, segment, {}, notes=notes)


def _scale_of(content: Content, layout: RawLayout) -> tuple[float, tuple[str, ...]]:
    """What values are multiplied by, and a note on it."""
    dtype, start = np.dtype(layout.dtype), layout.offset - content.start
    if layout.planes:  # The first pixel of all images is black.
        start += (PIXELS + SIDE) // 2 * layout.rows * dtype.itemsize
    known = content.head[start:]
    if dtype.kind == "f" and not known:
        known = content.part(start, start + _LOOKED_AT_BYTES)
    count = len(known) // dtype.itemsize
    return scale_of(content.name, np.frombuffer(known, dtype, count))


def scale_of(name: str, values: np.ndarray) -> tuple[float, tuple[str, ...]]:
    """What values are multiplied by to be from 0 to 255, and a note on it.

    values: the first ones, by which floats are told. What is told wrongly is found when the images
    are read: no value may come out above 255.
    """
    if values.dtype.kind == "b":
        return MAX_PIXEL, (f"{name}: pixels are true or false: true becomes {MAX_PIXEL}",)
    if values.dtype.kind != "f":
        return 1.0, ()
    if np.nanmax(values, initial=0) > 1:
        return 1.0, (f"{name}: pixels are floats from 0 to {MAX_PIXEL}: rounded",)
    return MAX_PIXEL, (f"{name}: pixels are floats from 0 to 1: times {MAX_PIXEL}",)
