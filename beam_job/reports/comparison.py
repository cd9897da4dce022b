"""What a report shows of the images themselves: pictures, quality, rate against distortion."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from beam_job.datasets.partition import Images
from beam_job.reports.codecs import image_codecs, measured, point
from beam_job.reports.pictures import Compared, Picture, picks, pictures_of
from beam_job.reports.plots import Curve, rate_distortion_svg
from beam_job.reports.quality import Group, quality_report
from transforms.images import SIDE
from transforms.quality import quality_summary

PLOTTED_CODECS = ("JPEG", "WebP")
"""Quick enough for every run; `evaluate` has them all."""
PLOTTED_IMAGES = 60


class Shown(NamedTuple):
    """images: how many the quality is of. quality: as in quality.json. pictures: by heading.

    plot: SVG, of `plotted` images.
    """

    images: int
    quality: dict[str, Any]
    pictures: dict[str, list[Picture]]
    plot: str
    plotted: int
    side: int = SIDE


def shown_of(
    compared: Compared | None, characters: Mapping[int, str], bytes_per_image: float
) -> Shown | None:
    """What to show of these images; None for none. bytes_per_image: of the run's Parquet."""
    if compared is None or not len(compared.labels):
        return None
    quality = quality_report(_groups(compared), characters)
    chosen = picks(compared.splits, compared.labels, compared.quality, characters)
    plotted = np.arange(0, len(compared.labels), max(1, len(compared.labels) // PLOTTED_IMAGES))
    return Shown(
        len(compared.labels),
        quality,
        pictures_of(chosen, compared.originals, compared.decoded),
        rate_distortion_svg(_curves(compared, plotted, bytes_per_image)),
        len(plotted),
    )


def _groups(compared: Compared) -> dict[Group, Any]:
    keys = sorted(set(zip(compared.splits.tolist(), compared.labels.tolist(), strict=True)))
    return {
        Group(split, label): compared.quality.take(
            (compared.splits == split) & (compared.labels == label)
        )
        for split, label in keys
    }


def _curves(compared: Compared, rows: np.ndarray, bytes_per_image: float) -> list[Curve]:
    images = Images(
        compared.splits[rows],
        compared.quality.image_ids[rows],
        compared.labels[rows],
        compared.originals[rows],
    )
    curves = [_curve(name, images) for name in PLOTTED_CODECS]
    ours = quality_summary(compared.quality.take(rows))["psnr"]
    if ours is not None:
        curves.append(Curve("this run", (bytes_per_image,), (ours,), ours=True))
    return curves


def _curve(name: str, images: Images) -> Curve:
    points = [
        point(codec, [measured(codec, images)]) for codec in image_codecs() if codec.name == name
    ]
    lossy = [(point.bytes_per_image, point.psnr) for point in points if point.psnr is not None]
    return Curve(name, tuple(rate for rate, _ in lossy), tuple(psnr for _, psnr in lossy))
