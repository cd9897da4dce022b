"""What follows from the points: bytes at equal PSNR, PSNR at equal bytes, break-even, BD-rate."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_job.reports.codecs import Point
from beam_job.reports.vector_codecs import LATENTS, LATENTS_FLOAT, PCA_FLOAT, PCA_NUMBERS

OURS = (LATENTS, LATENTS_FLOAT)

_PCA = (PCA_NUMBERS, PCA_FLOAT)
_ANCHORS = (PCA_NUMBERS, "WebP")
_LEAST_OVERLAP_DB = 0.5


def curves_of(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points at which something is lost, by codec."""
    lossy = [found for found in points if found.psnr is not None]
    return {
        codec: [found for found in lossy if found.codec == codec]
        for codec in dict.fromkeys(found.codec for found in lossy)
    }


def frontier(curve: Sequence[Point]) -> list[Point]:
    """The points of a curve that are worth their bytes: each has more of them, and more PSNR."""
    best: list[Point] = []
    for found in sorted(curve, key=lambda found: (found.bytes, -psnr_of(found))):
        if not best or psnr_of(found) > psnr_of(best[-1]):
            best.append(found)
    return best


def psnr_of(found: Point) -> float:
    return math.inf if found.psnr is None else found.psnr


class EqualPsnr(NamedTuple):
    """What another codec needs to be as good as one of our points.

    bytes_per_image: interpolated between the codec's points, the logarithm of bytes over PSNR;
    None where our PSNR is beyond its points, as `reason` says. smallest_*: its point of fewest
    bytes.
    """

    latents: str
    psnr: float
    bytes_per_image: float
    codec: str
    their_bytes_per_image: float | None
    reason: str | None
    smallest_setting: str
    smallest_bytes_per_image: float
    smallest_psnr: float


def equal_psnr(points: Sequence[Point]) -> list[EqualPsnr]:
    """Each of our points against each curve of the others."""
    curves = {name: frontier(curve) for name, curve in curves_of(points).items()}
    return [
        _equal_psnr(our, curve)
        for our in points
        if our.codec in OURS and our.psnr is not None
        for name, curve in curves.items()
        if name not in OURS
    ]


def _equal_psnr(our: Point, curve: Sequence[Point]) -> EqualPsnr:
    smallest, psnr = curve[0], psnr_of(our)
    theirs, reason = None, None
    if psnr < psnr_of(smallest):
        reason = "even its fewest bytes are of a higher PSNR"
    elif psnr > psnr_of(curve[-1]):
        reason = "none of its points reaches this PSNR"
    else:
        logs = [math.log(found.bytes_per_image) for found in curve]
        theirs = math.exp(np.interp(psnr, [psnr_of(found) for found in curve], logs))
    return EqualPsnr(
        _named(our),
        psnr,
        round(our.bytes_per_image, 4),
        smallest.codec,
        None if theirs is None else round(theirs, 4),
        reason,
        smallest.setting,
        round(smallest.bytes_per_image, 4),
        psnr_of(smallest),
    )


def _named(found: Point) -> str:
    return f"{found.codec}, {found.setting}"


class EqualBytes(NamedTuple):
    """How good another codec is in the bytes of one of our points.

    their_psnr: interpolated between the codec's points, PSNR over the logarithm of bytes; None
    where our bytes are beyond its points, as `reason` says. smallest_*, largest_*: its points of
    fewest and of most bytes.
    """

    latents: str
    bytes_per_image: float
    psnr: float
    codec: str
    their_psnr: float | None
    reason: str | None
    smallest_setting: str
    smallest_bytes_per_image: float
    smallest_psnr: float
    largest_setting: str
    largest_bytes_per_image: float
    largest_psnr: float


def equal_bytes(points: Sequence[Point]) -> list[EqualBytes]:
    """Each of our points against each curve of the others."""
    curves = {name: frontier(curve) for name, curve in curves_of(points).items()}
    return [
        _equal_bytes(our, curve)
        for our in points
        if our.codec in OURS and our.psnr is not None
        for name, curve in curves.items()
        if name not in OURS
    ]


