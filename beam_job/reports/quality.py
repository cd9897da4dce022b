"""The quality of a whole run, by split and by class: what quality.json holds, and its table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from beam_job.reports.pictures import labels_agree
from transforms.images import NO_LABEL
from transforms.quality import ImageQuality, joined, psnr, quality_summary

WORST_IMAGES = 20


class Group(NamedTuple):
    """What images are measured together by: their split and label (NO_LABEL for none)."""

    split: str
    label: int


def quality_report(
    groups: Mapping[Group, ImageQuality], characters: Mapping[int, str]
) -> dict[str, Any]:
    """MSE, PSNR, SSIM by split and class and in total, and the worst images by name."""
    splits = sorted({group.split for group in groups}, key=_split_order)
    classes: dict[str, list[Group]] = {}
    labelled = [group for group in groups if group.label != NO_LABEL]
    agree = labels_agree(group.split for group in labelled)
    for group in sorted(labelled, key=lambda group: (group.label, _split_order(group.split))):
        name = characters.get(group.label, str(group.label))
        classes.setdefault(name if agree else f"{group.split} {name}", []).append(group)
    everything = joined(groups.values())
    return {
        "splits": {
            split: quality_summary(
                joined(quality for group, quality in groups.items() if group.split == split)
            )
            for split in splits
        },
        "classes": {
            name: quality_summary(joined(groups[group] for group in alike))
            for name, alike in classes.items()
        },
        "total": quality_summary(everything),
        "worst": _worst(groups, characters),
    }


def _split_order(split: str) -> tuple[int, str]:
    return {"train": 0, "test": 1}.get(split, 2), split


def _worst(
    groups: Mapping[Group, ImageQuality], characters: Mapping[int, str]
) -> list[dict[str, Any]]:
    named = [
        (-int(error), group.split, int(image_id), group.label, float(ssim))
        for group, quality in groups.items()
        for image_id, error, ssim in _highest(quality)
    ]
    return [
        {
            "split": split,
            "image_id": image_id,
            "character": characters.get(label),
            "psnr": _two_places(psnr(-error, 1)),
            "ssim": round(ssim, 4),
        }
        for error, split, image_id, label, ssim in sorted(named)[:WORST_IMAGES]
    ]


def _highest(quality: ImageQuality) -> list[tuple[int, int, float]]:
    rows = np.argsort(-quality.squared_errors, kind="stable")[:WORST_IMAGES]
    top = quality.take(rows)
    return list(
        zip(top.image_ids.tolist(), top.squared_errors.tolist(), top.ssims.tolist(), strict=True)
    )


def _two_places(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def quality_lines(report: Mapping[str, Any]) -> list[list[str]]:
    """The quality of each split and in total as cells of text, a header first."""
    header = ["", "images", "PSNR", "SSIM", "1% worst below", "median", "1% best above"]
    parts = dict(report["splits"])
    if len(parts) > 1:
        parts["total"] = report["total"]
    lines = [header]
    for name, summary in parts.items():
        percentiles = summary["psnr_percentiles"]
        lines.append(
            [
                name,
                f"{summary['images']:,}",
                decibels(summary["psnr"]),
                f"{summary['ssim']:.4f}",
                *(decibels(percentiles[percent]) for percent in ("1", "50", "99")),
            ]
        )
    return lines


def class_lines(report: Mapping[str, Any]) -> list[list[str]]:
    """The quality of each class as cells of text, a header first; the worst class comes first."""
    classes = sorted(
        report["classes"].items(), key=lambda named: (named[1]["psnr"] is None, named[1]["psnr"])
    )
    return [
        ["class", "images", "PSNR", "SSIM"],
        *(
            [name, f"{summary['images']:,}", decibels(summary["psnr"]), f"{summary['ssim']:.4f}"]
            for name, summary in classes
        ),
    ]


def decibels(value: float | None) -> str:
    """A PSNR as text."""
    return "exact" if value is None else f"{value:.2f} dB"
