"""How good reconstructions are: squared error, PSNR and SSIM, on pixels of 8 bits."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import apache_beam as beam
import msgspec
import numpy as np

from transforms.images import MAX_PIXEL, PIXELS, SIDE

_CALL_IMAGES = 1024
_SSIM_WINDOW, _SSIM_SIGMA, _SSIM_K1, _SSIM_K2 = 11, 1.5, 0.01, 0.03
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


@dataclass(frozen=True)
class ImageQuality:
    """The quality of images one by one, in any order.

    image_ids: int64 (n,). squared_errors: int64 (n,), summed over the 784 pixels, in grey levels
    squared. ssims: float64 (n,), 1 for what is the same.
    """

    image_ids: np.ndarray
    squared_errors: np.ndarray
    ssims: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "ImageQuality":
        """Some of the images, by position or mask."""
        return ImageQuality(self.image_ids[rows], self.squared_errors[rows], self.ssims[rows])


def image_quality(
    image_ids: np.ndarray, originals: np.ndarray, decoded: np.ndarray
) -> ImageQuality:
    """Compares images uint8 (n, 784) with what came back, uint8 (n, 784).

    SSIM is that of Wang et al. 2004 (doi:10.1109/TIP.2003.819861), as TensorFlow has it.
    """
    parts = [
        _errors_and_ssims(
            originals[start : start + _CALL_IMAGES], decoded[start : start + _CALL_IMAGES]
        )
        for start in range(0, max(1, len(originals)), _CALL_IMAGES)
    ]
    errors, ssims = (np.concatenate(values) for values in zip(*parts, strict=True))
    return ImageQuality(image_ids, errors, ssims)


def _errors_and_ssims(originals: np.ndarray, decoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    difference = originals.astype(np.int64) - decoded
    return np.square(difference).sum(axis=1), _ssims(originals, decoded)


def _ssims(originals: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """The SSIM of each pair; the mean over all places where the whole window is on the image.

    In NumPy: TensorFlow has it, but takes 4 s to import, and a run's report needs nothing else of
    it.
    """
    x, y = (pixels.reshape(-1, SIDE, SIDE).astype(np.float64) for pixels in (originals, decoded))
    mean_x, mean_y = _windowed(x), _windowed(y)
    variances = _windowed(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (_SSIM_K1 * MAX_PIXEL) ** 2, (_SSIM_K2 * MAX_PIXEL) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    ssims: np.ndarray = (luminance * structure).mean(axis=(1, 2))
    return ssims


def _windowed(images: np.ndarray) -> np.ndarray:
    """Weighted means over the window at each of its places: (n, 28, 28) to (n, 18, 18)."""
    window = _window()
    means: np.ndarray = window @ images @ window.T
    return means


@cache
def _window() -> np.ndarray:
    """The weights of a row's pixels at each place of the window: (18, 28)."""
    distances = np.arange(_SSIM_WINDOW) - _SSIM_WINDOW // 2
    weights = np.exp(-(distances**2) / (2 * _SSIM_SIGMA**2))
    weights /= weights.sum()
    places = SIDE - _SSIM_WINDOW + 1
    return np.stack([np.pad(weights, (place, places - 1 - place)) for place in range(places)])


def join_qualities(parts: Iterable[ImageQuality]) -> ImageQuality:
    """All images of the parts, ordered by image_id; none for no parts."""
    none = ImageQuality(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    all_parts = [none, *parts]
    together = ImageQuality(
        *(
            np.concatenate([getattr(part, name) for part in all_parts])
            for name in ("image_ids", "squared_errors", "ssims")
        )
    )
    return together.take(np.argsort(together.image_ids, kind="stable"))


class Quality(beam.CombineFn):
    """Joins ImageQuality; the result does not depend on the order of the parts.

    Every image is kept (24 bytes each), which percentiles and the worst images need: 20 MB for
    all of EMNIST.
    """

    def create_accumulator(self) -> list[ImageQuality]:
        return []

    def add_input(
        self, mutable_accumulator: list[ImageQuality], element: ImageQuality
    ) -> list[ImageQuality]:
        mutable_accumulator.append(element)
        return mutable_accumulator

    def merge_accumulators(self, accumulators: Iterable[list[ImageQuality]]) -> list[ImageQuality]:
        return [part for accumulator in accumulators for part in accumulator]

    def compact(self, accumulator: list[ImageQuality]) -> list[ImageQuality]:
        return [join_qualities(accumulator)]

    def extract_output(self, accumulator: list[ImageQuality]) -> ImageQuality:
        return join_qualities(accumulator)


def psnr(squared_error: float, images: int) -> float | None:
    """PSNR in dB of `images` images whose squared errors sum to this; None for no error."""
    if squared_error == 0:
        return None
    return 10 * math.log10(MAX_PIXEL**2 * images * PIXELS / squared_error)


class QualitySummary(msgspec.Struct, frozen=True, kw_only=True):
    """The quality of some images together.

    mse: in grey levels squared. psnr: in dB, of that MSE; None where there is no error, or no
    image. The percentiles are of single images, by percent; they are empty for no image.
    """

    images: int
    mse: float | None
    psnr: float | None
    ssim: float | None
    psnr_percentiles: dict[int, float | None]
    ssim_percentiles: dict[int, float]


def summarize(quality: ImageQuality) -> QualitySummary:
    """MSE, PSNR and SSIM of all images together, and their percentiles."""
    images, error = len(quality), int(quality.squared_errors.sum())
    if not images:
        return QualitySummary(
            images=0, mse=None, psnr=None, ssim=None, psnr_percentiles={}, ssim_percentiles={}
        )
    # The higher the error the lower the PSNR, so its percentiles count from the other end.
    errors = np.percentile(
        quality.squared_errors, [100 - percent for percent in PERCENTILES], method="nearest"
    )
    ssims = np.percentile(quality.ssims, PERCENTILES, method="nearest").round(4)
    return QualitySummary(
        images=images,
        mse=error / (images * PIXELS),
        psnr=_rounded(psnr(error, images)),
        ssim=_rounded(float(quality.ssims.mean())),
        psnr_percentiles={
            percent: _rounded(psnr(float(error), 1))
            for percent, error in zip(PERCENTILES, errors, strict=True)
        },
        ssim_percentiles=dict(zip(PERCENTILES, ssims.tolist(), strict=True)),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
