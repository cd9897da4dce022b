"""How time and memory grow with the images: straight lines, and how far from them it was."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Line(NamedTuple):
    """A straight line fitted by least squares, and what it misses each point by."""

    start: float
    slope: float
    residuals: tuple[float, ...]

    def at(self, x: float) -> float:
        """The height of the line."""
        return self.start + self.slope * x

    @property
    def largest_residual(self) -> float:
        """The residual furthest from 0, with its sign."""
        return max(self.residuals, key=abs)


def fitted_line(points: Mapping[int, float]) -> Line:
    """The line through (x, y), of which there are at least two."""
    across = np.array(list(points), np.float64)
    up = np.array(list(points.values()), np.float64)
    slope, start = np.polyfit(across, up, 1)
    residuals = up - (start + slope * across)
    return Line(float(start), float(slope), tuple(residuals.tolist()))