def _equal_bytes(our: Point, curve: Sequence[Point]) -> EqualBytes:
    smallest, largest = curve[0], curve[-1]
    theirs, reason = None, None
    if our.bytes_per_image < smallest.bytes_per_image:
        reason = "even its fewest bytes are more"
    elif our.bytes_per_image > largest.bytes_per_image:
        reason = "even its most bytes are fewer"
    else:
        logs = [math.log(found.bytes_per_image) for found in curve]
        psnrs = [psnr_of(found) for found in curve]
        theirs = float(np.interp(math.log(our.bytes_per_image), logs, psnrs))
    return EqualBytes(
        _named(our),
        round(our.bytes_per_image, 4),
        psnr_of(our),
        smallest.codec,
        None if theirs is None else round(theirs, 4),
        reason,
        smallest.setting,
        round(smallest.bytes_per_image, 4),
        psnr_of(smallest),
        largest.setting,
        round(largest.bytes_per_image, 4),
        psnr_of(largest),
    )


class BreakEven(NamedTuple):
    """From how many images on latents and the model's files are smaller than another codec's.

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

    Where a codec's fewest bytes are of a higher PSNR than ours, they are taken. PCA is no rival
    here: it has components to be stored as well.
    """
    ours = [found for found in points if found.codec in OURS]
    lossless = [found for found in points if found.psnr is None and found not in ours]
    rows = [
        _break_even(our, _named(other), "lossless", other.bytes_per_image, model_bytes)
        for our in ours
        for other in lossless
    ]
    by_name = {_named(our): our for our in ours}
    for row in equal_psnr(points):
        our = by_name[row.latents]
        if row.codec in _PCA:
            continue
        if row.their_bytes_per_image is not None:
            theirs = row.their_bytes_per_image
            rows.append(_break_even(our, row.codec, "equal PSNR", theirs, model_bytes))
        elif row.psnr < row.smallest_psnr:
            at = f"{row.smallest_setting}, {row.smallest_psnr:.1f} dB"
            theirs = row.smallest_bytes_per_image
            rows.append(_break_even(our, row.codec, at, theirs, model_bytes))
    return rows


def _break_even(our: Point, codec: str, at: str, theirs: float, model_bytes: int) -> BreakEven:
    saved = theirs - our.bytes_per_image
    images = math.ceil(model_bytes / saved) if saved > 0 else None
    return BreakEven(
        _named(our), codec, at, round(theirs, 4), round(our.bytes_per_image, 4), images
    )


class BdRate(NamedTuple):
    """Bytes of a codec against those of an anchor at equal PSNR, averaged over the PSNR of both.

    percent: less than 0 where the codec needs fewer; None for the reason given. overlap_db: from
    and to which PSNR both reach.
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
        if len(one) < len(("a point", "another")):
            return BdRate(*names, None, None, f"{one[0].codec} is a point, no curve")
    low = max(psnr_of(curve[0]), psnr_of(anchor[0]))
    high = min(psnr_of(curve[-1]), psnr_of(anchor[-1]))
    if high - low < _LEAST_OVERLAP_DB:
        ranges = f"{_range_of(curve)} against {_range_of(anchor)}"
        reason = f"less than {_LEAST_OVERLAP_DB} dB in common: {ranges}"
        return BdRate(*names, None, None, reason)
    percent = bjontegaard.bd_rate(
        [found.bpp for found in anchor],
        [psnr_of(found) for found in anchor],
        [found.bpp for found in curve],
        [psnr_of(found) for found in curve],
        method="akima",
        require_matching_points=False,
        min_overlap=0,
    )
    return BdRate(*names, round(float(percent), 2), (low, high), None)


def _range_of(curve: Sequence[Point]) -> str:
    return f"{psnr_of(curve[0]):.1f} to {psnr_of(curve[-1]):.1f} dB"
