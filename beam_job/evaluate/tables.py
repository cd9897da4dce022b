"""The tables of an evaluation, as cells of text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from beam_job.evaluate.classifiers import Classification
from beam_job.evaluate.comparisons import BdRate, BreakEven, Comparison
from beam_job.evaluate.evaluation import Evaluation, LatentEntropy
from beam_job.reports.codecs import Point
from beam_job.reports.quality import QualityReport, worst_first
from transforms.quality import QualitySummary

_STORED = ("float32", "8 bits", "5 bits")
"""Which ways to store latents have a column in the tables of quality."""
_UNKNOWN = "-"


class Table(NamedTuple):
    """Cells of text. text_columns: how many columns, from the left, hold words."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]
    text_columns: int = 1


def tables(evaluation: Evaluation) -> list[Table]:
    """All tables, the most important first; none without rows."""
    found = [
        group_table(evaluation.quality),
        bytes_table(evaluation.comparisons),
        psnr_table(evaluation.comparisons),
        *(classifier_table(name, found) for name, found in evaluation.classifiers.items()),
        entropy_table(evaluation.entropy),
        class_table(evaluation.quality),
        point_table(evaluation.points),
        break_even_table(evaluation.break_even),
        bd_rate_table(evaluation.bd_rates),
    ]
    return [table for table in found if table.rows]


def group_table(quality: Mapping[str, QualityReport]) -> Table:
    """The quality in total, and of each group and split."""
    return _quality_table(
        "Quality of the latents",
        "PSNR in dB by how the latents are stored, and SSIM of float32. PSNR is of the mean "
        "squared error of all images together.",
        {stored: _groups(quality[stored]) for stored in _STORED if stored in quality},
    )


def _groups(report: QualityReport) -> dict[str, QualitySummary]:
    splits = report.splits if len(report.splits) > 1 else {}
    return {"total": report.total, **report.groups, **splits}


def class_table(quality: Mapping[str, QualityReport]) -> Table:
    """The quality of each class, the worst first."""
    by_stored = {stored: quality[stored].classes for stored in _STORED if stored in quality}
    order = worst_first(next(iter(by_stored.values()), {}))
    ordered = {
        stored: {name: classes[name] for name in order} for stored, classes in by_stored.items()
    }
    return _quality_table("Quality by class, the worst first", "", ordered)


def _quality_table(
    title: str, note: str, by_stored: Mapping[str, Mapping[str, QualitySummary]]
) -> Table:
    """A row for each part of the images. by_stored: the parts by how the latents are stored."""
    first = next(iter(by_stored.values()), {})
    rows = [
        [
            name,
            f"{summary.images:,}",
            *(_decibels(parts[name].psnr) for parts in by_stored.values()),
            f"{summary.ssim:.4f}",
        ]
        for name, summary in first.items()
    ]
    return Table(title, note, ["", "images", *by_stored, "SSIM"], rows)


def _decibels(psnr: float | None) -> str:
    return "lossless" if psnr is None else f"{psnr:.2f}"


def entropy_table(entropy: Iterable[LatentEntropy]) -> Table:
    """How close the Parquet files are to the entropy of the latents."""
    return Table(
        "Entropy of the latents",
        "In bits an image: the entropy of each dimension on its own, summed over the dimensions, "
        "and what the latents take in the Parquet file.",
        ["latents", "entropy", "in Parquet", "a dimension: least", "most"],
        [
            [
                f"{found.bits} bits",
                f"{found.bits_per_image:.1f}",
                f"{found.stored_bits_per_image:.1f}",
                f"{min(found.bits_per_dimension):.2f}",
                f"{max(found.bits_per_dimension):.2f}",
            ]
            for found in entropy
        ],
    )


def point_table(points: Iterable[Point]) -> Table:
    """Every codec at every setting."""
    header = ["codec", "setting", "bytes an image", "of them overhead", "bits a pixel"]
    return Table(
        "Every codec, every setting",
        f"Overhead: bytes that carry no pixels; {_UNKNOWN} where they cannot be told apart. "
        "Latents and PCA are in Parquet with image_id, label and character, which count as "
        "overhead, as does the file's footer; the more images are in a file, the less it matters.",
        [*header, "PSNR in dB", "SSIM"],
        [_point_cells(point) for point in points],
        2,
    )


