"""What a report shows of the images themselves: pictures, quality, rate against distortion."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from beam_job.datasets.partition import Images
from beam_job.reports.codecs import image_codecs, measure_codec, rate_and_distortion
from beam_job.reports.pictures import ComparedImages, Picture, choose_images, draw_choice
from beam_job.reports.plots import Curve, rate_distortion_svg
from beam_job.reports.quality import QualityReport, group_quality, report_quality
from transforms.quality import summarize

PLOTTED_CODECS = ("JPEG", "WebP")
"""Quick enough for every run; `evaluate` has them all."""
PLOTTED_IMAGES = 60


@dataclass(frozen=True)
class Preview:
    """Some images of a run. pictures: by heading. plot: SVG, of `plotted` of the images."""

    images: int
    quality: QualityReport
    pictures: dict[str, list[Picture]]
    plot: str
    plotted: int


def make_preview(
    compared: ComparedImages | None, characters: Mapping[int, str], bytes_per_image: float
) -> Preview | None:
    """The preview of these images; None for none. bytes_per_image: of the run's Parquet."""
    if compared is None or not len(compared.labels):
        return None
    chosen = choose_images(compared.splits, compared.labels, compared.quality, characters)
    groups = group_quality(compared.splits, compared.labels, compared.quality)
    plotted = np.arange(0, len(compared.labels), max(1, len(compared.labels) // PLOTTED_IMAGES))
    return Preview(
        len(compared.labels),
        report_quality(groups, characters),
        draw_choice(chosen, compared.originals, compared.decoded),
        rate_distortion_svg(_curves(compared, plotted, bytes_per_image)),
        len(plotted),
    )


def _curves(compared: ComparedImages, rows: np.ndarray, bytes_per_image: float) -> list[Curve]:
    images = Images(
        compared.splits[rows],
        compared.quality.image_ids[rows],
        compared.labels[rows],
        compared.originals[rows],
    )
    curves = [_curve(name, images) for name in PLOTTED_CODECS]
    ours = summarize(compared.quality.take(rows)).psnr
    if ours is not None:
        curves.append(Curve("this run", (bytes_per_image,), (ours,), ours=True))
    return curves


def _curve(name: str, images: Images) -> Curve:
    points = [
        rate_and_distortion(codec, [measure_codec(codec, images)])
        for codec in image_codecs()
        if codec.name == name
    ]
    lossy = [(point.bytes_per_image, point.psnr) for point in points if point.psnr is not None]
    return Curve(name, tuple(rate for rate, _ in lossy), tuple(psnr for _, psnr in lossy))
