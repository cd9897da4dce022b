"""What was measured here, read from RESULTS.json and FOOTPRINT.json, for docs/SCALING.md."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

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
