"""What the card of a model says, and the files that it describes."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any
from zipfile import ZipFile

import keras
import msgspec
import numpy as np

from beam_job.datasets.partition import TrainingData
from beam_job.reports.sizes import columns_of_text
from transforms.images import PIXELS
from transforms.models.arrays import decoded_pixels, latents_of
from transforms.models.directory import ModelCard
from transforms.models.network import Compute
from transforms.quality import ImageQuality, image_quality, summarize
from transforms.quantize import Quantization
from transforms.storage.files import (
    temporary_folder,
)

INT8_ENCODER = "float32 by the int8 encoder"
"""What the card calls the quality of float32 latents that the encoder gave in int8."""

# Keras 3.15 writes them, at their defaults, and 3.12 to 3.14 refuse a file that has them.
_NEW_IN_KERAS = {"input_axes", "output_axes", "quantization_config"}


def keras_bytes(network: keras.Model) -> bytes:
    """The `.keras` file of a network, without what only the newest Keras can read."""
    content = io.BytesIO()
    with temporary_folder() as folder:
        path = folder / "model.keras"
        network.save(path)
        with ZipFile(path) as saved, ZipFile(content, "w") as portable:
            for name in saved.namelist():
                part = saved.read(name)
                if name == "config.json":
                    part = json.dumps(_portable(json.loads(part))).encode()
                portable.writestr(name, part)
    return content.getvalue()


def _portable(config: Any) -> Any:
    if isinstance(config, list):
        return [_portable(part) for part in config]
    if isinstance(config, dict):
        return {name: _portable(part) for name, part in config.items() if name not in _NEW_IN_KERAS}
    return config


def quality(
    pixels: np.ndarray,
    encode: Compute,
    decode: Compute,
    quantizations: Mapping[int, Quantization],
) -> dict[str, Any]:
    """What images that were never trained on lose, by how their latents are stored."""
    latents = latents_of(encode, pixels)
    stored = {
        "float32": latents,
        "float16": latents.astype(np.float16).astype(np.float32),
        **{
            f"int8, {bits} bits": quantization.dequantize(quantization.quantize(latents))
            for bits, quantization in sorted(quantizations.items(), reverse=True)
        },
    }
    return {
        name: _summary(pixels, decoded_pixels(decode, values)) for name, values in stored.items()
    }


def int8_encoder_quality(
    pixels: np.ndarray, encode: Compute | None, decode: Compute
) -> dict[str, Any]:
    """The same of the int8 encoder, whose latents are stored as they are."""
    if encode is None:
        return {}
    decoded = decoded_pixels(decode, latents_of(encode, pixels))
    return {INT8_ENCODER: _summary(pixels, decoded)}


def _summary(pixels: np.ndarray, decoded: np.ndarray) -> dict[str, Any]:
    quality = summarize(image_quality(np.arange(len(pixels)), pixels, decoded))
    as_json: dict[str, Any] = msgspec.to_builtins(quality, str_keys=True)
    return as_json


def class_quality(quality: ImageQuality, classes: Sequence[str]) -> dict[str, Any]:
    """Images, PSNR in dB and SSIM of each class. classes: the class of each image, or none."""
    names = np.array(classes)
    summaries = {str(name): summarize(quality.take(names == name)) for name in np.unique(names)}
    return {
        name: {"images": summary.images, "psnr": summary.psnr, "ssim": summary.ssim}
        for name, summary in summaries.items()
    }


def latent_facts(encode: Compute, data: TrainingData) -> dict[str, Any]:
    """What is dead in the latent, and what its values are like, over all held-out images."""
    held_out = np.concatenate([pixels.reshape(-1, PIXELS) for pixels in data.held_out.values()])
    latents = latents_of(encode, held_out)
    return {
        "dead": np.flatnonzero((latents <= 0).all(axis=0)).tolist(),
        "active": [round(float(share), 4) for share in (latents > 0).mean(axis=0)],
        "mean": [round(float(mean), 4) for mean in latents.mean(axis=0)],
        "standard_deviation": [round(float(deviation), 4) for deviation in latents.std(axis=0)],
    }


def card_table(card: ModelCard) -> list[str]:
    """The quality of a model as a table of plain text: PSNR in dB and SSIM of held-out images."""
    names = list(card.quality)
    lines = [["held-out images", *(f"{name}" for name in names)]]
    for stored in card.quality[names[0]]:
        cells = [card.quality[name][stored] for name in names]
        lines.append([stored, *(f"{cell['psnr']:.2f} dB, {cell['ssim']:.3f}" for cell in cells)])
    dead = str(len(card.latent["dead"]))
    lines.append(["dead units", *(dead for _ in names)])
    return columns_of_text(lines)
