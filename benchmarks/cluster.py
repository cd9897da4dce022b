"""The job on a Flink cluster of two TaskManagers, beside the local runner on the same cores.

`make bench-cluster` writes CLUSTER.md. Images and runs lie in an S3 server on this machine, which
shares the cores with both; the cluster is that of the tests, a network namespace a machine.
"""

import argparse
import contextlib
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.digits import add_data_flag, load_images
from tests.cluster.processes import run_command
from tests.cluster.runners.flink_cluster import FLINK_VERSION, POOL_PORT, flink_cluster
from tests.cluster.runners.network import network
from tests.cluster.runners.s3_server import ADDRESS, BUCKET, s3_server
from transforms.images import NO_LABEL
from transforms.staged import staged_bytes, staged_table

_ENGINES = ("tensorflow",)  # The default where workers are elsewhere.
_FILE_IMAGES, _ROW_GROUP_IMAGES = 16_384, 1024
_LONGEST_SECONDS = 1800
_COLUMNS = (
    "engine",
    "local runner, s",
    "cluster, s",
    "cluster's throughput, local runner's = 1",
    "of the cluster's time encoding, s",
    "bytes an image shuffled",
)
_EXPLANATION = """
Whole commands, taken in turn; medians. Both read the same Parquet files from the S3 server and
write there. The cluster is up before; the time of its jobs has that of the launcher, Beam's job
server and the Python workers, which start for each job, in it. Encoding is the stage that reads,
encodes and writes; bytes are what Flink's tasks sent to each other."""


class _Job(NamedTuple):
    """One job on the cluster. seconds: of the whole command. encoding: of its longest stage."""

    seconds: float
    encoding: float
    shuffled_bytes: int


def main() -> None:
    """Measures each engine on both, and writes the table."""
    flags = _flags()
    local: dict[str, list[float]] = {engine: [] for engine in _ENGINES}
    on_cluster: dict[str, list[_Job]] = {engine: [] for engine in _ENGINES}
    with _cluster() as (store, cluster):
        _write_images(store, load_images(flags.data), flags.images)
        for repeat in range(flags.repeats):
            for engine in _ENGINES:
                local[engine].append(_seconds(engine, f"local-{engine}-{repeat}", []))
                seconds = _seconds(engine, f"flink-{engine}-{repeat}", _flink_flags(cluster))
                stages = [vertex["duration"] / 1000 for vertex in cluster.last_job()["vertices"]]
                on_cluster[engine].append(_Job(seconds, max(stages), cluster.shuffled_bytes()))
                print(engine, local[engine][-1], on_cluster[engine][-1], file=sys.stderr)
    text = "\n".join(_lines(flags, local, on_cluster)) + "\n"
    print(text)
    Path(__file__).with_name("CLUSTER.md").write_text(text, encoding="utf-8")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster")
    parser.add_argument("--images", type=int, default=1_128_000)
    parser.add_argument("--repeats", type=int, default=3)
    add_data_flag(parser)
    return parser.parse_args()


@contextlib.contextmanager
def _cluster() -> Iterator[tuple[Any, Any]]:
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        folder, disk = Path(name), Path(name, "disk")
        disk.mkdir()
        with (
            network(),
            s3_server(folder / "s3.log") as store,
            flink_cluster(folder / "flink", disk) as cluster,
        ):
            yield store, cluster


def _write_images(store: Any, digits: np.ndarray, count: int) -> None:
    for number, start in enumerate(range(0, count, _FILE_IMAGES)):
        image_ids = np.arange(start, min(start + _FILE_IMAGES, count))
        labels = np.full(len(image_ids), NO_LABEL)
        table = staged_table(image_ids, labels, digits[image_ids % len(digits)])
        content = staged_bytes(table, {}, _ROW_GROUP_IMAGES)
        store.put_object(Bucket=BUCKET, Key=f"images/part-{number:05d}.parquet", Body=content)


def _flink_flags(cluster: Any) -> list[str]:
    return [
        "--runner=FlinkRunner",
        f"--flink_master={cluster.master}",
        f"--flink_version={FLINK_VERSION}",
        f"--flink_job_server_jar={os.environ['FLINK_JOB_SERVER_JAR']}",
        "--parallelism=2",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{POOL_PORT}",
    ]


def _seconds(engine: str, output: str, runner: Sequence[str]) -> float:
    images = [f"--input={ADDRESS}/images/*.parquet", f"--output={ADDRESS}/{output}"]
    start = time.perf_counter()
    job = [*images, f"--engine={engine}", "--quiet", *runner]
    done = run_command("compress", *job, seconds=_LONGEST_SECONDS)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - start


def _lines(
    flags: argparse.Namespace, local: dict[str, list[float]], on_cluster: dict[str, list[_Job]]
) -> list[str]:
    facts = machine.facts(flags)
    facts["command"] = shlex.join(["python", "-m", "benchmarks.cluster", *sys.argv[1:]])
    lines = ["# A Flink cluster beside the local runner", "", *_EXPLANATION.strip().splitlines()]
    lines += ["", "| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())]
    lines += ["", f"| {' | '.join(_COLUMNS)} |", "|---|---:|---:|---:|---:|---:|"]
    for engine in _ENGINES:
        here, jobs = median(local[engine]), on_cluster[engine]
        there = median(job.seconds for job in jobs)
        encoding = median(job.encoding for job in jobs)
        shuffled = max(job.shuffled_bytes for job in jobs) / flags.images
        ranges = [
            f"{middle:.1f} ({min(each):.1f} to {max(each):.1f})"
            for middle, each in ((here, local[engine]), (there, [job.seconds for job in jobs]))
        ]
        lines.append(
            f"| {engine} | {ranges[0]} | {ranges[1]} | {here / there:.2f} | {encoding:.1f} "
            f"| {shuffled:.1f} |"
        )
    return lines


if __name__ == "__main__":
    main()
