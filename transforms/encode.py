"""The encoder in the pipeline: Beam's RunInference over whole batches."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics.metric import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.pvalue import PCollection

from transforms.autoencoder import load_encoder
from transforms.errors import RunError
from transforms.images import SIDE, ImageBatch
from transforms.latents import LatentBatch
from transforms.model_directory import find_model
from transforms.preprocess import normalize

EncodeFn = Callable[[np.ndarray], np.ndarray]
"""float32 images (n, 28, 28, 1) in [0, 1] to float32 latents (n, latent_size)."""

_CALL_IMAGES = 1024


def encode_function(encoder: Any) -> EncodeFn:
    """What runs a Keras encoder on any number of images, traced once."""
    import tensorflow as tf

    # One trace for every batch length, so that a short last batch costs no second one.
    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 1), tf.float32)])  # type: ignore[untyped-decorator]
    def encode(images: Any) -> Any:
        return encoder(images, training=False)

    return lambda images: encode(images).numpy()


def latents_of(encode: EncodeFn, pixels: np.ndarray) -> np.ndarray:
    """Images uint8 (n, 784), any number of them, to float32 latents (n, latent_size)."""
    images = pixels.reshape(-1, SIDE, SIDE, 1)
    return np.concatenate(
        [
            encode(normalize(images[start : start + _CALL_IMAGES]))
            for start in range(0, len(images), _CALL_IMAGES)
        ]
    )


class KerasEncoderHandler(ModelHandler[ImageBatch, LatentBatch, EncodeFn]):
    """Loads a Keras encoder once a process and runs it on a whole ImageBatch at a time.

    model: a model directory or a `.keras` file, on any of Beam's file systems; None for the model
    that comes with the package. sha256: what the encoder's file has to have, where it is known.
    """

    def __init__(self, model: str | None = None, sha256: str | None = None) -> None:
        super().__init__()
        self._model = model
        self._sha256 = sha256

    def load_model(self) -> EncodeFn:
        model = find_model(self._model)
        if self._sha256 is not None:
            model = replace(model, encoder_sha256=self._sha256)
        return encode_function(load_encoder(model))

    def run_inference(  # type: ignore[override]  # The element is the batch.
        self,
        batch: ImageBatch,
        model: EncodeFn,
        inference_args: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> Sequence[LatentBatch]:
        return [
            LatentBatch(
                batch.shard, batch.rows, batch.image_ids, batch.labels, _encode(batch, model)
            )
        ]

    def should_skip_batching(self) -> bool:
        """An element is a batch already."""
        return True

    def get_num_bytes(self, batch: ImageBatch) -> int:  # type: ignore[override]
        """Bytes of pixels; Beam's own way pickles the batch to find out."""
        return batch.pixels.nbytes

    def get_metrics_namespace(self) -> str:
        return "Encode"


def _encode(batch: ImageBatch, model: EncodeFn) -> np.ndarray:
    # TensorFlow's convolution fails on no images, which is what is left when all are rejected.
    images = batch.pixels if len(batch) else np.zeros((1, SIDE, SIDE, 1), np.float32)
    latents = model(images)[: len(batch)]
    if not np.isfinite(latents).all():
        position = int(np.flatnonzero(~np.isfinite(latents).all(axis=1))[0])
        raise RunError(
            f"the encoder gave a latent that is not finite for image_id "
            f"{batch.image_ids[position]} of split {batch.shard.split}: give another --model"
        )
    return latents


class Encode(beam.PTransform):
    """PCollection[ImageBatch] with float32 pixels (n, 28, 28, 1) -> PCollection[LatentBatch]."""

    def __init__(self, handler: ModelHandler) -> None:
        super().__init__()
        self._handler = handler

    def expand(self, pcoll: PCollection[ImageBatch]) -> PCollection[LatentBatch]:
        latents: PCollection[LatentBatch] = (
            pcoll
            | "RunInference" >> RunInference(self._handler)
            | "CountLatents" >> beam.ParDo(_CountLatents())
        )
        return latents


class _CountLatents(beam.DoFn):
    def __init__(self) -> None:
        self._images = Metrics.counter(Encode, "images")
        self._batches = Metrics.counter(Encode, "batches")

    def process(self, batch: LatentBatch) -> Sequence[LatentBatch]:
        self._images.inc(len(batch))
        self._batches.inc()
        return [batch]
