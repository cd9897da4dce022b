"""One image from an encoded file: PNG, JPEG, WebP, BMP, TIFF or GIF."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from transforms.errors import InputError, first_line
from transforms.images import MAX_PIXEL, PIXELS, SIDE
from transforms.inputs.readers.fit import fit_image

MAX_ENCODED_BYTES = 16 << 20
"""Of one encoded image; a scanned page takes less."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_LARGEST_SIDE = 4096
"""Of an image that is fitted: 16 million pixels are decoded in 64 MB."""
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L")
_WIDE_MAX = (1 << 16) - 1
_AS_THEY_LOOK = ("1", "L", "P", "RGB", "CMYK", "YCbCr")

# Of damaged metadata, or of a size to beware of: what matters becomes a reject.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_image(content: bytes, *, fit: bool = False) -> np.ndarray:
    """One 28x28 image from the bytes of a file: uint8 (784,), grey, as it looks.

    Colours become grey, 16 bits become 8, what EXIF says of its rotation is done, and what is
    transparent becomes white behind dark ink, black behind light ink. fit: bring another size to
    28x28. Raises InputError, which says what is wrong with it.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check(image, fit=fit)
            grey = _grey(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except UnidentifiedImageError as error:  # Its text has an address in it.
        raise InputError(f"is not one of {', '.join(_FORMATS)}") from error
    except Exception as error:  # Pillow raises many kinds for bytes that are no image.
        raise InputError(f"is not an image that can be read ({first_line(error)})") from error
    return (fit_image(grey) if grey.shape != (SIDE, SIDE) else grey).reshape(PIXELS)


def _check(image: Image.Image, *, fit: bool) -> None:
    """Raises InputError for an image that must not be decoded."""
    if not fit and image.size != (SIDE, SIDE):
        raise InputError(f"is {image.width}x{image.height}, not {SIDE}x{SIDE}")
    if max(image.size) > _LARGEST_SIDE:
        raise InputError(
            f"is {image.width}x{image.height}; {_LARGEST_SIDE} pixels are the most that a side may "
            "have"
        )
    if getattr(image, "is_animated", False):
        raise InputError("holds several pictures")


def _grey(image: Image.Image) -> np.ndarray:
    """Grey as it looks: uint8 (height, width)."""
    if image.mode in _WIDE_MODES:
        return _narrowed(np.asarray(image).astype(np.int64))
    if image.has_transparency_data:
        return _on_background(np.asarray(image.convert("RGBA").convert("LA")).astype(np.int64))
    if image.mode not in _AS_THEY_LOOK:
        raise InputError(f"is of mode {image.mode}; read are {', '.join(_AS_THEY_LOOK)}")
    colours = image if image.mode in ("1", "L") else image.convert("RGB")
    return np.asarray(colours.convert("L"))


def _narrowed(values: np.ndarray) -> np.ndarray:
    """16 bits to 8."""
    if values.min() < 0 or values.max() > _WIDE_MAX:
        raise InputError(f"holds values from {values.min()} to {values.max()}, not of 16 bits")
    if 0 < values.max() <= MAX_PIXEL:
        raise InputError(f"is of 16 bits, and nearly black: its values go up to {values.max()}")
    narrowed: np.ndarray = np.rint(values / (_WIDE_MAX / MAX_PIXEL)).astype(np.uint8)
    return narrowed


def _on_background(values: np.ndarray) -> np.ndarray:
    """Grey with alpha (height, width, 2) on white behind dark ink, on black behind light ink."""
    grey, alpha = values[..., 0], values[..., 1]
    if not alpha.any():
        raise InputError("is all transparent")
    background = 0 if (grey * alpha).sum() > alpha.sum() * (MAX_PIXEL / 2) else MAX_PIXEL
    mixed = grey * alpha + background * (MAX_PIXEL - alpha)
    opaque: np.ndarray = np.rint(mixed / MAX_PIXEL).astype(np.uint8)
    return opaque
