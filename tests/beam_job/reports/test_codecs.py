import gzip
import io
import sys

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_job.datasets.partition import Images
from beam_job.datasets.sample import sample_splits
from beam_job.reports import codecs, vector_codecs
from beam_job.reports.codecs import Codec, image_codecs, measure_codec, rate_and_distortion
from beam_job.reports.vector_codecs import VectorCoder, fit_pca, latent_codecs, pca_codecs
from transforms.latents import LatentFormat
from transforms.quantize import Quantization

COUNT = 6
CHARACTERS = {0: "0"}
PLAIN = LatentFormat(CHARACTERS, metadata={})


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Digits, uint8 (60, 784)."""
    images, _ = sample_splits()["test"]
    return np.ascontiguousarray(images[:60], np.uint8).reshape(-1, 784)


@pytest.fixture(scope="module")
def images(pixels) -> Images:
    return images_of(pixels[:COUNT])


def images_of(pixels: np.ndarray) -> Images:
    ids = np.arange(len(pixels), dtype=np.int64)
    return Images(np.full(len(pixels), "test"), ids, np.zeros(len(pixels), np.int16), pixels)


def codec(name: str, setting: str) -> Codec:
    (found,) = [one for one in image_codecs() if (one.name, one.setting) == (name, setting)]
    return found


def pillow_files(images: Images, image_format: str, **options) -> list[bytes]:
    contents = []
    for image in images.pixels.reshape(-1, 28, 28):
        file = io.BytesIO()
        Image.fromarray(image, "L").save(file, format=image_format, **options)
        contents.append(file.getvalue())
    return contents


def pillow_pixels(contents: list[bytes]) -> np.ndarray:
    grey = [np.asarray(Image.open(io.BytesIO(content)).convert("L")) for content in contents]
    return np.stack(grey).reshape(-1, 784)


LOSSLESS = [one for one in image_codecs() if one.lossless]


@pytest.mark.parametrize("one", LOSSLESS, ids=[one.name for one in LOSSLESS])
def test_what_says_it_is_lossless_is(one, images):
    encoded = one.encode(images)
    np.testing.assert_array_equal(encoded.pixels, images.pixels)
    assert encoded.bytes > 0


def test_whole_files_are_what_the_standard_library_and_zstd_write(images):
    content = images.pixels.tobytes()
    assert codec("raw", "uint8").encode(images).bytes == COUNT * 784
    gzipped = codec("gzip", "level 9, one file").encode(images)
    assert (gzipped.bytes, gzipped.overhead_bytes) == (len(gzip.compress(content, 9)), 18)
    zstd = codec("zstd", "level 19, one file").encode(images)
    expected = len(imagecodecs.zstd_encode(content, level=19))
    assert zstd.bytes == pytest.approx(expected, rel=0.03)  # Another version of zstd.
    assert zstd.overhead_bytes is None


@pytest.mark.parametrize(
    ("name", "setting", "image_format", "options"),
    [
        ("PNG", "optimized", "PNG", {"optimize": True}),
        (
            "WebP lossless",
            "quality 100, method 6",
            "WEBP",
            {"lossless": True, "quality": 100, "method": 6},
        ),
        ("WebP", "quality 0", "WEBP", {"quality": 0, "method": 6}),
        ("JPEG", "quality 1", "JPEG", {"quality": 1, "optimize": True}),
        ("AVIF", "quality 0", "AVIF", {"quality": 0, "subsampling": "4:0:0", "speed": 6}),
    ],
)
def test_files_are_pillows(name, setting, image_format, options, images):
    contents = pillow_files(images, image_format, **options)
    encoded = codec(name, setting).encode(images)
    assert encoded.bytes == sum(len(content) for content in contents)
    np.testing.assert_array_equal(encoded.pixels, pillow_pixels(contents))


def test_jpeg_xl_is_a_bare_codestream(images):
    contents = [
        imagecodecs.jpegxl_encode(image, distance=8, effort=7)
        for image in images.pixels.reshape(-1, 28, 28)
    ]
    assert all(content.startswith(b"\xff\x0a") for content in contents)
    encoded = codec("JPEG XL", "distance 8").encode(images)
    assert (encoded.bytes, encoded.overhead_bytes) == (sum(map(len, contents)), 0)


def test_what_pillow_writes_needs_nothing_that_only_evaluate_needs(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for name, setting in (("JPEG", "quality 10"), ("WebP", "quality 10")):
        assert codec(name, setting).encode(images).bytes > 0
    with pytest.raises(ImportError):
        codec("JPEG XL", "distance 8").encode(images)


def test_overhead_is_what_lies_outside_the_pixels_data(images):
    webp = codec("WebP", "quality 50").encode(images)
    assert webp.overhead_bytes == COUNT * 20 + _odd_chunks(images)
    (png,) = pillow_files(images_of(images.pixels[:1]), "PNG", optimize=True)
    start = png.index(b"IDAT")
    data = int.from_bytes(png[start - 4 : start], "big")
    assert png.count(b"IDAT") == 1
    assert codecs.png_overhead(png) == len(png) - data == 8 + 25 + 12 + 12
    (jpeg,) = pillow_files(images_of(images.pixels[:1]), "JPEG", quality=50, optimize=True)
    scan = jpeg[jpeg.index(b"\xff\xda") + 2 + 8 : -2]  # One component: a header of 8 bytes.
    assert jpeg.endswith(scan + b"\xff\xd9")
    assert codecs.jpeg_overhead(jpeg) == len(jpeg) - len(scan)
    (avif,) = pillow_files(images_of(images.pixels[:1]), "AVIF", quality=50, subsampling="4:0:0")
    assert codecs.avif_overhead(avif) == avif.index(b"mdat") + 4


def _odd_chunks(images: Images) -> int:
    """RIFF fills chunks of odd length with a byte."""
    contents = pillow_files(images, "WEBP", quality=50, method=6)
    return sum(int.from_bytes(content[16:20], "little") % 2 for content in contents)


def test_a_point_is_counted_from_bytes_and_8_bit_pixels(images):
    jpeg = codec("JPEG", "quality 10")
    found = rate_and_distortion(jpeg, [measure_codec(jpeg, images)])
    contents = pillow_files(images, "JPEG", quality=10, optimize=True)
    error = np.mean((pillow_pixels(contents).astype(float) - images.pixels) ** 2)
    total = sum(map(len, contents))
    assert (found.images, found.bytes) == (COUNT, total)
    assert found.bytes_per_image == pytest.approx(total / COUNT, abs=1e-4)
    assert found.bpp == pytest.approx(total * 8 / (COUNT * 784))
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / error), abs=1e-4)
    assert found.ssim < 1


def test_a_lossless_point_has_no_psnr(images):
    png = codec("PNG", "optimized")
    found = rate_and_distortion(png, [measure_codec(png, images)])
    assert (found.psnr, found.ssim) == (None, 1.0)


def test_parts_are_files_of_their_own(images, pixels):
    gzipped = codec("gzip", "level 9, one file")
    others = images_of(pixels[COUNT : 2 * COUNT])
    parts = [measure_codec(gzipped, images), measure_codec(gzipped, others)]
    found = rate_and_distortion(gzipped, parts)
    assert (found.images, found.overhead_bytes) == (2 * COUNT, 36)
    assert found.bytes == sum(
        len(gzip.compress(part.pixels.tobytes(), 9)) for part in (images, others)
    )


def test_pca_is_the_singular_value_decomposition(pixels, images):
    ours = pca_codecs(fit_pca(pixels), pixels, CHARACTERS)
    (one,) = [one for one in ours if (one.name, one.setting) == ("PCA float32", "8 components")]
    mean = pixels.mean(axis=0)
    _, _, axes = np.linalg.svd(pixels - mean, full_matrices=False)
    projected = (images.pixels - mean) @ axes[:8].T @ axes[:8] + mean
    expected = np.clip(projected, 0, 255)
    assert np.abs(one.encode(images).pixels - expected).max() <= 0.51


def test_pca_has_no_more_components_than_images(pixels):
    few = pixels[:10]
    settings = [one.setting for one in pca_codecs(fit_pca(few), few, CHARACTERS)]
    assert settings == ["4 components", "8 components"] * 2


def test_more_components_are_closer_and_bytes_cost_less_than_floats(pixels, images):
    points = {
        (one.name, one.setting): rate_and_distortion(one, [measure_codec(one, images)])
        for one in pca_codecs(fit_pca(pixels), pixels, CHARACTERS)
    }
    four, sixteen = (points["PCA int8", f"{count} components"] for count in (4, 16))
    assert four.psnr < sixteen.psnr
    assert four.bytes < sixteen.bytes < points["PCA float32", "16 components"].bytes


def halves() -> VectorCoder:
    """The mean grey of the upper and the lower half of an image, from 0 to 1."""
    return VectorCoder(
        lambda pixels: pixels.reshape(-1, 2, 392).mean(axis=2, dtype=np.float32) / 255,
        lambda means: np.repeat(np.rint(means * 255).astype(np.uint8), 392, axis=1),
    )


def test_latents_are_decoded_from_what_is_stored():
    image = np.full((3, 784), 100, np.uint8)
    image[:, 392:] = 200
    coarse = Quantization(bits=4, scale=(0.1, 0.1), offset=(0.0, 0.0))
    ours = latent_codecs(halves(), {4: coarse}, lambda *_: PLAIN)
    found = {one.setting: one.encode(images_of(image)) for one in ours}
    assert list(found) == ["float32", "float16", "4 bits"]
    np.testing.assert_array_equal(found["float32"].pixels, image)
    # 100 / 255 = 0.392 is stored as 4, 200 / 255 = 0.784 as 8.
    assert set(found["4 bits"].pixels[0, :392]) == {round(0.4 * 255)}
    assert set(found["4 bits"].pixels[0, 392:]) == {round(0.8 * 255)}


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_parquet_overhead_is_all_but_the_latents(dtype, images):
    vectors = np.arange(COUNT * 32).reshape(COUNT, 32).astype(dtype)
    content = vector_codecs.latents_file(images, vectors, PLAIN)
    table = pq.read_table(io.BytesIO(content))
    assert table["latent"].to_pylist() == vectors.tolist()
    assert table["image_id"].to_pylist() == list(range(COUNT))
    assert table["character"].to_pylist() == ["0"] * COUNT
    group = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0)
    (latents,) = [
        group.column(number).total_compressed_size
        for number in range(group.num_columns)
        if "latent" in group.column(number).path_in_schema
    ]
    assert vector_codecs.parquet_overhead(content) == len(content) - latents > 0


def test_what_a_file_says_of_itself_is_overhead(images):
    told = LatentFormat(CHARACTERS, {"model": "".join(map(str, range(500)))})
    quantization = Quantization(bits=4, scale=(0.1, 0.1), offset=(0.0, 0.0))
    asked = []

    def file_format(*asked_for):
        asked.append(asked_for)
        return told

    more = [one.encode(images) for one in latent_codecs(halves(), {4: quantization}, file_format)]
    assert asked == [("float32", None), ("float16", None), ("int8", quantization)]
    plain = latent_codecs(halves(), {4: quantization}, lambda *_: PLAIN)
    for one, other in zip(more, [one.encode(images) for one in plain], strict=True):
        added = one.bytes - other.bytes
        assert added == one.overhead_bytes - other.overhead_bytes > 100
