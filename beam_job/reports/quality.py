"""The quality of a whole run by split, group and class: quality.json, and its tables."""

import math
import string
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from beam_job.reports.pictures import labels_agree
from transforms.images import NO_LABEL
from transforms.quality import ImageQuality, QualitySummary, join_qualities, psnr, summarize

WORST_IMAGES = 20
GROUPS = {
    "digits": string.digits,
    "capitals": string.ascii_uppercase,
    "lower case": string.ascii_lowercase,
}
"""Characters by the name of their group."""


class Group(NamedTuple):
    """What images are measured together by: their split and label (NO_LABEL for none)."""

    split: str
    label: int


class WorstImage(msgspec.Struct, frozen=True):
    """An image of a high error. psnr: in dB. character: None where it is not known."""

    split: str
    image_id: int
    character: str | None
    psnr: float | None
    ssim: float


class QualityReport(msgspec.Struct, frozen=True, kw_only=True):
    """The quality of images, in total and in parts.

    groups: digits, capitals and lower case, as far as the characters are known. classes: by
    character; by split and character where a label may mean something else in another split.
    """

    splits: dict[str, QualitySummary]
    groups: dict[str, QualitySummary]
    classes: dict[str, QualitySummary]
    total: QualitySummary
    worst: list[WorstImage]


class Originals(msgspec.Struct, frozen=True):
    """What decoded images were compared with.

    same_files: whether the run was made of these images; None where it does not say.
    """

    name: str
    same_files: bool | None


class ReconstructionQuality(QualityReport, frozen=True, kw_only=True):
    """quality.json of a reconstruction. run: its folder. model: its name."""

    run: str
    model: str
    originals: Originals


def group_quality(
    splits: np.ndarray, labels: np.ndarray, quality: ImageQuality
) -> dict[Group, ImageQuality]:
    """The quality of images (n,) by the split and the label that each of them has."""
    keys = sorted(set(zip(splits.tolist(), labels.tolist(), strict=True)))
    return {
        Group(split, label): quality.take((splits == split) & (labels == label))
        for split, label in keys
    }


def report_quality(
    parts: Mapping[Group, ImageQuality], characters: Mapping[int, str]
) -> QualityReport:
    """The quality of all parts. characters: what a label stands for, where known."""
    keys = sorted(parts, key=lambda key: (key.label, _split_order(key.split)))
    labelled = [key for key in keys if key.label != NO_LABEL]
    agree = labels_agree(key.split for key in labelled)
    classes: dict[str, list[Group]] = {}
    for key in labelled:
        name = characters.get(key.label, str(key.label))
        classes.setdefault(name if agree else f"{key.split} {name}", []).append(key)
    groups = {
        name: [key for key in labelled if characters.get(key.label, "none") in members]
        for name, members in GROUPS.items()
    }
    splits = {
        split: [key for key in keys if key.split == split]
        for split in sorted({key.split for key in keys}, key=_split_order)
    }

    def summary(of: Iterable[Group]) -> QualitySummary:
        return summarize(join_qualities(parts[key] for key in of))

    return QualityReport(
        splits={name: summary(of) for name, of in splits.items()},
        groups={name: summary(of) for name, of in groups.items() if of},
        classes={name: summary(of) for name, of in classes.items()},
        total=summary(keys),
        worst=_worst_images(parts, characters),
    )


def _split_order(split: str) -> tuple[int, str]:
    return {"train": 0, "test": 1}.get(split, 2), split


def _worst_images(
    parts: Mapping[Group, ImageQuality], characters: Mapping[int, str]
) -> list[WorstImage]:
    found = sorted(
        (-error, key.split, image_id, key.label, ssim)
        for key, quality in parts.items()
        for image_id, error, ssim in _highest_errors(quality)
    )
    return [
        WorstImage(split, image_id, characters.get(label), _psnr_of_one(-error), round(ssim, 4))
        for error, split, image_id, label, ssim in found[:WORST_IMAGES]
    ]


def _highest_errors(quality: ImageQuality) -> list[tuple[int, int, float]]:
    top = quality.take(np.argsort(-quality.squared_errors, kind="stable")[:WORST_IMAGES])
    return list(
        zip(top.image_ids.tolist(), top.squared_errors.tolist(), top.ssims.tolist(), strict=True)
    )


def _psnr_of_one(error: int) -> float | None:
    decibels = psnr(error, 1)
    return None if decibels is None else round(decibels, 2)


def quality_rows(report: QualityReport) -> list[list[str]]:
    """The quality of each split and group and in total as cells of text, a header first."""
    groups = report.groups if len(report.groups) > 1 else {}
    parts = {**report.splits, **groups}
    if len(parts) > 1:
        parts["total"] = report.total
    return [
        ["", "images", "PSNR", "SSIM", "1% worst below", "median", "1% best above"],
        *(
            [
                *_cells(name, summary),
                *(in_decibels(summary.psnr_percentiles[percent]) for percent in (1, 50, 99)),
            ]
            for name, summary in parts.items()
        ),
    ]


def class_rows(classes: Mapping[str, QualitySummary]) -> list[list[str]]:
    """The quality of each class as cells of text, a header first; the worst class comes first."""
    ordered = worst_first(classes)
    return [
        ["class", "images", "PSNR", "SSIM"],
        *(_cells(name, classes[name]) for name in ordered),
    ]


def worst_rows(worst: Iterable[WorstImage]) -> list[list[str]]:
    """The worst images as cells of text, a header first."""
    return [
        ["image", "character", "PSNR", "SSIM"],
        *(
            [
                f"{image.split} {image.image_id}",
                image.character or "",
                in_decibels(image.psnr),
                f"{image.ssim:.4f}",
            ]
            for image in worst
        ),
    ]


def worst_first(classes: Mapping[str, QualitySummary]) -> list[str]:
    """The names of classes by their PSNR; what has no error comes last."""

    def order(name: str) -> float:
        found = classes[name].psnr
        return math.inf if found is None else found

    return sorted(classes, key=order)


def _cells(name: str, summary: QualitySummary) -> list[str]:
    return [name, f"{summary.images:,}", in_decibels(summary.psnr), f"{summary.ssim:.4f}"]


def in_decibels(value: float | None) -> str:
    """A PSNR as text."""
    return "exact" if value is None else f"{value:.2f} dB"
