"""The encoder in the pipeline: Beam's RunInference over whole batches."""

from collections.abc import Sequence
from dataclasses import replace

import apache_beam as beam
import numpy as np
from apache_beam.metrics.metric import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.pvalue import PCollection

from transforms.errors import RunError
from transforms.images import SIDE, ImageBatch
from transforms.latents import LatentBatch
from transforms.models.choice import INT8, Engine, load_encoder
from transforms.models.directory import Model, find_model
from transforms.models.fixed_batches import WholeBatchHandler
from transforms.models.network import Compute, Network


class EncoderHandler(WholeBatchHandler[ImageBatch, LatentBatch]):
    """Loads an encoder once a process and runs it on a whole ImageBatch at a time.

    model: a model directory or a `.keras` file, local or in a store; None for the model
    that comes with the package. engine: what computes it; TensorFlow where none is given. sha256:
    what the encoder's file (that of int8, where the engine computes in int8) has to have, where it
    is known.
    """

    def __init__(
        self, model: str | None = None, engine: Engine | None = None, sha256: str | None = None
    ) -> None:
        super().__init__("Encode")
        self._model = model
        self._engine = engine or Engine()
        self._sha256 = sha256

    def load_model(self) -> Network:
        model = find_model(self._model)
        if self._sha256 is not None:
            model = _with_sha256(model, self._engine, self._sha256)
        return load_encoder(model, self._engine)

    def result(self, batch: ImageBatch, network: Network) -> LatentBatch:
        latents = _encode(batch, network.compute)
        return LatentBatch(
            batch.shard,
            batch.rows,
            batch.image_ids,
            batch.labels,
            latents,
            batch.sha256,
            batch.rejects,
            batch.sample,
        )

    def batch_bytes(self, batch: ImageBatch) -> int:
        return batch.pixels.nbytes


def _with_sha256(model: Model, engine: Engine, sha256: str) -> Model:
    if engine.precision == INT8:
        return replace(model, encoder_int8_sha256=sha256)
    return replace(model, encoder_sha256=sha256)


def _encode(batch: ImageBatch, encode: Compute) -> np.ndarray:
    # No engine computes no images, which is what is left when all are rejected.
    images = batch.pixels if len(batch) else np.zeros((1, SIDE, SIDE, 1), np.float32)
    latents = encode(images)[: len(batch)]
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
