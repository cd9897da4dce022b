"""Ways to store images: the bytes that each really writes, and the pixels that come back.

Every codec is measured in the same way: it gets the same images, its bytes are counted as they
would be on disk, and what is decoded from those bytes is compared with the 8-bit originals.
"""

import gzip
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from PIL import Image

from beam_job.datasets.partition import Images
from transforms.images import PIXELS, SIDE
from transforms.quality import ImageQuality, image_quality, join_qualities, summarize

GZIP_LEVEL = 9
ZSTD_LEVEL = 19
# From the fewest bytes that a codec can reach to a loss that is hardly visible.
JPEG_QUALITIES = (1, 5, 10, 25, 50, 75)
WEBP_QUALITIES = (0, 5, 10, 25, 50, 75)
AVIF_QUALITIES = (0, 10, 25, 50)
JPEG_XL_DISTANCES = (25, 15, 8, 4, 2)
_GZIP_OVERHEAD = 18  # 10 bytes before the data and 8 behind it (RFC 1952).
# Of JPEG (ITU-T T.81, table B.1).
_START_OF_IMAGE, _START_OF_SCAN, _END_OF_IMAGE = b"\xff\xd8", 0xFFDA, b"\xff\xd9"


class Encoded(NamedTuple):
    """Images as a codec wrote them.

    bytes: of all images. overhead_bytes: those that carry no pixels; None where they cannot be told
    apart. pixels: uint8 (n, 784), decoded from what was written.
    """

    bytes: int
    overhead_bytes: int | None
    pixels: np.ndarray


class Codec(NamedTuple):
    """A way to store images, at one setting. lossless: whether it promises to lose nothing."""

    name: str
    setting: str
    encode: Callable[[Images], Encoded]
    lossless: bool = False


