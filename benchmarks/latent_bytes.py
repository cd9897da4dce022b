"""Bytes an image in the Parquet files of a run of EMNIST balanced's size, by type of latent.

    EMNIST_DATA=... python -m benchmarks.latent_bytes

112,800 images, none of them twice: the official test digits and the az letters in turn, each time
slanted, turned and shifted another way (beam_job.train.augmentation), with labels from 0 to 46 as
balanced has them. Everything that the files hold is counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from beam_job.train.augmentation import augment
from benchmarks.digits import add_data_flag, load_images, load_letters
from transforms.images import MAX_PIXEL

IMAGES = 112_800
CLASSES = 47
TYPES = (
    ["--latent_dtype=float32"],
    ["--latent_dtype=float16"],
    *(["--latent_dtype=int8", f"--latent_bits={bits}"] for bits in (8, 7, 6, 5, 4)),
)


def main() -> None:
    """Runs the job for each type, and prints a table."""
    parser = argparse.ArgumentParser(description="Bytes an image, by type of latent.")
    add_data_flag(parser)
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "train-images.npy"), varied(data))
        np.save(Path(folder, "train-labels.npy"), balanced_labels())
        print("| latents | bytes an image | of these outside the latents' values |")
        print("|---|---:|---:|")
        for flags in TYPES:
            total, values = compressed(folder, flags)
            name = " ".join(flag.partition("=")[2] for flag in flags)
            print(f"| {name} | {total / IMAGES:.2f} | {(total - values) / IMAGES:.2f} |")


def varied(data: Path) -> np.ndarray:
    """uint8 (IMAGES, 28, 28)."""
    originals = np.concatenate([load_images(data), load_letters(data)])[..., None]
    pixels = (originals / MAX_PIXEL).astype(np.float32)
    rounds = -(-IMAGES // len(pixels))
    parts = [augment(pixels, [0, number], 0.5).numpy() for number in range(rounds)]
    images: np.ndarray = np.rint(np.concatenate(parts)[:IMAGES, ..., 0] * MAX_PIXEL)
    return images.astype(np.uint8)


def balanced_labels() -> np.ndarray:
    """uint8 (IMAGES,), in no order, as balanced's are."""
    return np.random.default_rng(0).integers(0, CLASSES, IMAGES, np.uint8)


def compressed(folder: str, flags: list[str]) -> tuple[int, int]:
    """(bytes of all Parquet files, bytes of their latent column) of a run."""
    import pyarrow.parquet as pq

    output = Path(folder, "run")
    images, labels = f"--input={folder}/train-images.npy", f"--labels={folder}/train-labels.npy"
    command = [sys.executable, "-m", "beam_job", "compress", images, labels, f"--output={output}"]
    subprocess.run([*command, *flags, "--overwrite", "--quiet"], check=True)
    sizes = json.loads((output / "sizes.json").read_text())
    values = 0
    for path in (output / "latents").rglob("*.parquet"):
        group = pq.read_metadata(path).row_group(0)
        columns = [group.column(number) for number in range(group.num_columns)]
        latent = [column for column in columns if column.path_in_schema.startswith("latent")]
        values += sum(column.total_compressed_size for column in latent)
    return sizes["total"]["parquet_bytes"], values


if __name__ == "__main__":
    main()
