"""The measurements, taken in turn, each with a check of what the way wrote."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.checks import check_same, read_latents
from benchmarks.contest import Contest, Way
from benchmarks.inputs import write_inputs
from benchmarks.limit import PRECISIONS, measured_limit
from benchmarks.measure import Measurement, measure

_WARM_UP_IMAGES = 1024
_MOST_REPEATED = 112_800  # More images are taken once, since they take long.

Runs = dict[str, list[Measurement]]
Growth = dict[str, dict[int, list[Measurement]]]


class Rounds(NamedTuple):
    """What was measured with the same images.

    limits: operations a second by precision. differences: RMS against hand_written's latents, which
    are expected.
    """

    limits: dict[str, list[float]]
    runs: Runs
    differences: dict[str, float]
    expected: np.ndarray


class Bench(NamedTuple):
    """Where ways are run. folder: for inputs and outputs."""

    contest: Contest
    digits: np.ndarray
    folder: Path

    def warm_up(self, ways: Sequence[Way]) -> None:
        """Runs each once, or the first alone would read TensorFlow from the disk."""
        images = self._write_inputs(ways, _WARM_UP_IMAGES)
        for way in ways:
            self._run(way, images, "warm_up")

    def rounds(self, ways: Sequence[Way], count: int, repeats: int) -> Rounds:
        """Every round runs every way; the first and the last one measure the limits too."""
        images = self._write_inputs(ways, count)
        limits: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        runs: Runs = {way.name: [] for way in ways}
        differences = {}
        expected = None
        for repeat in range(1, repeats + 1):
            for precision in PRECISIONS if repeat in (1, repeats) else ():
                limits[precision].append(measured_limit(precision))
            for way in ways:
                measured, output = self._run(way, images, f"{count}-{repeat}")
                runs[way.name].append(measured)
                latents = read_latents(way, output, count)
                expected = latents if expected is None else expected
                differences[way.name] = check_same(way, latents, expected)
        if expected is None:
            raise ValueError("no rounds, so no latents to expect")
        return Rounds(limits, runs, differences, expected)

    def growth(
        self, ways: Sequence[Way], sizes: Sequence[int], repeats: int, expected: np.ndarray
    ) -> Growth:
        """Runs ways with numbers of images, the larger ones once."""
        images = {count: self._write_inputs(ways, count) for count in sizes}
        grown: Growth = {way.name: {count: [] for count in sizes} for way in ways}
        for repeat in range(1, repeats + 1):
            for count in sizes:
                if repeat > 1 and count > _MOST_REPEATED:
                    continue
                for way in ways:
                    measured, output = self._run(way, images[count], f"{count}-growth-{repeat}")
                    grown[way.name][count].append(measured)
                    check_same(way, read_latents(way, output, count), expected)
        return grown

    def _write_inputs(self, ways: Sequence[Way], count: int) -> Path:
        """A folder with that many images in the formats that the ways read."""
        formats = {way.reads for way in ways}
        return write_inputs(self.folder / f"images-{count}", self.digits, count, formats)

    def _run(self, way: Way, images: Path, name: str) -> tuple[Measurement, Path]:
        """What a way took, and the folder with its latents."""
        output = self.folder / f"{way.name}-{name}"
        print(f"{output.name} ...", end=" ", file=sys.stderr, flush=True)
        measured = measure(self.contest.command(way, images, output))
        print(f"{measured.wall_seconds:.1f} s", file=sys.stderr)
        return measured, output
