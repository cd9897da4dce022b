"""Whole processes, interleaved: the job, beside what people would write instead.

`EMNIST_DATA=FOLDER python -m benchmarks.run` (needs psutil, and Linux)
"""

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks.digits import add_data_flag, load_images
from benchmarks.measure import Measurement, measure

HAND_WRITTEN, KERAS_PREDICT, BEAM_JOB = "hand_written", "keras_predict", "beam_job"
_WAYS = (HAND_WRITTEN, KERAS_PREDICT, BEAM_JOB)
_PACKAGES = ("tensorflow", "keras", "apache-beam", "numpy", "pyarrow")
_WARM_UP_IMAGES = 1024
_TOLERANCE = 1e-5
_KILOBYTE, _MEGABYTE = 1024, 1024 * 1024
_HEADER = """
| way | wall s | ratio to hand_written | wall s, min to max | CPU s | peak MB | images/s |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |"""
_EXPLANATION = """
Whole processes, taken in turn, from a .npy file of uint8 images to 32 float32 latents each in
Parquet; medians. All wrote the same latents. 1 MB = 1024 x 1024 bytes; a peak counts the pages of
a mapped input too. hand_written: one tf.function on uint8 batches of 1,024, no Beam.
keras_predict: a float32 copy of everything, then Keras predict. beam_job: this project."""

Runs = dict[str, list[Measurement]]


def main() -> None:
    """Runs the benchmark, and writes the results as Markdown and as JSON."""
    flags = _flags()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        runs, grown = _run_all(flags, Path(folder))
    facts = _facts(flags)
    lines = ["# Benchmark", "", *(f"- {name}: {value}" for name, value in facts.items())]
    lines += [_HEADER, *_rows(flags.images, runs), _EXPLANATION]
    if grown is not None:
        lines += ["", _growth(flags, runs, grown)]
    text = "\n".join(lines)
    print(text)
    flags.output.write_text(text + "\n", encoding="utf-8")
    every = {way: [one._asdict() for one in measured] for way, measured in runs.items()}
    results = {**facts, "runs": every, "grown": grown and grown._asdict()}
    flags.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--images", type=int, default=112_800)
    parser.add_argument("--repeats", type=int, default=3)
    grows = "in the end beam_job runs with this many times the images; 0: it does not (default: 10)"
    parser.add_argument("--growth_factor", type=int, default=10, help=grows)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "RESULTS.md")
    add_data_flag(parser)
    flags = parser.parse_args()
    if min(flags.images, flags.repeats) < 1 or flags.growth_factor < 0 or flags.growth_factor == 1:
        parser.error("--images and --repeats are at least 1, --growth_factor is 0 or at least 2")
    return flags


def _run_all(flags: argparse.Namespace, folder: Path) -> tuple[Runs, Measurement | None]:
    """Every measurement of the interleaved part, and that of the job with more images."""
    digits = load_images(flags.data)
    # Untimed: else the first way alone would read TensorFlow from the disk.
    images = _write_images(folder / "warm_up.npy", digits, _WARM_UP_IMAGES)
    for way in _WAYS:
        _run(way, images, folder / f"{way}-warm_up")

    images = _write_images(folder / "images.npy", digits, flags.images)
    runs: Runs = {way: [] for way in _WAYS}
    expected = None
    for repeat in range(flags.repeats):
        for way in _WAYS:
            output = folder / f"{way}-{repeat + 1}"
            runs[way].append(_run(way, images, output))
            latents = _latents(way, output, flags.images)
            expected = latents if expected is None else expected
            _check_same(way, latents, expected)
    if not flags.growth_factor or expected is None:
        return runs, None

    count = flags.images * flags.growth_factor
    images = _write_images(folder / "grown.npy", digits, count)
    grown = _run(BEAM_JOB, images, folder / f"{BEAM_JOB}-grown")
    _check_same(BEAM_JOB, _latents(BEAM_JOB, folder / f"{BEAM_JOB}-grown", count), expected)
    return runs, grown


