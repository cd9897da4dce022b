"""Originals next to what decoding gives back: which to show, and as pictures."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from transforms.images import MAX_PIXEL, NO_LABEL, SIDE
from transforms.quality import ImageQuality, psnr

_BEST, _MEDIAN, _WORST = 3, 3, 6
_SHEET_COLUMNS = 16
_GAP = 4
_GAP_GREY = 225


@dataclass(frozen=True)
class ComparedImages:
    """Images and what decoding gives back, in any order.

    splits: names (n,). labels: int32 (n,), NO_LABEL for none. quality: of each image. originals,
    decoded: uint8 (n, 784).
    """

    splits: np.ndarray
    labels: np.ndarray
    quality: ImageQuality
    originals: np.ndarray
    decoded: np.ndarray


class Choice(NamedTuple):
    """An image to show: its place among those compared, and its caption."""

    row: int
    caption: str


def choose_images(
    splits: np.ndarray, labels: np.ndarray, quality: ImageQuality, characters: Mapping[int, str]
) -> dict[str, list[Choice]]:
    """Which images to show, by a heading: the worst, the median and the best, and each class.

    splits, labels, quality: of the same images, in the same order. Of a class that image is shown
    whose error is the class's median.
    """
    order = np.lexsort((quality.image_ids, splits, quality.squared_errors))
    middle = max(0, (len(order) - _MEDIAN) // 2)
    chosen = {
        "best": order[:_BEST],
        "median": order[middle : middle + _MEDIAN],
        "worst": order[::-1][:_WORST],
    }
    if (labels != NO_LABEL).any():
        chosen["one of each class"] = np.array(_of_each_class(order, splits, labels))
    return {
        heading: [
            Choice(row, _caption(row, splits, labels, quality, characters)) for row in rows.tolist()
        ]
        for heading, rows in chosen.items()
    }


def labels_agree(splits: Iterable[str]) -> bool:
    """Whether a label means the same in all splits: in train and test; of others nobody knows."""
    names = {*splits}
    return len(names) <= 1 or names <= {"train", "test"}


def _of_each_class(order: np.ndarray, splits: np.ndarray, labels: np.ndarray) -> list[int]:
    is_one = labels_agree(splits[labels != NO_LABEL].tolist())
    classes: dict[tuple[str, int], list[int]] = {}
    for row in order.tolist():
        if labels[row] != NO_LABEL:
            split = "" if is_one else str(splits[row])
            classes.setdefault((split, int(labels[row])), []).append(row)
    return [rows[len(rows) // 2] for _, rows in sorted(classes.items())]


def _caption(
    row: int,
    splits: np.ndarray,
    labels: np.ndarray,
    quality: ImageQuality,
    characters: Mapping[int, str],
) -> str:
    decibels = psnr(float(quality.squared_errors[row]), 1)
    measured = "exact" if decibels is None else f"{decibels:.1f} dB"
    label = int(labels[row])
    shown = f"{characters.get(label, str(label))} · " if label != NO_LABEL else ""
    return f"{shown}{measured}\n{splits[row]} {quality.image_ids[row]}"


class Picture(NamedTuple):
    """A picture for a page: a data URL and a caption."""

    url: str
    caption: str


def triptych(original: np.ndarray, decoded: np.ndarray, caption: str) -> Picture:
    """The original, the decoded image and the difference, from top to bottom, ink on white."""
    gap = np.full((1, SIDE), MAX_PIXEL - _GAP_GREY, np.uint8)
    rows = (original, decoded, difference(original, decoded))
    parts = [pixels.reshape(SIDE, SIDE) for pixels in rows]
    content = _png(np.vstack([parts[0], gap, parts[1], gap, parts[2]]))
    return Picture(f"data:image/png;base64,{base64.b64encode(content).decode()}", caption)


def sheet(originals: np.ndarray | None, decoded: np.ndarray) -> bytes:
    """A PNG of reconstructions uint8 (n, 784), ink on white.

    Each is below its original and above the difference, where the originals are given.
    """
    kinds = [decoded]
    if originals is not None:
        kinds = [originals, decoded, difference(originals, decoded)]
    gap = np.full((_GAP, _SHEET_COLUMNS * SIDE), MAX_PIXEL - _GAP_GREY, np.uint8)
    rows: list[np.ndarray] = []
    for start in range(0, len(decoded), _SHEET_COLUMNS):
        rows.extend(_line(pixels[start : start + _SHEET_COLUMNS]) for pixels in kinds)
        rows.append(gap)
    return _png(np.vstack(rows[:-1]), scale=2)


def difference(originals: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """The absolute difference of pixels: uint8, of the shape of both."""
    apart: np.ndarray = np.abs(originals.astype(np.int16) - decoded).astype(np.uint8)
    return apart


def _line(pixels: np.ndarray) -> np.ndarray:
    line = np.zeros((SIDE, _SHEET_COLUMNS * SIDE), np.uint8)
    shown = np.hstack(list(pixels.reshape(-1, SIDE, SIDE)))
    line[:, : shown.shape[1]] = shown
    return line


def _png(ink: np.ndarray, scale: int = 1) -> bytes:
    image = Image.fromarray(MAX_PIXEL - ink)
    if scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def draw_choice(
    chosen: Mapping[str, Sequence[Choice]], originals: np.ndarray, decoded: np.ndarray
) -> dict[str, list[Picture]]:
    """The chosen images as pictures, from the pixels of all images compared."""
    return {
        heading: [triptych(originals[row], decoded[row], caption) for row, caption in rows]
        for heading, rows in chosen.items()
    }
