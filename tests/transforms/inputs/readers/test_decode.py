"""Encoded images come out as they look, or are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.transforms.test_images import IMAGES, png
from transforms.errors import InputError
from transforms.inputs.readers.decode import decode_image

INK = np.zeros((28, 28), np.uint8)
INK[4:20, 10:14] = 255
"""A bar, no mirror image or rotation of itself."""


def encoded(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


def of_alpha(ink: int) -> Image.Image:
    """A bar of opaque ink on what is transparent."""
    return Image.fromarray(np.dstack([np.full_like(INK, ink)] * 3 + [INK]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_and_colour_are_read(kind: str):
    grey = np.full((28, 28), 77, np.uint8)
    for image in (grey, np.stack([grey] * 3, axis=-1)):
        np.testing.assert_array_equal(decode_image(png(image, kind)), grey.reshape(-1))


def test_a_png_of_784_bytes_is_no_bare_pixels():
    content = png(np.full((28, 28), 9, np.uint8))
    np.testing.assert_array_equal(decode_image(content.ljust(784, b"\0")), 9)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.fromarray(INK).convert("1")), INK),
        (encoded(Image.fromarray(INK).convert("P")), INK),
        (encoded(Image.fromarray(INK.astype(np.uint16) * 257)), INK),
        (encoded(Image.fromarray(INK.astype(np.uint16) * 257), "TIFF"), INK),
        (encoded(of_alpha(255)), INK),
        (encoded(of_alpha(0)), 255 - INK),
        (encoded(of_alpha(255).convert("LA")), INK),
        (encoded(of_alpha(0), "WEBP", lossless=True), 255 - INK),
        (encoded(Image.fromarray(INK).convert("CMYK"), "TIFF"), INK),
        (encoded(Image.fromarray(INK), transparency=0), INK),
        (encoded(Image.fromarray(INK), "GIF"), INK),
        (encoded(Image.fromarray(INK), "BMP"), INK),
    ],
    ids=[
        *("1-bit", "palette", "16-bit", "16-bit-tiff", "light-alpha", "dark-alpha"),
        *("LA", "webp", "CMYK", "key", "GIF", "BMP"),
    ],
)
def test_an_image_is_read_as_it_looks(content, expected):
    np.testing.assert_array_equal(decode_image(content).reshape(28, 28), expected)


def test_what_exif_says_of_rotation_is_done():
    exif = Image.Exif()
    exif[0x0112] = 6  # Turn it clockwise to look at it.
    content = encoded(Image.fromarray(INK), exif=exif)
    np.testing.assert_array_equal(decode_image(content).reshape(28, 28), np.rot90(INK, -1))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", png(IMAGES[0])[:80]])
def test_what_is_not_an_image_is_refused(content):
    with pytest.raises(InputError):
        decode_image(content)
