"""The benchmark as a picture: time beside the others, and growth of time and memory."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.growth import Line
from benchmarks.measure import Measurement
from benchmarks.results import MEGABYTE, Results, memory_line, ratio, time_line
from benchmarks.rounds import Growth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _BAR_HEIGHT, _GROWTH_HEIGHT = 7.2, 0.42, 7.4
_OURS, _RIVAL = "#c2410c", "#6b7280"
_COLORS = (_OURS, "#0072b2")
_MARKERS = "os"
_STYLE: Any = {  # matplotlib 3.11 types the keys one by one.
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",  # Text stays text: it can be searched, and read aloud.
    "svg.hashsalt": "emnist-latents",  # Else the ids in the SVG are drawn at random.
}


def as_svg(results: Results) -> str:
    """The picture, the same every time for the same results."""
    from matplotlib import rc_context

    file = io.StringIO()
    # Neither when nor with which version it was drawn.
    metadata = {"Date": None, "Creator": None}
    with rc_context(_STYLE):
        _figure(results).savefig(file, format="svg", facecolor="white", metadata=metadata)
    return file.getvalue()


def _figure(results: Results) -> "Figure":
    from matplotlib.figure import Figure

    heights = [1 + _BAR_HEIGHT * len(results.rounds.runs)]
    if results.growth:
        heights += [_GROWTH_HEIGHT * share for share in (0.42, 0.18, 0.4)]
    figure = Figure((_WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), height_ratios=heights, squeeze=False)[:, 0]
    _draw_ratios(axes[0], results)
    if results.growth:
        _draw_growth(axes[1:], results.growth)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.set_axisbelow(True)
    return figure


def _draw_ratios(axes: "Axes", results: Results) -> None:
    """A bar a way, the fastest on top."""
    ratios = {way: ratio(results, way) for way in results.rounds.runs}
    ways = sorted(ratios, key=ratios.__getitem__, reverse=True)
    colors = [_OURS if way.startswith("job-") else _RIVAL for way in ways]
    bars = axes.barh(ways, [ratios[way] for way in ways], color=colors, height=0.7)
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_title(f"Time for {results.images:,} images, whole process", loc="left", weight="bold")
    axes.set_xlabel("time in units of hand_written's, shorter is better (orange: this project)")
    axes.margins(x=0.1)


def _draw_growth(axes: "np.ndarray[Any, Any]", growth: Growth) -> None:
    """Three panels: seconds, what the line misses them by, and memory."""
    from matplotlib.ticker import StrMethodFormatter

    seconds, residuals, memory = axes
    for position, (way, sizes) in enumerate(growth.items()):
        look = {"color": _COLORS[position], "marker": _MARKERS[position], "markersize": 5}
        line, memory_growth = time_line(sizes), memory_line(sizes)
        slope = f"{line.slope * 100_000:.2f} s for 100,000 images"
        _draw_line(seconds, sizes, line, 1, f"{way}: {slope}", look)
        residuals.plot(list(sizes), line.residuals, linewidth=0.8, **look)
        slope = f"{memory_growth.slope / 1024:+.3f} KB an image"
        _draw_line(memory, sizes, memory_growth, MEGABYTE, f"{way}: {slope}", look)
    seconds.set_title("Growth of time, and a straight line", loc="left", weight="bold")
    seconds.set_ylabel("seconds")
    residuals.axhline(0, color="black", linewidth=0.8)
    residuals.set_ylabel("off the line,\nseconds")
    memory.set_title("Growth of peak memory, and a straight line", loc="left", weight="bold")
    memory.set_ylabel("MB")
    memory.set_xlabel("images")
    for one in axes:
        one.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        one.set_xlim(left=0)
        one.grid(color="#e2e2e2", linewidth=0.8)
    for one in (seconds, memory):
        one.set_ylim(bottom=0)
        one.legend(frameon=False, loc="best")


def _draw_line(
    axes: "Axes",
    sizes: dict[int, list[Measurement]],
    line: Line,
    unit: int,
    label: str,
    look: dict[str, Any],
) -> None:
    """Every measurement, and the line through the medians."""
    for images, runs in sizes.items():
        values = [one.wall_seconds if unit == 1 else one.peak_bytes / unit for one in runs]
        axes.plot([images] * len(values), values, linestyle="", **look)
    ends = (0, max(sizes))
    axes.plot(ends, [line.at(end) / unit for end in ends], color=look["color"], label=label)
