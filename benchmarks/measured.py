"""What was measured, read from this folder, for the tables of README.md and docs/."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.growth import Line, fitted_line
from benchmarks.store_requests import WRITES

_FOLDER = Path(__file__).parent


@lru_cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_FOLDER / name).read_text(encoding="utf-8"))
    return content


def machine() -> str:
    """What the engines were measured on."""
    return str(_read("RESULTS.json")["machine"])


def cores() -> int:
    """How many cores it has."""
    found = re.search(r"(\d+) cores", machine())
    if found is None:
        raise ValueError(f"RESULTS.json: no number of cores in {machine()!r}")
    return int(found[1])


def engine_line(way: str) -> Line:
    """Seconds of a whole process against images.

    Where no growth was measured, it goes through nothing and the median of all runs: the start is
    then in what an image takes.
    """
    results = _read("RESULTS.json")
    sizes = results["growth"].get(way)
    if sizes is None:
        return fitted_line({0: 0, int(results["images"]): _seconds(results["runs"][way])})
    return fitted_line({int(images): _seconds(runs) for images, runs in sizes.items()})


def has_growth(way: str) -> bool:
    """Whether it was measured with several numbers of images."""
    return way in _read("RESULTS.json")["growth"]


def memory_line(way: str) -> Line:
    """Peak bytes of a whole process against images, where growth was measured."""
    sizes = _read("RESULTS.json")["growth"][way]
    return fitted_line({int(images): _peak(runs) for images, runs in sizes.items()})


def wall_seconds(way: str) -> float:
    """The median of whole processes."""
    return _seconds(_read("RESULTS.json")["runs"][way])


def peak_bytes(way: str) -> float:
    """The median of the peak memory."""
    return _peak(_read("RESULTS.json")["runs"][way])


class Times(NamedTuple):
    """Seconds of a way to run the job."""

    wall: float
    cpu: float


def processes() -> dict[str, tuple[Times, Times]]:
    """By engine: one process, and a Beam worker process a core. PROCESSES.md has them."""
    rows = _markdown_rows("PROCESSES.md")
    times = {(row[0], row[1]): Times(float(row[3]), float(row[4])) for row in rows}
    engines = dict.fromkeys(engine for engine, _ in times)
    return {
        engine: (times[engine, "one process"], times[engine, "a Beam worker process a core"])
        for engine in engines
    }


class ClusterRun(NamedTuple):
    """A Flink cluster beside the local runner on the same cores. shuffled_bytes: of one image."""

    engine: str
    images: int
    local_seconds: float
    cluster_seconds: float
    shuffled_bytes: float


def cluster_run() -> ClusterRun:
    """The first engine of CLUSTER.md."""
    rows = _markdown_rows("CLUSTER.md")
    (size,) = (row[1] for row in rows if row[0] == "size")
    first = next(row for row in rows if len(row) > 2)  # noqa: PLR2004  # Not the facts above it.
    local, cluster = (float(cell.split()[0]) for cell in first[1:3])
    images = int(size.split()[0].replace(",", ""))
    return ClusterRun(first[0], images, local, cluster, float(first[-1]))


def _markdown_rows(name: str) -> list[list[str]]:
    """The cells of the rows of a page's tables, without their heads."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    tables = re.findall(r"^\|.*\n\|[-:| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    lines = "".join(tables).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _peak(runs: Sequence[Mapping[str, float]]) -> float:
    return median(run["peak_bytes"] for run in runs)


def _seconds(runs: Sequence[Mapping[str, float]]) -> float:
    return median(run["wall_seconds"] for run in runs)


def engine_rate(way: str) -> float:
    """Further images a second a core."""
    return 1 / engine_line(way).slope / cores()


def requests_a_file(phase: str) -> dict[str, float]:
    """Requests of each kind for a file that is inspected, read, written or published."""
    return dict(_read("FOOTPRINT.json")["requests_a_file"][phase])


def write_requests(phase: str) -> float:
    """Those that are billed as writes."""
    return sum(count for kind, count in requests_a_file(phase).items() if kind in WRITES)


def read_requests(phase: str) -> float:
    """Those that are billed as reads."""
    return sum(requests_a_file(phase).get(kind, 0) for kind in ("GET", "HEAD"))


def shard_requests() -> float:
    """Requests that a worker makes for a shard."""
    return sum(sum(requests_a_file(phase).values()) for phase in ("read", "write"))


def graph_line(kind: str) -> Line:
    """Bytes of the graph against shards."""
    sizes = _read("FOOTPRINT.json")["graph_bytes"][kind]
    return fitted_line({int(shards): size for shards, size in sizes.items()})


def manifest_bytes_a_file() -> int:
    """Bytes that a file adds to the manifest."""
    return int(_read("FOOTPRINT.json")["manifest_bytes_a_file"])