def _point_cells(point: Point) -> list[str]:
    overhead = point.overhead_bytes
    return [
        point.codec,
        point.setting,
        f"{point.bytes_per_image:.1f}",
        _UNKNOWN if overhead is None else f"{overhead / point.images:.1f}",
        f"{point.bpp:.3f}",
        _decibels(point.psnr),
        f"{point.ssim:.4f}",
    ]


def bytes_table(comparisons: Sequence[Comparison]) -> Table:
    """What other codecs need to be as good as our latents."""
    return _comparison_table(
        "Bytes an image at the PSNR of the latents",
        "Interpolated between a codec's settings. In brackets, where the latents are below all of "
        "them: its fewest bytes, and their PSNR.",
        comparisons,
        _bytes_needed,
    )


def _bytes_needed(row: Comparison) -> str:
    if row.their_bytes_per_image is not None:
        return f"{row.their_bytes_per_image:.1f}"
    return _fewest(row) if row.psnr < row.fewest.psnr else "not reached"


def psnr_table(comparisons: Sequence[Comparison]) -> Table:
    """How good other codecs are in the bytes of our latents."""
    return _comparison_table(
        "PSNR in dB at the bytes of the latents",
        "Interpolated between a codec's settings. In brackets, where even its fewest bytes are "
        "more: these, and their PSNR. At least, where even its most bytes are fewer.",
        comparisons,
        _psnr_reached,
    )


def _psnr_reached(row: Comparison) -> str:
    if row.their_psnr is not None:
        return f"{row.their_psnr:.2f}"
    is_below = row.bytes_per_image < row.fewest.bytes_per_image
    return _fewest(row) if is_below else f"at least {row.most.psnr:.2f}"


def _fewest(row: Comparison) -> str:
    return f"({row.fewest.bytes_per_image:.1f} at {row.fewest.psnr:.1f} dB)"


def _comparison_table(
    title: str, note: str, comparisons: Sequence[Comparison], cell: Callable[[Comparison], str]
) -> Table:
    """A row for each of our points, a column for each of the other codecs."""
    rows: dict[str, list[str]] = {}
    for row in comparisons:
        ours = [row.latents, f"{row.bytes_per_image:.1f}", f"{row.psnr:.2f}"]
        rows.setdefault(row.latents, ours).append(cell(row))
    codecs = dict.fromkeys(row.codec for row in comparisons)
    header = ["latents", "bytes an image", "PSNR in dB", *codecs]
    return Table(title, note, header, list(rows.values()))


def break_even_table(found: Sequence[BreakEven]) -> Table:
    """The number of images that make up for the model's own bytes."""
    cells = {(row.latents, row.codec): row for row in found}
    ours = list(dict.fromkeys(row.latents for row in found))
    return Table(
        "The number of images from which latents and model together are smaller",
        "Against lossless codecs, and against the others at equal PSNR, or at their fewest bytes, "
        "where even these are better.",
        ["against", *ours],
        [
            [codec, *(_images(cells.get((our, codec))) for our in ours)]
            for codec in dict.fromkeys(row.codec for row in found)
        ],
    )


def _images(row: BreakEven | None) -> str:
    if row is None:
        return _UNKNOWN
    return "never" if row.images is None else f"{row.images:,}"


def bd_rate_table(rates: Iterable[BdRate]) -> Table:
    """The Bjontegaard rates."""
    return Table(
        "BD-rate",
        "The bytes of a codec compared with those of an anchor at equal PSNR, over the range that "
        "both reach; less than 0 % is fewer.",
        ["codec", "anchor", "bytes", "over"],
        [[row.codec, row.anchor, *_bd_cells(row)] for row in rates],
        2,
    )


def _bd_cells(row: BdRate) -> tuple[str, str]:
    if row.percent is None or row.overlap_db is None:
        return _UNKNOWN, str(row.reason)
    low, high = row.overlap_db
    return f"{row.percent:+.1f} %", f"{low:.1f} to {high:.1f} dB"


def classifier_table(split: str, found: Classification) -> Table:
    """How well a linear classifier finds the labels of a split."""
    return Table(
        f"A linear classifier on {split}",
        f"Logistic regression to {found.classes} classes, fitted to {found.fitted_images:,} "
        f"images and tested on {found.measured_images:,} held out.",
        ["features", "dimensions", "accuracy", "converged"],
        [
            [
                row.features,
                str(row.dimensions),
                f"{row.accuracy:.2%}",
                "yes" if row.converged else f"no, stopped after {row.steps} steps",
            ]
            for row in found.classifiers
        ],
    )
