"""The real images that the benchmarks work on."""

import argparse
import gzip
import os
from pathlib import Path

import numpy as np

_IMAGES = "emnist-mnist-test-images-idx3-ubyte.gz"
_BYCLASS = "emnist-byclass-test-{}-ubyte.gz"
_LABELS = "emnist-mnist-test-labels-idx1-ubyte.gz"


def add_data_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --data, which is required where EMNIST_DATA is not set."""
    default = os.environ.get("EMNIST_DATA")
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        type=Path,
        default=default,
        required=default is None,
        help=f"where {_IMAGES} lies (default: the environment variable EMNIST_DATA)",
    )


def load_images(folder: Path) -> np.ndarray:
    """The 10,000 digits, upright: uint8 (10000, 28, 28)."""
    stored = _idx(folder / _IMAGES, header_bytes=16).reshape(-1, 28, 28)
    return np.ascontiguousarray(stored.transpose(0, 2, 1))  # NIST stores them transposed.


def load_byclass(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The byclass test file, upright: uint8 (116323, 28, 28), and its labels: uint8 (116323,)."""
    stored = _idx(folder / _BYCLASS.format("images-idx3"), header_bytes=16).reshape(-1, 28, 28)
    labels = _idx(folder / _BYCLASS.format("labels-idx1"), header_bytes=8)
    return np.ascontiguousarray(stored.transpose(0, 2, 1)), labels


def load_labels(folder: Path) -> np.ndarray:
    """What the digits are: uint8 (10000,)."""
    return _idx(folder / _LABELS, header_bytes=8)


def _idx(path: Path, header_bytes: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header_bytes)