def _write_images(path: Path, digits: np.ndarray, count: int) -> Path:
    """Writes the digits, over and over, as a .npy of uint8 (count, 28, 28) that is then cached.

    Not by open_memmap: its pages would count as this process's memory; see measure().
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *digits.shape[1:])}
    with path.open("w+b") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, len(digits)):
            file.write(digits[: count - start].tobytes())
        file.flush()
        os.fsync(file.fileno())  # Else it is written to the disk while the first way is timed.
        file.seek(0)
        while file.read(_MEGABYTE):
            pass
    return path


def _run(way: str, images: Path, output: Path) -> Measurement:
    print(f"{output.name} ...", end=" ", file=sys.stderr, flush=True)
    command = [sys.executable, "-m"]
    if way == BEAM_JOB:
        command += ["beam_job", "compress", f"--input={images}", f"--output={output}", "--quiet"]
    else:
        command += [f"benchmarks.ways.{way}", str(images), str(output)]
    measured = measure(command)
    print(f"{measured.wall_seconds:.1f} s", file=sys.stderr)
    return measured


def _latents(way: str, output: Path, count: int) -> np.ndarray:
    """The latents that a way wrote, float32 (count, 32); exits unless those of all images."""
    path = output / "latents" if way == BEAM_JOB else output
    table = pq.read_table(path, columns=["image_id", "latent"])
    if not np.array_equal(table["image_id"].to_numpy(), np.arange(count)):
        sys.exit(f"{way} wrote {table.num_rows:,} rows, which are not images 0 to {count - 1:,}")
    latents: np.ndarray = table["latent"].combine_chunks().flatten().to_numpy().reshape(count, -1)
    return latents


def _check_same(way: str, latents: np.ndarray, expected: np.ndarray) -> None:
    difference = np.abs(latents[: len(expected)] - expected).max()
    if not difference <= _TOLERANCE:  # So that NaN fails too.
        sys.exit(f"{way} wrote latents that differ from {HAND_WRITTEN}'s by up to {difference}")


def _facts(flags: argparse.Namespace) -> dict[str, str]:
    """What was run, on what and with what."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    cpu = cpuinfo.partition("model name")[2].partition("\n")[0].strip("\t :") or "CPU"
    memory = psutil.virtual_memory().total / _MEGABYTE
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return {
        "command": shlex.join(["python", "-m", "benchmarks.run", *sys.argv[1:]]),
        "size": f"{flags.images:,} EMNIST digits, repeats: {flags.repeats}",
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "machine": f"{cpu}, {os.cpu_count()} cores, {memory:,.0f} MB of memory",
        "system": f"{system}, Linux {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
    }


def _rows(images: int, runs: Runs) -> list[str]:
    unit = _wall_seconds(runs[HAND_WRITTEN])
    rows = []
    for way, measured in runs.items():
        wall = _wall_seconds(measured)
        walls = [one.wall_seconds for one in measured]
        cpu = median(one.cpu_seconds for one in measured)
        rows.append(
            f"| {way} | {wall:.1f} | {wall / unit:.2f} | {min(walls):.1f} to {max(walls):.1f} "
            f"| {cpu:.1f} | {_peak_bytes(measured) / _MEGABYTE:,.0f} | {images / wall:,.0f} |"
        )
    return rows


def _growth(flags: argparse.Namespace, runs: Runs, grown: Measurement) -> str:
    further = flags.images * (flags.growth_factor - 1)
    kilobytes = (grown.peak_bytes - _peak_bytes(runs[BEAM_JOB])) / further / _KILOBYTE
    return (
        f"beam_job, once, with {flags.growth_factor} times the images: {grown.wall_seconds:.1f} s, "
        f"peak {grown.peak_bytes / _MEGABYTE:,.0f} MB, which is {kilobytes:.3f} KB more for each "
        "further image (1 KB = 1024 bytes)."
    )


def _wall_seconds(measured: Sequence[Measurement]) -> float:
    return median(one.wall_seconds for one in measured)


def _peak_bytes(measured: Sequence[Measurement]) -> float:
    return median(one.peak_bytes for one in measured)


if __name__ == "__main__":
    main()
