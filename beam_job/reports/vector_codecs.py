"""Codecs that store vectors in Parquet: latents, and components of PCA."""

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from beam_job.datasets.partition import Images
from beam_job.reports.codecs import Codec, Encoded
from transforms.images import MAX_PIXEL, ShardKey
from transforms.latents import LATENT_COLUMN, LatentBatch, LatentFormat
from transforms.models.arrays import decoded_pixels
from transforms.quantize import Quantization, calibrate

if TYPE_CHECKING:
    from sklearn.decomposition import PCA

PCA_COMPONENTS = (4, 8, 16, 32, 64, 128)  # With the last PCA is as good as the latents.
PCA_BITS = 8
LATENTS = "latents int8"
LATENTS_FLOAT = "latents float"
PCA_NUMBERS = "PCA int8"
PCA_FLOAT = "PCA float32"


class VectorCoder(NamedTuple):
    """What turns an image into a short vector, and back.

    encode: uint8 (n, 784) to float32 (n, size). decode: float32 (n, size) to uint8 (n, 784).
    """

    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]


FileFormat = Callable[[str, Quantization | None], LatentFormat]
"""What files of latents are like, by --latent_dtype and the quantization, None for floats."""


def latent_codecs(
    coder: VectorCoder, quantizations: Mapping[int, Quantization], file_format: FileFormat
) -> list[Codec]:
    """The latents of a model, in each type that they may be stored in. quantizations: by bits."""
    return [
        *(
            Codec(LATENTS_FLOAT, dtype, _as_floats(coder, dtype, file_format(dtype, None)))
            for dtype in ("float32", "float16")
        ),
        *(
            Codec(
                LATENTS,
                f"{bits} bits",
                _as_numbers(coder, quantizations[bits], file_format("int8", quantizations[bits])),
            )
            for bits in sorted(quantizations, reverse=True)
        ),
    ]


def pca_codecs(pca: "PCA", training: np.ndarray, characters: Mapping[int, str]) -> list[Codec]:
    """The first so many scores of a PCA, stored as latents are, in files without metadata.

    training: uint8 (n, 784). characters: what a label stands for.
    """
    latent_format = LatentFormat(characters, metadata={})
    counts = [count for count in PCA_COMPONENTS if count <= len(pca.components_)]
    coders = {f"{count} components": pca_coder(pca, count) for count in counts}
    return [
        *(
            Codec(PCA_FLOAT, setting, _as_floats(coder, "float32", latent_format))
            for setting, coder in coders.items()
        ),
        *(
            Codec(
                PCA_NUMBERS,
                setting,
                _as_numbers(coder, calibrate(coder.encode(training), PCA_BITS), latent_format),
            )
            for setting, coder in coders.items()
        ),
    ]


def fit_pca(training: np.ndarray) -> "PCA":
    """As many components as are ever asked for and these images uint8 (n, 784) can bear."""
    from sklearn.decomposition import PCA

    components = min(max(PCA_COMPONENTS), len(training))
    return PCA(components, svd_solver="covariance_eigh").fit(training.astype(np.float32))


def pca_coder(pca: "PCA", components: int) -> VectorCoder:
    """The first components of a PCA of pixels."""
    axes = pca.components_[:components].astype(np.float32)
    mean = pca.mean_.astype(np.float32)

    def decode(scores: np.ndarray) -> np.ndarray:
        pixels: np.ndarray = (scores @ axes + mean) / MAX_PIXEL
        return pixels

    return VectorCoder(
        lambda pixels: (pixels.astype(np.float32) - mean) @ axes.T,
        lambda scores: decoded_pixels(decode, scores),
    )


def _as_floats(
    coder: VectorCoder, dtype: str, latent_format: LatentFormat
) -> Callable[[Images], Encoded]:
    return lambda images: _in_parquet(
        images,
        coder.encode(images.pixels).astype(dtype),
        latent_format,
        lambda stored: coder.decode(stored.astype(np.float32)),
    )


def _as_numbers(
    coder: VectorCoder, quantization: Quantization, latent_format: LatentFormat
) -> Callable[[Images], Encoded]:
    return lambda images: _in_parquet(
        images,
        quantization.quantize(coder.encode(images.pixels)),
        latent_format,
        lambda stored: coder.decode(quantization.dequantize(stored)),
    )


def _in_parquet(
    images: Images,
    vectors: np.ndarray,
    latent_format: LatentFormat,
    decode: Callable[[np.ndarray], np.ndarray],
) -> Encoded:
    """Vectors in a latents_file; decoded from what is read back from it."""
    content = latents_file(images, vectors, latent_format)
    column = pq.read_table(io.BytesIO(content)).column(LATENT_COLUMN).combine_chunks()
    stored = column.flatten().to_numpy(zero_copy_only=False).reshape(vectors.shape)
    return Encoded(len(content), parquet_overhead(content), decode(stored))


def latents_file(images: Images, vectors: np.ndarray, latent_format: LatentFormat) -> bytes:
    """The file that a run of `compress` would write of these images, as one shard of their split.

    vectors: (n, size), one for each image, as they are stored.
    """
    key = ShardKey(str(images.splits[0]), 0, 1, len(images))
    batch = LatentBatch(key, len(images), images.image_ids, images.labels, vectors)
    return latent_format.content(latent_format.table(batch))


def parquet_overhead(content: bytes) -> int:
    """Bytes of a latents file outside the latents.

    These are image_id, label and character, the file's metadata, and Parquet's own.
    """
    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    columns = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    latents = sum(
        int(column.total_compressed_size)
        for column in columns
        if column.path_in_schema.partition(".")[0] == LATENT_COLUMN
    )
    return len(content) - latents
