"""The benchmark as a picture: time beside the others, and growth of time and memory."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contest import HAND_WRITTEN, WAYS
from benchmarks.growth import Line
from benchmarks.measure import Measurement
from benchmarks.results import (
    KILOBYTE,
    MEGABYTE,
    PER_IMAGES,
    Results,
    memory_line,
    ratio,
    time_line,
)
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
    return svg(lambda: _figure(results))


def svg(draw: Callable[[], "Figure"]) -> str:
    """A figure as SVG, the same every time; draw: makes it, once the style is set."""
    from matplotlib import rc_context

    file = io.StringIO()
    # Neither when nor with which version it was drawn.
    metadata = {"Date": None, "Creator": None}
    with rc_context(_STYLE):
        draw().savefig(file, format="svg", facecolor="white", metadata=metadata)
    return file.getvalue()


def _figure(results: Results) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    heights = [1 + _BAR_HEIGHT * len(results.rounds.runs)]
    if results.growth:
        heights += [_GROWTH_HEIGHT * share for share in (0.42, 0.18, 0.4)]
    figure = Figure((_WIDTH, sum(heights)), layout=ConstrainedLayoutEngine(hspace=0.08))
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
    ratios = {WAYS[way]: ratio(results, way) for way in results.rounds.runs}
    ways = sorted(ratios, key=ratios.__getitem__, reverse=True)
    colors = [_RIVAL if way.environment else _OURS for way in ways]
    titles = [way.title for way in ways]
    bars = axes.barh(titles, [ratios[way] for way in ways], color=colors, height=0.7)
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    title = f"Time for {results.images:,} images, start to end"
    axes.set_title(title, loc="left", weight="bold")
    axes.set_xlabel(f"{HAND_WRITTEN.title} = 1; shorter is better (orange: this project)")
    axes.margins(x=0.1)


def _draw_growth(axes: "np.ndarray[Any, Any]", growth: Growth) -> None:
    """Three panels: seconds, what the line misses them by, and memory."""
    from matplotlib.ticker import StrMethodFormatter

    seconds, residuals, memory = axes
    for position, (way, sizes) in enumerate(growth.items()):
        look = {"color": _COLORS[position], "marker": _MARKERS[position], "markersize": 5}
        line, memory_growth = time_line(sizes), memory_line(sizes)
        title = WAYS[way].title
        label = f"{title}: {line.start:.1f} s + {line.slope * PER_IMAGES:.2f} s a 100,000 images"
        _draw_line(seconds, sizes, line, 1, label, look)
        residuals.plot(list(sizes), line.residuals, linewidth=0.8, **look)
        label = f"{title}: {memory_growth.slope / KILOBYTE:.3f} KB for a further image"
        _draw_line(memory, sizes, memory_growth, MEGABYTE, label, look)
    seconds.set_title(
        "Time against images: all runs, and straight lines through their medians",
        loc="left",
        weight="bold",
    )
    seconds.set_ylabel("seconds")
    residuals.axhline(0, color="black", linewidth=0.8)
    residuals.set_ylabel("off the line,\nseconds")
    memory.set_title("Peak memory of all processes against images", loc="left", weight="bold")
    memory.set_ylabel("MB")
    memory.set_xlabel("images")
    for one in axes:
        one.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        one.set_xlim(0, 1.04 * max(max(sizes) for sizes in growth.values()))
        one.margins(y=0.15)
        one.grid(color="#e2e2e2", linewidth=0.8)
    for one in (seconds, memory):
        one.set_ylim(bottom=0)
        one.legend(frameon=False)


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
