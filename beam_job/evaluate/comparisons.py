"""What follows from the points: bytes at equal PSNR, PSNR at equal bytes, break-even, BD-rate."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from beam_job.reports.codecs import Point
from beam_job.reports.vector_codecs import LATENTS, LATENTS_FLOAT, PCA_FLOAT, PCA_NUMBERS

OURS = (LATENTS, LATENTS_FLOAT)

_PCA = (PCA_NUMBERS, PCA_FLOAT)
_ANCHORS = (PCA_NUMBERS, "WebP")
_LEAST_OVERLAP_DB = 0.5


def curves_of(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points at which something is lost, by codec."""
    lossy = [point for point in points if point.psnr is not None]
    return {
        codec: [point for point in lossy if point.codec == codec]
        for codec in dict.fromkeys(point.codec for point in lossy)
    }


def frontier(curve: Sequence[Point]) -> list[Point]:
    """The points of a curve that are worth their bytes: each has more of them, and more PSNR."""
    best: list[Point] = []
    for point in sorted(curve, key=lambda point: (point.bytes, -psnr_of(point))):
        if not best or psnr_of(point) > psnr_of(best[-1]):
            best.append(point)
    return best


def psnr_of(point: Point) -> float:
    """PSNR in dB; infinite where nothing was lost."""
    return math.inf if point.psnr is None else point.psnr


class CurveEnd(msgspec.Struct, frozen=True):
    """The point of a curve with the fewest or the most bytes."""

    setting: str
    bytes_per_image: float
    psnr: float


class Comparison(msgspec.Struct, frozen=True):
    """One of our points against the curve of another codec.

    their_bytes_per_image: what the codec needs for our PSNR. their_psnr: what it reaches in our
    bytes. Both are interpolated between its points, in PSNR and the logarithm of bytes, and None
    where ours is beyond them.
    """

    latents: str
    bytes_per_image: float
    psnr: float
    codec: str
    their_bytes_per_image: float | None
    their_psnr: float | None
    fewest: CurveEnd
    most: CurveEnd


def compare(points: Sequence[Point]) -> list[Comparison]:
    """Each of our lossy points against each curve of the others."""
    curves = {name: frontier(curve) for name, curve in curves_of(points).items()}
    return [
        _compare(our, curve)
        for our in points
        if our.codec in OURS and our.psnr is not None
        for name, curve in curves.items()
        if name not in OURS
    ]


def _compare(our: Point, curve: Sequence[Point]) -> Comparison:
    logs = [math.log(point.bytes_per_image) for point in curve]
    psnrs = [psnr_of(point) for point in curve]
    log = _interpolate(psnr_of(our), psnrs, logs)
    psnr = _interpolate(math.log(our.bytes_per_image), logs, psnrs)
    return Comparison(
        our.name,
        our.bytes_per_image,
        psnr_of(our),
        curve[0].codec,
        None if log is None else round(math.exp(log), 4),
        None if psnr is None else round(psnr, 4),
        *(
            CurveEnd(end.setting, end.bytes_per_image, psnr_of(end))
            for end in (curve[0], curve[-1])
        ),
    )


def _interpolate(at: float, xs: Sequence[float], ys: Sequence[float]) -> float | None:
    return float(np.interp(at, xs, ys)) if xs[0] <= at <= xs[-1] else None


class BreakEven(msgspec.Struct, frozen=True):
    """The number of images from which latents and the model's files are smaller than a codec's.

    at: where on its curve the other codec is taken. images: None where it never happens.
    """

    latents: str
    codec: str
    at: str
    their_bytes_per_image: float
    bytes_per_image: float
    images: int | None


def break_even(points: Sequence[Point], model_bytes: int) -> list[BreakEven]:
    """Each of our points against the lossless codecs, and against the others at equal PSNR.

    Where a codec's fewest bytes are of a higher PSNR than ours, they are taken. PCA is not
    compared: its components have to be stored as well.
    """
    lossless = [
        (our.name, other.name, "lossless", other.bytes_per_image, our.bytes_per_image)
        for our in points
        if our.codec in OURS
        for other in points
        if other.codec not in OURS and other.psnr is None
    ]
    lossy = [
        (row.latents, row.codec, *_where_as_good(row), row.bytes_per_image)
        for row in compare(points)
        if row.codec not in _PCA and row.psnr <= row.most.psnr
    ]
    return [
        BreakEven(*row, _images_to_save(model_bytes, theirs - ours))
        for row in (*lossless, *lossy)
        for *_, theirs, ours in (row,)
    ]


def _where_as_good(row: Comparison) -> tuple[str, float]:
    """The place on a codec's curve that is at least as good as ours, and its bytes an image."""
    if row.their_bytes_per_image is not None:
        return "equal PSNR", row.their_bytes_per_image
    return f"{row.fewest.setting}, {row.fewest.psnr:.1f} dB", row.fewest.bytes_per_image


def _images_to_save(model_bytes: int, saved_per_image: float) -> int | None:
    return math.ceil(model_bytes / saved_per_image) if saved_per_image > 0 else None


class BdRate(msgspec.Struct, frozen=True):
    """Bytes of a codec against those of an anchor at equal PSNR, averaged over the PSNR of both.

    percent: less than 0 where the codec needs fewer; None for the reason given. overlap_db: the
    range of PSNR that both reach.
    """

    codec: str
    anchor: str
    percent: float | None
    overlap_db: tuple[float, float] | None
    reason: str | None


def bd_rates(points: Sequence[Point]) -> list[BdRate]:
    """Each curve against each anchor (Bjontegaard, VCEG-M33; Akima interpolation)."""
    curves = {name: frontier(curve) for name, curve in curves_of(points).items()}
    return [
        _bd_rate(curve, curves[anchor])
        for anchor in _ANCHORS
        if anchor in curves
        for name, curve in curves.items()
        if name != anchor
    ]


def _bd_rate(curve: Sequence[Point], anchor: Sequence[Point]) -> BdRate:
    import bjontegaard

    names = curve[0].codec, anchor[0].codec
    for one in (curve, anchor):
        if len(one) == 1:
            return BdRate(*names, None, None, f"{one[0].codec} is a point, not a curve")
    low = max(psnr_of(curve[0]), psnr_of(anchor[0]))
    high = min(psnr_of(curve[-1]), psnr_of(anchor[-1]))
    if high - low < _LEAST_OVERLAP_DB:
        ranges = f"{_range_of(curve)} against {_range_of(anchor)}"
        reason = f"less than {_LEAST_OVERLAP_DB} dB in common: {ranges}"
        return BdRate(*names, None, None, reason)
    percent = bjontegaard.bd_rate(
        [point.bpp for point in anchor],
        [psnr_of(point) for point in anchor],
        [point.bpp for point in curve],
        [psnr_of(point) for point in curve],
        method="akima",
        require_matching_points=False,
        min_overlap=0,
    )
    return BdRate(*names, round(float(percent), 2), (low, high), None)


def _range_of(curve: Sequence[Point]) -> str:
    return f"{psnr_of(curve[0]):.1f} to {psnr_of(curve[-1]):.1f} dB"
