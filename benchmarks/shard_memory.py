"""Peak memory of each command, by images a shard.

    python -m benchmarks.shard_memory

The input is the sample's digits over and over, as one .npy. Each command is a process of its own,
and its peak is the largest resident size that the system has seen of it. What a command takes has
to depend on its batches, not on its shards.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from beam_job.datasets.sample import sample_splits
from benchmarks.inputs import NPY, write_inputs

IMAGES = 524_288
SHARD_SIZES = (16_384, 262_144)
MAX_MORE_MB = 150
"""What the largest shards may take above the smallest."""
_KILOBYTES = 1024


def main() -> None:
    """Measures, prints a table, and fails where a command takes too much."""
    parser = argparse.ArgumentParser(description="Peak memory by images a shard.")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--flags", default="", help="more flags of compress, in quotes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        digits = sample_splits()["train"][0].reshape(-1, 28, 28).astype(np.uint8)
        images = write_inputs(Path(folder, "in"), digits, options.images, {NPY}) / NPY
        peaks = [_peaks(Path(folder), images, size, options.flags.split()) for size in SHARD_SIZES]
    few, many = SHARD_SIZES
    print(f"| MB, {options.images:,} images | {few:,} a shard | {many:,} a shard | more |")
    print("|---|---:|---:|---:|")
    rows = [(name, peak, peaks[1][name]) for name, peak in peaks[0].items()]
    for name, least, most in rows:
        print(f"| {name} | {least:.0f} | {most:.0f} | {most - least:+.0f} |")
    if any(most - least > MAX_MORE_MB for _, least, most in rows):
        raise SystemExit(f"a command takes more than {MAX_MORE_MB} MB more")


def _peaks(folder: Path, images: Path, shard_size: int, flags: list[str]) -> dict[str, float]:
    run, part = folder / f"run-{shard_size}", folder / f"part-{shard_size}"
    compress = ["compress", f"--input={images}", f"--shard_size={shard_size}", *flags]
    decode = ["reconstruct", f"--input={run}", f"--output={folder}/decoded", "--overwrite"]
    verify = ["verify", f"--input={run}"]
    peaks = {"compress": _peak([*compress, f"--output={run}"])}
    _interrupt([*compress, f"--output={part}"], part)
    peaks["compress --resume"] = _peak([*compress, f"--output={part}", "--resume"])
    peaks["verify"] = _peak(verify)
    peaks["verify --against"] = _peak([*verify, f"--against={images}"])
    peaks["reconstruct"] = _peak(decode)
    peaks["reconstruct --originals"] = _peak([*decode, f"--originals={images}"])
    return peaks


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "beam_job", *command, "--quiet"])


def _peak(command: list[str]) -> float:
    """The most MB that a command ever took."""
    started = time.monotonic()
    _, status, used = os.wait4(_start(command).pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    peak = used.ru_maxrss / _KILOBYTES
    print(f"{peak:.0f} MB, {time.monotonic() - started:.0f} s: {' '.join(command)}", flush=True)
    return peak


def _interrupt(command: list[str], output: Path) -> None:
    """Ends a command as soon as it has finished a shard."""
    process = _start(command)
    while process.poll() is None and not list(output.glob("_incomplete-*/notes/*/*")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.wait()


if __name__ == "__main__":
    main()
