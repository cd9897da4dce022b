"""Files as NIST writes them, made by hand from the formats' descriptions."""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.io import savemat

SIX = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")


def idx_images(images: np.ndarray) -> bytes:
    """An IDX3 file: magic 0x00000803, count, rows, columns, then uint8 pixels as they are."""
    return struct.pack(">IIII", 0x803, *images.shape) + images.astype(np.uint8).tobytes()


def idx_labels(labels: np.ndarray) -> bytes:
    """An IDX1 file: magic 0x00000801, count, then uint8 labels."""
    return struct.pack(">II", 0x801, len(labels)) + labels.astype(np.uint8).tobytes()


def matlab_zip(path: Path, datasets: Mapping[str, Mapping[str, tuple]]) -> None:
    """NIST's matlab.zip: matlab/emnist-NAME.mat, each a struct `dataset` with train and test.

    datasets: name -> split -> (upright images uint8 (n, 28, 28), labels). A row of `images` holds
    an image column by column. What is not given gets an empty dataset.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in SIX:
            splits = {
                split: {
                    "images": images.transpose(0, 2, 1).reshape(len(images), 784),
                    "labels": np.asarray(labels, np.uint8).reshape(-1, 1),
                    "writers": np.zeros((len(images), 1), np.uint16),
                }
                for split, (images, labels) in datasets.get(name, {}).items()
            }
            content = io.BytesIO()
            mapping = np.array([[0, 48]], np.uint8)
            savemat(content, {"dataset": {**splits, "mapping": mapping}}, do_compression=False)
            archive.writestr(f"matlab/emnist-{name}.mat", content.getvalue())