class Measurement(NamedTuple):
    """A codec's bytes for some images, and their quality."""

    bytes: int
    overhead_bytes: int | None
    quality: ImageQuality


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A codec at one setting: rate against distortion.

    bpp: bits a pixel, of all bytes that were written. psnr: dB, of the mean squared error of all
    images together; None where nothing was lost. ssim: mean over the images.
    """

    codec: str
    setting: str
    images: int
    bytes: int
    overhead_bytes: int | None
    bytes_per_image: float
    bpp: float
    psnr: float | None
    ssim: float

    @property
    def name(self) -> str:
        """The codec with its setting."""
        return f"{self.codec}, {self.setting}"


def measure_codec(codec: Codec, images: Images) -> Measurement:
    """Encodes and decodes the images of one split."""
    encoded = codec.encode(images)
    quality = image_quality(images.image_ids, images.pixels, encoded.pixels)
    return Measurement(encoded.bytes, encoded.overhead_bytes, quality)


def rate_and_distortion(codec: Codec, parts: Sequence[Measurement]) -> Point:
    """The point of all parts, each of which is in files of its own; at least one image."""
    quality = join_qualities(part.quality for part in parts)
    images, total = len(quality), sum(part.bytes for part in parts)
    overheads = [part.overhead_bytes for part in parts if part.overhead_bytes is not None]
    return Point(
        codec=codec.name,
        setting=codec.setting,
        images=images,
        bytes=total,
        overhead_bytes=sum(overheads) if len(overheads) == len(parts) else None,
        bytes_per_image=round(total / images, 4),
        bpp=round(total * 8 / (images * PIXELS), 6),
        psnr=summarize(quality).psnr,
        ssim=round(float(quality.ssims.mean()), 4),
    )


def image_codecs() -> list[Codec]:
    """Codecs that are widely used; all but the first three write one file per image.

    Only JPEG XL needs imagecodecs, and only once it is measured.
    """
    return [
        Codec("raw", "uint8", _raw, lossless=True),
        Codec("gzip", f"level {GZIP_LEVEL}, one file", _gzip, lossless=True),
        Codec("zstd", f"level {ZSTD_LEVEL}, one file", _zstd, lossless=True),
        *_lossless_codecs(),
        *_lossy_codecs(),
    ]


def _lossless_codecs() -> Iterator[Codec]:
    yield Codec("PNG", "optimized", _pillow("PNG", png_overhead, optimize=True), lossless=True)
    webp = _pillow("WEBP", webp_overhead, lossless=True, quality=100, method=6)
    yield Codec("WebP lossless", "quality 100, method 6", webp, lossless=True)
    # Grey images need no chroma planes; without them the files are smaller.
    avif = _pillow("AVIF", avif_overhead, quality=100, subsampling="4:0:0", speed=6, max_threads=1)
    yield Codec("AVIF lossless", "quality 100, 4:0:0", avif, lossless=True)
    yield Codec("JPEG XL lossless", "effort 10", _jpeg_xl(lossless=True, effort=10), lossless=True)


def _lossy_codecs() -> Iterator[Codec]:
    for quality in JPEG_QUALITIES:
        jpeg = _pillow("JPEG", jpeg_overhead, quality=quality, optimize=True)
        yield Codec("JPEG", f"quality {quality}", jpeg)
    for quality in WEBP_QUALITIES:
        webp = _pillow("WEBP", webp_overhead, quality=quality, method=6)
        yield Codec("WebP", f"quality {quality}", webp)
    for quality in AVIF_QUALITIES:
        avif = _pillow(
            "AVIF", avif_overhead, quality=quality, subsampling="4:0:0", speed=6, max_threads=1
        )
        yield Codec("AVIF", f"quality {quality}", avif)
    for distance in JPEG_XL_DISTANCES:
        yield Codec("JPEG XL", f"distance {distance}", _jpeg_xl(distance=distance, effort=7))


def _raw(images: Images) -> Encoded:
    return Encoded(images.pixels.nbytes, 0, images.pixels)


def _gzip(images: Images) -> Encoded:
    """One file of all images in order, as NIST publishes them."""
    content = gzip.compress(images.pixels.tobytes(), GZIP_LEVEL, mtime=0)
    return Encoded(len(content), _GZIP_OVERHEAD, _flat(gzip.decompress(content)))


def _zstd(images: Images) -> Encoded:
    """One file of all images in order."""
    codec = pa.Codec("zstd", compression_level=ZSTD_LEVEL)
    content = codec.compress(images.pixels.tobytes(), asbytes=True)
    decoded = codec.decompress(content, images.pixels.nbytes, asbytes=True)
    return Encoded(len(content), None, _flat(decoded))


def _flat(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8).reshape(-1, PIXELS)


def _pillow(
    image_format: str, overhead: Callable[[bytes], int], **options: Any
) -> Callable[[Images], Encoded]:
    """One file per image, by Pillow with these options."""

    def encode(image: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, image_format, **options)
        return file.getvalue()

    def decode(content: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("L"))

    return lambda images: _one_by_one(images, encode, decode, overhead)


def _jpeg_xl(**options: Any) -> Callable[[Images], Encoded]:
    """One bare codestream per image: there is no container that could be overhead."""

    def encode(image: np.ndarray) -> bytes:
        import imagecodecs

        return bytes(imagecodecs.jpegxl_encode(image, numthreads=1, **options))

    def decode(content: bytes) -> np.ndarray:
        import imagecodecs

        return np.asarray(imagecodecs.jpegxl_decode(content, numthreads=1))

    return lambda images: _one_by_one(images, encode, decode, lambda _: 0)


def _one_by_one(
    images: Images,
    encode: Callable[[np.ndarray], bytes],
    decode: Callable[[bytes], np.ndarray],
    overhead: Callable[[bytes], int],
) -> Encoded:
    with ThreadPoolExecutor() as pool:  # The slow codecs release the interpreter's lock.
        contents = list(pool.map(encode, images.pixels.reshape(-1, SIDE, SIDE)))
        pixels = np.stack([image.reshape(PIXELS) for image in pool.map(decode, contents)])
    return Encoded(sum(map(len, contents)), sum(map(overhead, contents)), pixels)


def png_overhead(content: bytes) -> int:
    """Bytes of a PNG file outside the data of its IDAT chunks."""
    data, start = 0, len(b"\x89PNG\r\n\x1a\n")
    while start < len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        data += length if kind == b"IDAT" else 0
        start += length + 12  # Length, type and checksum take 4 bytes each.
    return len(content) - data


def webp_overhead(content: bytes) -> int:
    """Bytes of a WebP file outside the data of its VP8 or VP8L chunk."""
    data, start = 0, len(b"RIFF....WEBP")
    while start < len(content):
        kind, length = struct.unpack_from("<4sI", content, start)
        data += length if kind in (b"VP8 ", b"VP8L") else 0
        start += 8 + length + length % 2  # Chunks start at even places.
    return len(content) - data


def avif_overhead(content: bytes) -> int:
    """Bytes of an AVIF file outside the data of its mdat box."""
    data, start = 0, 0
    while start < len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        data += length - 8 if kind == b"mdat" else 0
        start += length
    return len(content) - data


def jpeg_overhead(content: bytes) -> int:
    """Bytes of a JPEG file of one scan before the scan's data (tables, mostly), and behind it."""
    start, marker = len(_START_OF_IMAGE), None
    while marker != _START_OF_SCAN:
        marker, length = struct.unpack_from(">HH", content, start)
        start += 2 + int(length)
    return start + len(_END_OF_IMAGE)
