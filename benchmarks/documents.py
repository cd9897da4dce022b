"""Writes the measured tables of README.md and docs/: `python -m benchmarks.documents`.

A table stands between `<!-- NAME: python -m benchmarks.documents -->` and `<!-- end -->`. It comes
from RESULTS.json, FOOTPRINT.json, CLUSTER.md, PROCESSES.md and benchmarks/assumptions.py. A test
fails where a page says something else.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from benchmarks import measured, scaling
from benchmarks.contest import HAND_WRITTEN, JOBS, WAYS
from benchmarks.results import MEGABYTE, PER_IMAGES, markdown_table

_ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/engines.md", "docs/clusters.md", "docs/scaling.md")
_SECTION = re.compile(r"(<!-- (\w+): [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
_KILOBYTE = 1024


def main() -> None:
    """Writes the tables."""
    for name in DOCUMENTS:
        path = _ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


def filled(text: str) -> str:
    """The document with everything between its markers computed again."""
    return _SECTION.sub(lambda found: f"{found[1]}\n{_section(found[2])}\n\n{found[3]}", text)


@lru_cache
def _section(name: str) -> str:
    return "\n".join(SECTIONS[name]())


def _ways() -> Sequence[str]:
    """All ways, the fastest first."""
    ways = sorted(WAYS.values(), key=lambda way: measured.wall_seconds(way.name))
    return _speed_table([(way.name, way.title) for way in ways])


def _speed() -> Sequence[str]:
    """The job's engines beside the loop, for the README."""
    return _speed_table(
        [
            ("job-litert-int8", "this job, `--precision=int8`"),
            ("job-ncnn", "this job, ncnn (`pip install '.[fast]'`)"),
            (HAND_WRITTEN.name, "one tf.function in a loop, no Beam"),
            ("job-tensorflow", "this job, TensorFlow"),
        ]
    )


def _speed_table(ways: Sequence[tuple[str, str]]) -> Sequence[str]:
    loop = measured.wall_seconds(HAND_WRITTEN.name)
    rows = [
        (
            title,
            f"{measured.wall_seconds(name) / loop:.2f}",
            f"{measured.peak_bytes(name) / MEGABYTE:,.0f} MB",
        )
        for name, title in ways
    ]
    return markdown_table(("", "time", "peak memory"), rows)


def _growth() -> Sequence[str]:
    rows = []
    for way in (way for way in JOBS if measured.has_growth(way.name)):
        line = measured.engine_line(way.name)
        memory = measured.memory_line(way.name)
        rows.append(
            (
                way.title,
                f"{line.slope * PER_IMAGES:.1f} s",
                f"{line.largest_residual:+.1f} s",
                f"{memory.slope / _KILOBYTE:.3f} KB",
            )
        )
    columns = ("", "for 100,000 more images", "largest distance from the line", "for 1 more image")
    return markdown_table(columns, rows)


def _processes() -> Sequence[str]:
    rows = []
    for engine, (one, several) in measured.processes().items():
        rows.append((engine, f"{several.wall / one.wall:.2f}", f"{several.cpu / one.cpu:.2f}"))
    columns = ("a worker process a core, beside one process", "time", "CPU time")
    return markdown_table(columns, rows)


def _cluster() -> Sequence[str]:
    run = measured.cluster_run()
    rows = [
        ("images", f"{run.images:,}"),
        ("local runner", f"{run.local_seconds:.0f} s"),
        ("cluster", f"{run.cluster_seconds:.0f} s"),
        ("cluster, times the local runner", f"{run.cluster_seconds / run.local_seconds:.2f}"),
        ("shuffled, an image", f"{run.shuffled_bytes:g} bytes"),
        ("shuffled, all", f"{run.shuffled_bytes * run.images / 1e6:.1f} MB"),
    ]
    return markdown_table(("", run.engine), rows)


SECTIONS: Mapping[str, Callable[[], Sequence[str]]] = {
    **scaling.SECTIONS,
    "ways": _ways,
    "speed": _speed,
    "growth": _growth,
    "processes": _processes,
    "cluster": _cluster,
}
"""What stands between the markers, by name."""


if __name__ == "__main__":
    main()
