"""What comes back of some of a run's images, for its report."""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from beam_job.pictures import Compared
from transforms.decode import decoded_pixels, values_of
from transforms.engines.choice import load_decoder
from transforms.errors import RunError
from transforms.images import ImageBatch
from transforms.latents import LatentBatch
from transforms.model_directory import Model
from transforms.quality import image_quality
from transforms.quantize import Quantization


def one_in(image_ids: np.ndarray, every: int) -> np.ndarray:
    """Which of these images are in a sample of about one in `every`: bool (n,).

    By Knuth's multiplicative hash, so that neither gaps nor patterns in image_ids matter.
    """
    hashed = image_ids.astype(np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
    return hashed * np.uint64(every) < np.uint64(2**32)


class Sample(NamedTuple):
    """Some of a run's images, pixels uint8 (n, 784), and their latents as stored; in any order."""

    images: Sequence[ImageBatch]
    latents: Sequence[LatentBatch]


def decoded_sample(
    sample: Sample, model: Model, engine: str | None, quantization: Quantization | None
) -> Compared | None:
    """What comes back of a sample; None without a decoder, or for no images.

    engine: what decodes it, as load_decoder has it.
    Raises RunError where images and latents are not of the same images.
    """
    images, latents = sample
    if model.decoder is None or not images:
        return None
    originals, stored = _by_image(images), _by_image(latents)
    image_ids = _joined(originals, "image_ids")
    if not np.array_equal(image_ids, _joined(stored, "image_ids")):
        raise RunError(
            "the images and the latents of the report's sample differ: run it again, and report "
            "it if it happens again"
        )
    decode = load_decoder(model, engine).compute
    values = values_of(_joined(stored, "latents"), quantization)
    decoded, pixels = decoded_pixels(decode, values), _joined(originals, "pixels")
    return Compared(
        np.concatenate([np.full(len(batch), batch.shard.split) for batch in originals]),
        _joined(originals, "labels"),
        image_quality(image_ids, pixels, decoded),
        pixels,
        decoded,
    )


_first_image = attrgetter("shard.split", "shard.number")


def _by_image(batches: Sequence[ImageBatch] | Sequence[LatentBatch]) -> list:
    return sorted(batches, key=lambda batch: (*_first_image(batch), int(batch.image_ids[0])))


def _joined(batches: Sequence[ImageBatch] | Sequence[LatentBatch], name: str) -> np.ndarray:
    return np.concatenate([getattr(batch, name) for batch in batches])
