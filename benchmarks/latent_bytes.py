"""Bytes an image in the Parquet files of a run of EMNIST balanced's size, by type of latent.

    EMNIST_DATA=... python -m benchmarks.latent_bytes

The first 112,800 images of the official byclass test file, with their labels: as many as balanced
has. Everything that the files hold is counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.digits import add_data_flag, load_byclass

IMAGES = 112_800
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
        images, labels = load_byclass(data)
        np.save(Path(folder, "train-images.npy"), images[:IMAGES])
        np.save(Path(folder, "train-labels.npy"), labels[:IMAGES])
        print("| latents | bytes an image | of these outside the latents' values |")
        print("|---|---:|---:|")
        for flags in TYPES:
            total, values = compressed(folder, flags)
            name = " ".join(flag.partition("=")[2] for flag in flags)
            print(f"| {name} | {total / IMAGES:.2f} | {(total - values) / IMAGES:.2f} |")


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
