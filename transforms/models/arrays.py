"""Whole arrays through a network, a batch at a time: images to latents, and latents to images."""

import numpy as np

from transforms.errors import RunError
from transforms.images import MAX_PIXEL, PIXELS, SIDE
from transforms.models.network import Compute

_CALL_IMAGES = 1024


def normalize(pixels: np.ndarray) -> np.ndarray:
    """Pixels from 0..255 to [0, 1]: uint8 of any shape to float32 of the same shape."""
    normalized = pixels.astype(np.float32)
    normalized /= np.float32(255)  # In place: one copy of the batch, not two.
    return normalized


def latents_of(encode: Compute, pixels: np.ndarray) -> np.ndarray:
    """Images uint8 (n, 784), any number of them, to float32 latents (n, latent_size)."""
    images = pixels.reshape(-1, SIDE, SIDE, 1)
    return np.concatenate(
        [
            encode(normalize(images[start : start + _CALL_IMAGES]))
            for start in range(0, len(images), _CALL_IMAGES)
        ]
    )


def decoded_pixels(decode: Compute, latents: np.ndarray) -> np.ndarray:
    """float32 latents (n, latent_size) to images uint8 (n, 784), rounded.

    Raises RunError where the decoder gives what is no number.
    """
    if not len(latents):
        return np.zeros((0, PIXELS), np.uint8)
    images = np.concatenate(
        [
            decode(latents[start : start + _CALL_IMAGES])
            for start in range(0, len(latents), _CALL_IMAGES)
        ]
    ).reshape(-1, PIXELS)
    if not np.isfinite(images).all():
        raise RunError("the decoder gave pixels that are not finite: give another --model")
    pixels: np.ndarray = np.rint(np.clip(images, 0, 1) * MAX_PIXEL).astype(np.uint8)
    return pixels
