"""Rate against distortion as a picture: bytes an image on the x axis, PSNR on the y axis."""

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transforms.quiet import own_environment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Inches at 72 points each: 360 points across, which is how wide a phone's screen is in CSS pixels.
_SIZE = (5.0, 5.4)
_PNG_DOTS_PER_INCH = 200
_OUR_COLOR = "#c2410c"
_COLORS = ("#0072b2", "#00805c", "#8a5a9e", "#3d3d3d", "#2b8cbe", "#7a6a00", "#a03c6e")
_MARKERS = "sD^vPXp"
_STYLE: Any = {  # matplotlib 3.11 types the keys one by one.
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",  # Text stays text: it can be searched, and read aloud.
    "svg.hashsalt": "emnist-latents",  # Else the ids in the SVG are drawn at random.
}
# Places of a label next to a point, in points of length: the first is best.
_PLACES = (
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (7, -7, "left", "top"),
    (-7, 7, "right", "bottom"),
    (8, 0, "left", "center"),
    (-8, 0, "right", "center"),
    (7, 7, "left", "bottom"),
    (-7, -7, "right", "top"),
    (0, 22, "center", "bottom"),
    (0, -22, "center", "top"),
)


class Curve(NamedTuple):
    """A codec's points, in any order. psnr: in dB. ours: whether this project makes it."""

    name: str
    bytes_per_image: tuple[float, ...]
    psnr: tuple[float, ...]
    ours: bool = False


def rate_distortion_svg(curves: Sequence[Curve]) -> str:
    """The picture as one `<svg>` element, good as a file and inside HTML; the same every time."""
    # Neither the date nor the version, which would change the file every time.
    metadata = {"Date": None, "Creator": None}
    document = _drawn(curves, format="svg", metadata=metadata).decode()
    return document[document.index("<svg") :]


def rate_distortion_png(curves: Sequence[Curve]) -> bytes:
    """The picture as a PNG file, 1,000 pixels across."""
    return _drawn(curves, format="png", dpi=_PNG_DOTS_PER_INCH, metadata={"Software": None})


def _drawn(curves: Sequence[Curve], **how: Any) -> bytes:
    with own_environment():
        from matplotlib import rc_context, rcdefaults, rcParams

    file = io.BytesIO()
    with rc_context():
        rcdefaults()  # What a matplotlibrc sets is for other plots.
        rcParams.update(_STYLE)
        _figure([_by_bytes(curve) for curve in curves if curve.psnr]).savefig(file, **how)
    return file.getvalue()


def _by_bytes(curve: Curve) -> Curve:
    points = sorted(zip(curve.bytes_per_image, curve.psnr, strict=True))
    return curve._replace(
        bytes_per_image=tuple(count for count, _ in points), psnr=tuple(psnr for _, psnr in points)
    )


def _figure(curves: Sequence[Curve]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(_SIZE, layout="constrained")
    axes = figure.add_subplot()
    _draw_axes(axes)
    # Ours are drawn above the others, and their labels are placed first.
    ordered = sorted(curves, key=lambda curve: not curve.ours)
    lines = [_draw(axes, curve, position) for position, curve in enumerate(ordered)]
    figure.draw_without_rendering()  # Where things are is known only once they are laid out.
    _label(axes, ordered, lines)
    return figure


def _draw(axes: "Axes", curve: Curve, position: int) -> "Line2D":
    (line,) = axes.plot(
        curve.bytes_per_image,
        curve.psnr,
        color=_OUR_COLOR if curve.ours else _COLORS[position % len(_COLORS)],
        marker="o" if curve.ours else _MARKERS[position % len(_MARKERS)],
        markersize=6 if curve.ours else 4,
        linewidth=2.6 if curve.ours else 1.2,
        zorder=3 if curve.ours else 2,
    )
    return line


def _draw_axes(axes: "Axes") -> None:
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    axes.set_xscale("log")
    axes.set_xticks([10, 20, 50, 100, 200, 500, 1000])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("bytes an image (logarithmic)")
    axes.set_ylabel("PSNR in dB (higher is better)")
    axes.grid(color="#e2e2e2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.08)


def _label(axes: "Axes", curves: Sequence[Curve], lines: "Sequence[Line2D]") -> None:
    """Writes each curve's name next to one of its points, where it hides least."""
    places = [_pixels(line) for line in lines]
    taken: list[Bbox] = []
    for position, (curve, line) in enumerate(zip(curves, lines, strict=True)):
        others = np.concatenate([*places[:position], *places[position + 1 :], np.zeros((0, 2))])
        label = min(
            _labels(axes, curve, line),
            key=lambda label: _cost(label, axes, places[position], others, taken),
        )
        axes.add_artist(label)
        taken.append(_extent(label))


def _pixels(line: "Line2D") -> np.ndarray:
    """Places along a line, a pixel apart: float (n, 2)."""
    points = line.get_transform().transform(line.get_xydata())
    lengths = np.hypot(*np.diff(points, axis=0).T)
    reached = np.concatenate([[0.0], np.cumsum(lengths)])
    steps = np.linspace(0, reached[-1], 2 + int(reached[-1]))
    return np.column_stack([np.interp(steps, reached, points[:, axis]) for axis in (0, 1)])


def _labels(axes: "Axes", curve: Curve, line: "Line2D") -> "Iterator[Annotation]":
    """The name of a curve in each possible place."""
    from matplotlib.text import Annotation

    for point in zip(curve.bytes_per_image, curve.psnr, strict=True):
        for right, up, horizontal, vertical in _PLACES:
            label = Annotation(
                curve.name,
                point,
                xytext=(right, up),
                textcoords="offset points",
                color=line.get_color(),
                fontsize=12 if curve.ours else 10,
                fontweight="bold" if curve.ours else "normal",
                horizontalalignment=horizontal,
                verticalalignment=vertical,
            )
            label.set_figure(axes.figure)
            label.axes = axes
            yield label


def _extent(label: "Annotation") -> "Bbox":
    return label.get_window_extent().padded(2)


def _cost(
    label: "Annotation",
    axes: "Axes",
    own: np.ndarray,
    others: np.ndarray,
    taken: "Sequence[Bbox]",
) -> float:
    """How much a label hides lines and labels, crosses the edge, or could be another curve's."""
    place = _extent(label)
    labels = sum(place.overlaps(other) for other in taken)
    outside = (
        place.x0 < axes.bbox.x0
        or place.x1 > axes.bbox.x1
        or place.y0 < axes.bbox.y0
        or place.y1 > axes.bbox.y1
    )
    lines = _inside(place, own) + 5 * _inside(place, others)
    ambiguous = max(0.0, _distance(place, own) - 0.7 * _distance(place, others))
    return float(lines + ambiguous + 1000 * (labels + outside))


def _inside(place: "Bbox", points: np.ndarray) -> int:
    """How many points float (n, 2) lie in a rectangle."""
    low, high = place.get_points()
    return int(((points > low) & (points < high)).all(axis=1).sum())


def _distance(place: "Bbox", points: np.ndarray) -> float:
    """From the middle of a rectangle to the nearest of points float (n, 2); infinite for none."""
    middle = place.get_points().mean(axis=0)
    return float(np.linalg.norm(points - middle, axis=1).min(initial=np.inf))
