"""How long a job takes beside its ideal, by the size of its shards: a small simulation.

`python -m benchmarks.stragglers` prints the tables and draws docs/shard-size.svg.

A worker is a core. Workers differ in speed, and a few are slow. Dataflow hands out a shard to
whoever has none (a queue); Flink deals them in turn after a Reshuffle, before any work is done. A
shard takes its images and, whatever its size, the requests that open and write its files. The
ideal is all cores busy from start to end with images alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks import assumptions, measured
from benchmarks.measured import engine_rate
from benchmarks.plot import svg
from benchmarks.results import markdown_table
from transforms.settings import SHARD_SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE = Path(__file__).parents[1] / "docs/shard-size.svg"
SHARD_SIZES = tuple(2**power for power in range(10, 19))
ROUNDS = 100
_BISECTIONS = 80
_COLORS = {"queue": "#c2410c", "dealt": "#0072b2"}

Makespan = Callable[[int, np.ndarray], float]


class Scale(NamedTuple):
    """A job's size: images, and the cores that it is given."""

    images: int
    cores: int


SCALES = (Scale(10**6, 8), Scale(10**8, 64), Scale(10**10, 1024))
BALANCED = Scale(112_800, 4)
"""EMNIST balanced's train split, which this job is for before all else."""


class Outcome(NamedTuple):
    """Times the ideal that a job takes with shards of one size, means over all rounds."""

    shard_size: int
    queue: float
    dealt: float


def main() -> None:
    """Prints a table for each engine, and draws the picture."""
    for way in ("job-ncnn", "job-litert-int8"):
        print(f"\n{way}\n")
        print("\n".join(shard_size_table(engine_rate(way), overhead_seconds())))
    picture = as_svg(engine_rate("job-ncnn"), overhead_seconds())
    PICTURE.write_text(picture, encoding="utf-8")


def overhead_seconds() -> float:
    """What a shard takes whatever its size: its requests, one after the other."""
    return measured.shard_requests() * assumptions.REQUEST_SECONDS.value


def queue_seconds(shards: int, seconds: np.ndarray) -> float:
    """Until the last of equal shards is done, each worker taking the next when it has none.

    seconds: what a shard takes each worker, float64 (workers,); the first of them begins first.
    """
    # The k-th shard of a worker starts at (k - 1) * seconds. Sought is the start of the last one.
    before, after = 0.0, shards * float(seconds.min())
    for _ in range(_BISECTIONS):
        middle = (before + after) / 2
        if np.sum(np.floor(middle / seconds) + 1) < shards:
            before = middle
        else:
            after = middle
    # All starts up to the last one: first those well before it, then those at it, in turn.
    taken = np.floor(before / seconds) + 1 if before else np.zeros(len(seconds))
    at_last = np.floor(after / seconds) + 1 > taken
    left = int(shards - taken.sum())
    taken[np.flatnonzero(at_last)[:left]] += 1
    return float(np.max(taken * seconds))


def dealt_seconds(shards: int, seconds: np.ndarray) -> float:
    """The same where the shards were dealt to the workers in turn before any of them began."""
    each, more = divmod(shards, len(seconds))
    dealt = each + (np.arange(len(seconds)) < more)
    return float(np.max(dealt * seconds))


def drawn_speeds(workers: int, random: np.random.Generator) -> np.ndarray:
    """How fast each worker is, 1 for as fast as was measured: float64 (workers,)."""
    speeds = random.normal(1, assumptions.SPEED_SPREAD.value, workers).clip(0.5, 1.5)
    is_slow = random.random(workers) < assumptions.SLOW_SHARE.value
    return np.where(is_slow, speeds * assumptions.SLOW_SPEED.value, speeds)


def times_ideal(
    makespan: Makespan, scale: Scale, shard_size: int, rate: float, overhead: float
) -> float:
    """How many times the ideal a job takes, the mean of rounds with workers drawn anew.

    rate: images a second of a core at speed 1. overhead: seconds a shard.
    """
    shards = -(-scale.images // shard_size)
    ratios = []
    for number in range(ROUNDS):
        speeds = drawn_speeds(scale.cores, np.random.default_rng(number))
        ideal = scale.images / (rate * speeds.sum())
        seconds = shard_size / (rate * speeds) + overhead
        ratios.append(makespan(shards, seconds) / ideal)
    return float(np.mean(ratios))


def outcomes(scale: Scale, rate: float, overhead: float) -> list[Outcome]:
    """For each size of shards."""
    return [
        Outcome(
            size,
            times_ideal(queue_seconds, scale, size, rate, overhead),
            times_ideal(dealt_seconds, scale, size, rate, overhead),
        )
        for size in SHARD_SIZES
    ]


def shard_size_table(rate: float, overhead: float) -> Sequence[str]:
    """Lines of Markdown: a row a shard size, the best of each column in bold."""
    columns = ["images a shard"]
    cells = [[f"{size:,}" for size in SHARD_SIZES]]
    for scale in (BALANCED, *SCALES):
        found = outcomes(scale, rate, overhead)
        for name in _COLORS:
            columns.append(f"{scale.images:,} on {scale.cores:,} cores, {name}")
            cells.append(_with_best_bold([getattr(one, name) for one in found]))
    return markdown_table(columns, list(zip(*cells, strict=True)))


def _with_best_bold(ratios: Sequence[float]) -> list[str]:
    shown = [f"{ratio:.2f}" for ratio in ratios]
    best = shown[int(np.argmin(ratios))]
    return [f"**{one}**" if one == best else one for one in shown]


def as_svg(rate: float, overhead: float) -> str:
    """The picture, the same every time for the same rate and overhead."""
    return svg(lambda: _figure(rate, overhead))


def _figure(rate: float, overhead: float) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure((9.0, 3.1), layout="constrained")
    panels = figure.subplots(1, 1 + len(SCALES), sharey=True)
    for axes, scale in zip(panels, (BALANCED, *SCALES), strict=True):
        _draw(axes, scale, outcomes(scale, rate, overhead))
    panels[0].set_ylabel("time, ideal = 1")
    panels[-1].legend(frameon=False, loc="center right")
    figure.supxlabel(f"images a shard; dotted: the default, {SHARD_SIZE:,}", fontsize="medium")
    return figure


def _draw(axes: "Axes", scale: Scale, found: Sequence[Outcome]) -> None:
    for name, marker in zip(_COLORS, "os", strict=True):
        ratios = [getattr(one, name) for one in found]
        axes.plot(SHARD_SIZES, ratios, color=_COLORS[name], marker=marker, markersize=4, label=name)
    axes.axvline(SHARD_SIZE, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log", base=2)
    shown = SHARD_SIZES[::4]
    axes.set_xticks(shown, [f"{size // 1024}k" for size in shown])
    axes.set_ylim(1, 3)
    axes.set_title(f"{scale.images:,}\non {scale.cores:,} cores", fontsize="medium")
    axes.grid(color="#e2e2e2", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


if __name__ == "__main__":
    main()
