"""What the benchmark found, as Markdown and as JSON."""

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.checks import TOLERANCE
from benchmarks.contest import HAND_WRITTEN, WAYS
from benchmarks.growth import Line, fitted_line
from benchmarks.measure import Measurement
from benchmarks.rounds import Growth, Rounds

KILOBYTE, MEGABYTE = 1024, 1024 * 1024
PER_IMAGES = 100_000
_COLUMNS = (
    "way",
    "time, ratio to hand_written",
    "wall s",
    "wall s, min to max",
    "CPU s",
    "peak MB",
    "images/s",
    "share of the limit",
    "difference, RMS",
)
_EXPLANATION = """\
Whole processes, taken in turn, from uint8 images on the disk to 32 float32 latents each in Parquet;
medians. Compare the rows; the seconds are this machine's. CPU and peak memory are those of all
processes that a way starts, daemons included; memory is their summed PSS. 1 MB = 1024 x 1024 bytes.
A peak counts the pages of a mapped input too."""
_GROWTH_COLUMNS = (
    "way",
    "s for 100,000 further images",
    "s at no images",
    "largest residual, s",
    "KB for a further image",
    "largest residual, MB",
    "share of the limit, further images",
)


class Results(NamedTuple):
    """All that was measured. growth: by way, then by number of images."""

    facts: dict[str, str]
    images: int
    multiply_adds: int
    rounds: Rounds
    growth: Growth


def as_json(results: Results) -> dict[str, Any]:
    """Every single measurement."""
    return {
        **results.facts,
        "images": results.images,
        "multiply_adds": results.multiply_adds,
        "limits": results.rounds.limits,
        "differences": results.rounds.differences,
        "runs": {way: _plain(runs) for way, runs in results.rounds.runs.items()},
        "growth": {
            way: {str(images): _plain(runs) for images, runs in sizes.items()}
            for way, sizes in results.growth.items()
        },
    }


def as_markdown(results: Results, picture: str) -> str:
    """The tables, and what they mean."""
    lines = ["# Benchmark", "", *(f"- {name}: {value}" for name, value in results.facts.items())]
    lines += ["", *markdown_table(_COLUMNS, [_row(results, way) for way in results.rounds.runs])]
    lines += ["", _EXPLANATION, ""]
    lines += [f"- **{way}**: {WAYS[way].explanation}" for way in results.rounds.runs]
    lines += ["", _limit_explanation(results), "", _same_explanation(results)]
    if results.growth:
        lines += ["", "## Growth", "", *_growth(results)]
    lines += ["", f"![Time against hand_written, and growth of time and memory]({picture})"]
    return "\n".join(lines) + "\n"


def wall_seconds(runs: Sequence[Measurement]) -> float:
    """The median."""
    return median(one.wall_seconds for one in runs)


def peak_bytes(runs: Sequence[Measurement]) -> float:
    """The median."""
    return median(one.peak_bytes for one in runs)


def ratio(results: Results, way: str) -> float:
    """A way's time in units of hand_written's."""
    unit = wall_seconds(results.rounds.runs[HAND_WRITTEN.name])
    return wall_seconds(results.rounds.runs[way]) / unit


def limit_share(results: Results, way: str, images_per_second: float) -> float:
    """How much of the machine's fastest matrix product in the way's precision that is."""
    operations = 2 * results.multiply_adds * images_per_second
    return operations / max(results.rounds.limits[WAYS[way].precision])


def time_line(sizes: dict[int, list[Measurement]]) -> Line:
    """Seconds against images."""
    return fitted_line({images: wall_seconds(runs) for images, runs in sizes.items()})


def memory_line(sizes: dict[int, list[Measurement]]) -> Line:
    """Bytes of peak memory against images."""
    return fitted_line({images: peak_bytes(runs) for images, runs in sizes.items()})


def _plain(runs: Sequence[Measurement]) -> list[dict[str, Any]]:
    return [one._asdict() for one in runs]


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown; all columns but the first are numbers."""
    rule = ["---", *(["---:"] * (len(columns) - 1))]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]


def _row(results: Results, way: str) -> Sequence[str]:
    runs = results.rounds.runs[way]
    wall = wall_seconds(runs)
    walls = [one.wall_seconds for one in runs]
    rate = results.images / wall
    return (
        way,
        f"{ratio(results, way):.2f}",
        f"{wall:.1f}",
        f"{min(walls):.1f} to {max(walls):.1f}",
        f"{median(one.cpu_seconds for one in runs):.1f}",
        _megabytes(runs),
        f"{rate:,.0f}",
        f"{limit_share(results, way, rate):.0%}",
        f"{results.rounds.differences[way]:.1g}",
    )


def _limit_explanation(results: Results) -> str:
    rates = " and ".join(
        f"{max(rates) / 1e9:,.0f}e9 operations a second in {precision}"
        for precision, rates in results.rounds.limits.items()
    )
    return (
        "The limit is the fastest large matrix product measured in the same rounds on all cores: "
        f"{rates}. An image takes {results.multiply_adds:,} multiply-adds, of two operations each. "
        "A way is held against the limit of its own precision, with its start and its files. ncnn "
        "computes convolutions by Winograd's method, with fewer multiplications than are counted "
        "here, so its share can be more than 100%."
    )


def _same_explanation(results: Results) -> str:
    size = float(np.sqrt(np.mean(results.rounds.expected.astype(np.float64) ** 2)))
    return (
        f"All float32 ways wrote the same latents as {HAND_WRITTEN.name}, within {TOLERANCE}, or "
        "there would be no table; int8 is rounded, and its difference is stated, not asserted. The "
        f"root mean square (RMS) of the latents themselves is {size:.2f}."
    )


def _growth(results: Results) -> list[str]:
    lines = [_growth_row(results, way) for way in results.growth]
    points = [
        (way, f"{images:,}", str(len(runs)), f"{wall_seconds(runs):.1f}", _megabytes(runs))
        for way, sizes in results.growth.items()
        for images, runs in sizes.items()
    ]
    return [
        *markdown_table(_GROWTH_COLUMNS, lines),
        "",
        "Straight lines fitted by least squares to these medians (1 KB = 1024 bytes):",
        "",
        *markdown_table(("way", "images", "repeats", "wall s", "peak MB"), points),
    ]


def _growth_row(results: Results, way: str) -> Sequence[str]:
    time, memory = time_line(results.growth[way]), memory_line(results.growth[way])
    return (
        way,
        f"{time.slope * PER_IMAGES:.2f}",
        f"{time.start:.1f}",
        f"{time.largest_residual:+.1f}",
        f"{memory.slope / KILOBYTE:.3f}",
        f"{memory.largest_residual / MEGABYTE:+.1f}",
        f"{limit_share(results, way, 1 / time.slope):.0%}",
    )


def _megabytes(runs: Sequence[Measurement]) -> str:
    return f"{peak_bytes(runs) / MEGABYTE:,.0f}"
