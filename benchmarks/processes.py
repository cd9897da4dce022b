"""One process whose engine has all cores, beside several that share them.

`EMNIST_DATA=FOLDER python -m benchmarks.processes` writes PROCESSES.md (needs psutil, and Linux).
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import machine
from benchmarks.digits import add_data_flag, load_images
from benchmarks.inputs import NPY, write_inputs
from benchmarks.measure import Measurement, measure

_ENGINES = {"ncnn": ["--engine=ncnn"], "litert int8": ["--precision=int8"]}
_ONE, _THREADS = "one process", "one process, a Beam thread a core"
_WORKERS, _PINNED = "a Beam worker process a core", "a job a core, each with one thread"
_LOCAL = "--direct_num_workers={cores} --direct_running_mode={mode}"
_SHARDS_A_CORE = 6
_MEGABYTE = 1024 * 1024
_EXPLANATION = """
Whole processes, taken in turn; medians; peak memory is the summed PSS of all of them. Each of
Beam's worker processes has the engine's threads on all cores, its worker threads share one engine;
a job a core is the job itself, started once for each core, pinned to it, on its part of the
images."""


def main() -> None:
    """Measures each engine in each way, and writes the table."""
    flags = _flags()
    if flags.pinned:
        _run_pinned(flags.pinned, flags.rest)
        return
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        digits = load_images(flags.data)
        whole = write_inputs(Path(folder, "whole"), digits, flags.images, {NPY}) / NPY
        parts = _parts(whole, len(cores))
        runs: dict[tuple[str, str], list[Measurement]] = {}
        for repeat in range(flags.repeats):
            for engine, engine_flags in _ENGINES.items():
                for way in (_ONE, _THREADS, _WORKERS, _PINNED):
                    output = Path(folder, f"{engine}-{way}-{repeat}".replace(" ", "_"))
                    print(output.name, file=sys.stderr)
                    command = _command(way, whole, parts, output, cores)
                    measured = measure([*command, *engine_flags, "--quiet"])
                    runs.setdefault((engine, way), []).append(measured)
    text = "\n".join(_lines(flags, runs)) + "\n"
    print(text)
    Path(__file__).with_name("PROCESSES.md").write_text(text, encoding="utf-8")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes")
    parser.add_argument("--images", type=int, default=112_800)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pinned", nargs="+", help=argparse.SUPPRESS)  # How it starts itself.
    add_data_flag(parser)
    flags, rest = parser.parse_known_args()
    return argparse.Namespace(**vars(flags), rest=rest)


def _parts(whole: Path, count: int) -> list[Path]:
    """The images in as many files."""
    parts = [whole.with_name(f"part-{number}.npy") for number in range(count)]
    for path, images in zip(parts, np.array_split(np.load(whole), count), strict=True):
        np.save(path, images)
    return parts


def _command(
    way: str, whole: Path, parts: Sequence[Path], output: Path, cores: Sequence[int]
) -> list[str]:
    if way == _PINNED:
        tasks = [f"{core}:{path}:{output}-{core}" for core, path in zip(cores, parts, strict=True)]
        return [sys.executable, "-m", "benchmarks.processes", "--pinned", *tasks]
    job = [sys.executable, "-m", "beam_job", "compress", f"--input={whole}", f"--output={output}"]
    if way == _ONE:
        return job
    mode = "multi_threading" if way == _THREADS else "multi_processing"
    images = len(np.load(whole, mmap_mode="r"))
    shard_size = -(-images // (_SHARDS_A_CORE * len(cores)))  # So that each has as many.
    local = _LOCAL.format(cores=len(cores), mode=mode).split()
    return [*job, *local, f"--shard_size={shard_size}"]


def _run_pinned(tasks: Sequence[str], flags: Sequence[str]) -> None:
    """Starts a job a core, and waits for all; exits with the worst of their statuses."""
    jobs = []
    for core, source, output in (task.split(":") for task in tasks):
        job = [sys.executable, "-m", "beam_job", "compress", f"--input={source}"]
        command = ["taskset", "--cpu-list", core, *job, f"--output={output}", *flags]
        jobs.append(subprocess.Popen(command))
    sys.exit(max(job.wait() for job in jobs))


def _lines(flags: argparse.Namespace, runs: dict[tuple[str, str], list[Measurement]]) -> list[str]:
    facts = machine.facts(flags)
    facts["command"] = shlex.join(["python", "-m", "benchmarks.processes", *sys.argv[1:]])
    lines = [
        "# One process or several",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    lines += ["", "| engine | way | time, ratio to one process | wall s | CPU s | peak MB |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    for (engine, way), measured in runs.items():
        wall, unit = (
            median(one.wall_seconds for one in some) for some in (measured, runs[engine, _ONE])
        )
        cpu = median(one.cpu_seconds for one in measured)
        peak = median(one.peak_bytes for one in measured) / _MEGABYTE
        cells = (f"{wall / unit:.2f}", f"{wall:.1f}", f"{cpu:.1f}", f"{peak:,.0f}")
        lines.append(f"| {engine} | {way} | {' | '.join(cells)} |")
    return [*lines, _EXPLANATION]


if __name__ == "__main__":
    main()
