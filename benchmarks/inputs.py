"""The images that the ways read, written before anything is timed."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NPY, PARQUET = "images.npy", "parquet"
_FILE_IMAGES = 8192  # A Parquet file; several, so that Ray and Spark read in parallel.
_MEGABYTE = 1024 * 1024


def write_inputs(folder: Path, digits: np.ndarray, count: int, formats: set[str]) -> Path:
    """Writes the digits, over and over, as count images, uint8 (28, 28), in each format.

    All is on the disk and in the page cache then. A folder that is there holds them already.
    """
    if folder.exists():
        return folder
    folder.mkdir()
    if NPY in formats:
        _write_npy(folder / NPY, digits, count)
    if PARQUET in formats:
        _write_parquet(folder / PARQUET, digits, count)
    for path in folder.rglob("*.*"):
        _settle(path)
    return folder


def _write_npy(path: Path, digits: np.ndarray, count: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *digits.shape[1:])}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, len(digits)):
            file.write(digits[: count - start].tobytes())


def _write_parquet(folder: Path, digits: np.ndarray, count: int) -> None:
    """An image is its 784 bytes: Spark reads these faster than lists, and Ray with less memory."""
    folder.mkdir()
    schema = pa.schema([("image_id", pa.int64()), ("image", pa.binary())])
    for number, start in enumerate(range(0, count, _FILE_IMAGES)):
        image_ids = np.arange(start, min(start + _FILE_IMAGES, count))
        images = [image.tobytes() for image in digits[image_ids % len(digits)]]
        table = pa.table({"image_id": image_ids, "image": images}, schema)
        pq.write_table(table, folder / f"part-{number:05d}.parquet")


def _settle(path: Path) -> None:
    """Brings a file to the disk, or that is done while the first way is timed; and reads it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        while file.read(_MEGABYTE):
            pass
