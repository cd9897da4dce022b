"""How Parquet's encodings and compressions do on latents: bytes an image, and time to write.

`EMNIST_DATA=FOLDER python -m benchmarks.parquet_encodings`
"""

import argparse
import io
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.digits import add_data_flag, load_images, load_labels

_WRITES = 5
_SPLIT = {
    "use_dictionary": ["label", "character"],
    "column_encoding": {
        "latent.list.element": "BYTE_STREAM_SPLIT",
        "image_id": "DELTA_BINARY_PACKED",
    },
}
SETTINGS: dict[str, dict[str, Any]] = {
    "pyarrow's defaults (snappy, dictionary)": {},
    "zstd, dictionary": {"compression": "zstd"},
    "zstd 1, byte stream split": {"compression": "zstd", "compression_level": 1, **_SPLIT},
    "zstd 3, byte stream split": {"compression": "zstd", "compression_level": 3, **_SPLIT},
    "zstd 9, byte stream split": {"compression": "zstd", "compression_level": 9, **_SPLIT},
    "zstd 19, byte stream split": {"compression": "zstd", "compression_level": 19, **_SPLIT},
    "snappy, byte stream split": {"compression": "snappy", **_SPLIT},
    "gzip, byte stream split": {"compression": "gzip", **_SPLIT},
    "zstd 1, plain": {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": ["label", "character"],
    },
}


def main() -> None:
    """Prints a table for the latents of the untrained encoder, and one for dense ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parquet_encodings")
    add_data_flag(parser)
    folder = parser.parse_args().data
    pixels = load_images(folder).astype(np.float32)[..., np.newaxis] / 255
    labels = load_labels(folder)
    _print_sizes("untrained encoder", _table(untrained_latents(pixels), labels))
    _print_sizes("PCA, dense as trained latents are", _table(pca_latents(pixels), labels))


def untrained_latents(pixels: np.ndarray) -> np.ndarray:
    """Images, float32 (n, 28, 28, 1) in [0, 1], through the untrained encoder: float32 (n, 32)."""
    from benchmarks.ways.encoder import build_encoder

    latents: np.ndarray = build_encoder().predict(pixels, verbose=0)
    return latents


def pca_latents(pixels: np.ndarray) -> np.ndarray:
    """Images, float32 (n, 28, 28, 1), as their 32 principal components: float32 (n, 32)."""
    from sklearn.decomposition import PCA

    latents: np.ndarray = PCA(32, svd_solver="full").fit_transform(pixels.reshape(len(pixels), -1))
    return latents.astype(np.float32)


def _table(latents: np.ndarray, labels: np.ndarray) -> pa.Table:
    """The columns of the job's Parquet files."""
    return pa.table(
        {
            "image_id": np.arange(len(latents)),
            "label": labels,
            "character": labels.astype(str),
            "latent": pa.FixedSizeListArray.from_arrays(pa.array(latents.ravel()), 32),
        }
    )


def _print_sizes(title: str, table: pa.Table) -> None:
    zeros = np.mean(table["latent"].combine_chunks().flatten().to_numpy() == 0)
    print(f"\n{title}: {table.num_rows:,} images, {zeros:.0%} of the values are zero")
    print(f"{'':42}{'bytes an image':>16}{'ms to write':>14}")
    for name, settings in SETTINGS.items():
        size, milliseconds = _written(table, settings)
        print(f"{name:42}{size / table.num_rows:16.1f}{milliseconds:14.0f}")


def _written(table: pa.Table, settings: dict[str, Any]) -> tuple[int, float]:
    """(bytes of the file, milliseconds of the fastest write to memory)."""
    milliseconds = []
    for _ in range(_WRITES):
        sink = io.BytesIO()
        started = time.perf_counter()
        pq.write_table(table, sink, **settings)
        milliseconds.append((time.perf_counter() - started) * 1000)
    return len(sink.getvalue()), min(milliseconds)


if __name__ == "__main__":
    main()
