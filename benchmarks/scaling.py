"""What to expect at 1 million, 100 million and 10 billion images, from measured rates.

The tables of docs/scaling.md, from RESULTS.json, FOOTPRINT.json, the README's bytes an image and
benchmarks/assumptions.py; benchmarks/documents.py writes them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import assumptions, measured
from benchmarks.contest import JOBS, WAYS
from benchmarks.results import markdown_table
from benchmarks.stragglers import (
    SCALES,
    Scale,
    overhead_seconds,
    queue_seconds,
    shard_size_table,
    times_ideal,
)
from transforms.images import PIXELS
from transforms.settings import SHARD_SIZE
from transforms.storage.files import REQUESTS_AT_ONCE

_ROOT = Path(__file__).parents[1]
LARGE_SHARD_SIZE = 262_144
"""What is recommended for billions of images."""

_EXAMPLE = WAYS["job-ncnn"], SCALES[1]
_HOUR = 3600
_UNITS = ((24 * _HOUR, "days"), (_HOUR, "h"), (60, "min"))
_MEGABYTE, _GIGABYTE = 1e6, 1e9


def seconds(scale: Scale, way: str, shard_size: int = SHARD_SIZE) -> float:
    """From the start of the machines until the last file is written; publishing comes after it."""
    rate = measured.engine_rate(way)
    factor = times_ideal(queue_seconds, scale, shard_size, rate, overhead_seconds())
    start = assumptions.START_SECONDS.value + measured.engine_line(way).start
    return start + factor * scale.images / (rate * scale.cores)


def shards(images: int, shard_size: int) -> int:
    """How many there are, which is how many files there are."""
    return -(-images // shard_size)


def publish_seconds(files: int) -> float:
    """What one process takes to publish so many files in an object store, some at a time."""
    requests = sum(measured.requests_a_file("publish").values())
    return files * requests * assumptions.REQUEST_SECONDS.value / REQUESTS_AT_ONCE


def inspect_seconds(files: int) -> float:
    """What the launcher takes to look at so many input files in an object store."""
    requests = sum(measured.requests_a_file("inspect").values())
    return files * requests * assumptions.REQUEST_SECONDS.value / REQUESTS_AT_ONCE


def graph_images(kind: str) -> int:
    """How many images fill the graph that Dataflow takes, with shards of the default size."""
    line = measured.graph_line(kind)
    return int((assumptions.GRAPH_LIMIT.value - line.start) / line.slope) * SHARD_SIZE


def latent_bytes() -> dict[str, float]:
    """Bytes an image in the files, by type of latent, as the README has them."""
    rows = re.findall(
        r"^\| ((?:float|int8)[^|]*?) \| ([\d.]+) \|",
        (_ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return {name: float(size) for name, size in rows}


def _assumed() -> Sequence[str]:
    rows = [(one.unit, f"{one.value:,.6g}", one.source) for one in assumptions.every()]
    return markdown_table(("what", "value", "source"), rows)


def _rates() -> Sequence[str]:
    columns = ["engine", "start, s", "images/s a core"]
    columns += [f"core-hours, {scale.images:,}" for scale in SCALES]
    rows = []
    for way in JOBS:
        line, rate = measured.engine_line(way.name), measured.engine_rate(way.name)
        hours = [f"{scale.images / rate / _HOUR:,.2f}" for scale in SCALES]
        rows.append([way.title, f"{line.start:.1f}", f"{rate:,.0f}", *hours])
    return [f"{measured.machine()}:", "", *markdown_table(columns, rows)]


def _costs() -> Sequence[str]:
    columns = ("images", "engine", "cores", "time", "Dataflow", "EC2 on demand", "EC2 spot")
    return markdown_table(columns, [_cost(scale, way.name) for scale in SCALES for way in JOBS])


def _cost(scale: Scale, way: str) -> Sequence[str]:
    took = seconds(scale, way)
    core_hours = scale.cores * took / _HOUR
    prices = (
        assumptions.dataflow_core_hour(),
        assumptions.EC2_CORE.value,
        assumptions.EC2_SPOT_CORE.value,
    )
    dollars = [_dollars(core_hours * price) for price in prices]
    return [f"{scale.images:,}", WAYS[way].title, f"{scale.cores:,}", _time(took), *dollars]


def _example() -> Sequence[str]:
    """The arithmetic of one row, step by step."""
    way, scale = _EXAMPLE
    line, rate = measured.engine_line(way.name), measured.engine_rate(way.name)
    overhead, began = overhead_seconds(), assumptions.START_SECONDS.value
    request = assumptions.REQUEST_SECONDS.value
    ideal = scale.images / (rate * scale.cores)
    took = seconds(scale, way.name)
    factor = (took - began - line.start) / ideal
    core_hours = scale.cores * took / _HOUR
    price = assumptions.dataflow_core_hour()
    return [
        "```",
        (
            f"1 / ({line.slope * 1e6:.2f} s a million images x {measured.cores()} cores) "
            f"= {rate:,.0f} images/s a core ({way.title})"
        ),
        f"{scale.images:,} / ({rate:,.0f} x {scale.cores}) = {ideal:,.0f} s, the ideal",
        (
            f"{measured.shard_requests():g} requests a shard x {request} s "
            f"= {overhead:.2f} s beside {SHARD_SIZE / rate:.1f} s of encoding"
        ),
        (
            f"{ideal:,.0f} s x {factor:.2f} (simulated: requests, unequal cores, the last "
            f"shards) + {began:g} s + {line.start:.1f} s = {took:,.0f} s"
        ),
        (
            f"{took:,.0f} s x {scale.cores} / 3,600 = {core_hours:.1f} core-hours x "
            f"{price:.4f} USD = {_dollars(core_hours * price)} on Dataflow"
        ),
        "```",
    ]


def _here() -> Sequence[str]:
    columns = ("images", *(way.title for way in JOBS))
    lines = [measured.engine_line(way.name) for way in JOBS]
    rows = [
        [f"{scale.images:,}", *(_time(line.at(scale.images)) for line in lines)] for scale in SCALES
    ]
    return markdown_table(columns, rows)


def _bytes() -> Sequence[str]:
    sizes = {"pixels (in)": float(PIXELS), **latent_bytes()}
    columns = ["", "bytes an image", *(f"GB, {scale.images:,}" for scale in SCALES)]
    columns.append(f"USD a month, {SCALES[-1].images:,}")
    rows = []
    for name, size in sizes.items():
        gigabytes = [scale.images * size / _GIGABYTE for scale in SCALES]
        month = _dollars(gigabytes[-1] * assumptions.STORE_MONTH.value)
        rows.append([name, f"{size:g}", *(f"{one:,.2f}" for one in gigabytes), month])
    return markdown_table(columns, rows)


def _limits() -> Sequence[str]:
    columns = ["", *(f"{scale.images:,}" for scale in SCALES)]
    last = SCALES[-1].images
    columns.append(f"{last:,}, {LARGE_SHARD_SIZE:,} a shard")
    counts = [shards(scale.images, SHARD_SIZE) for scale in SCALES]
    counts.append(shards(last, LARGE_SHARD_SIZE))
    images = [scale.images for scale in SCALES] + [last]
    lines: Mapping[str, Callable[[int], str]] = {
        "shards, and files": "{:,}".format,
        f"publishing them, {REQUESTS_AT_ONCE} at a time": lambda count: _time(
            publish_seconds(count)
        ),
        "graph, staged images": lambda count: _megabytes(measured.graph_line("staged").at(count)),
        "manifest.json": lambda count: _megabytes(count * measured.manifest_bytes_a_file()),
        "requests billed as writes and reads, USD": lambda count: _dollars(_request_cost(count)),
    }
    rows = [[name, *map(show, counts)] for name, show in lines.items()]
    label_line = [labelled_graph_bytes(*pair) for pair in zip(images, counts, strict=True)]
    rows.append(["graph, raw images with labels", *map(_megabytes, label_line)])
    return markdown_table(columns, rows)


def labelled_graph_bytes(images: int, count: int) -> float:
    """The graph of raw images whose labels it carries, cut into so many shards."""
    staged, raw = measured.graph_line("staged"), measured.graph_line("raw with labels")
    a_label = (raw.slope - staged.slope) / SHARD_SIZE
    return staged.at(count) + a_label * images


def _request_cost(files: int) -> float:
    phases = ("read", "write", "publish")
    writes = sum(measured.write_requests(phase) for phase in phases)
    reads = sum(measured.read_requests(phase) for phase in phases)
    a_file = writes * assumptions.STORE_WRITES.value + reads * assumptions.STORE_READS.value
    return files * a_file / 1000


def _first() -> Sequence[str]:
    """What gives way at how many images."""
    moved = sum(measured.requests_a_file("publish").values())
    inspected = sum(measured.requests_a_file("inspect").values())
    request = assumptions.REQUEST_SECONDS.value
    staged, raw = measured.graph_line("staged"), measured.graph_line("raw with labels")
    limit = assumptions.GRAPH_LIMIT.value / _MEGABYTE
    return [
        (
            f"- **The graph.** A shard adds {staged.slope:,.0f} bytes to it, and {raw.slope:,.0f} "
            f"where raw images have labels, which it carries. Dataflow takes {limit:g} MB: "
            f"{graph_images('raw with labels'):,} raw images with labels, or "
            f"{graph_images('staged'):,} staged ones, with the default shards."
        ),
        (
            f"- **Publishing.** A file takes {moved:g} requests, its copy within the store most of "
            f"all; one process makes {REQUESTS_AT_ONCE} at a time: at {request:g} s a request, "
            f"{1 / publish_seconds(1):,.0f} files a second."
        ),
        (
            f"- **Looking at --input.** {inspected:g} requests a file, in the launcher, "
            f"{REQUESTS_AT_ONCE} files at a time: "
            f"{_time(inspect_seconds(10_000))} for 10,000 files. A staged dataset takes 1."
        ),
    ]


def _sizes(way: str) -> Callable[[], Sequence[str]]:
    return lambda: shard_size_table(measured.engine_rate(way), overhead_seconds())


SECTIONS: Mapping[str, Callable[[], Sequence[str]]] = {
    "assumed": _assumed,
    "rates": _rates,
    "here": _here,
    "costs": _costs,
    "example": _example,
    "bytes": _bytes,
    "first": _first,
    "limits": _limits,
    "sizes": _sizes("job-ncnn"),
    "sizes_int8": _sizes("job-litert-int8"),
}
"""The tables, by name."""


def _time(took: float) -> str:
    """Seconds for people: two figures of the unit that fits."""
    unit, name = next((pair for pair in _UNITS if took >= 2 * pair[0]), (1, "s"))
    count = took / unit
    return f"{count:.2g} {name}" if count < 100 else f"{count:,.0f} {name}"  # noqa: PLR2004


def _dollars(amount: float) -> str:
    return f"{amount:,.2f} USD" if amount < 100 else f"{amount:,.0f} USD"  # noqa: PLR2004


def _megabytes(count: float) -> str:
    return f"{count / _MEGABYTE:,.2f} MB" if count < _GIGABYTE else f"{count / _GIGABYTE:,.1f} GB"
