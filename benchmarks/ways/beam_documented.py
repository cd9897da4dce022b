"""Beam's RunInference as documented: an element is an image, TFModelHandlerNumpy batches them.

`python -m benchmarks.ways.beam_documented IMAGES.npy OUT_FOLDER`
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import keras
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy

from benchmarks.ways.encoder import LATENT_SIZE, PRETRAINED, compiled

BATCH_SIZE = 1024
_SCHEMA = pa.schema([("image_id", pa.int64()), ("latent", pa.list_(pa.float32(), LATENT_SIZE))])


def main(source: str, target: str) -> None:
    """Encodes a .npy of uint8 images (n, 28, 28)."""
    count = len(np.load(source, mmap_mode="r"))
    handler = TFModelHandlerNumpy(
        str(PRETRAINED),
        inference_fn=encode,
        min_batch_size=BATCH_SIZE,
        max_batch_size=BATCH_SIZE,
    )
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        (
            pipeline
            | beam.Create(range(0, count, BATCH_SIZE))
            | beam.Reshuffle()
            | beam.FlatMap(read, source)
            | RunInference(KeyedModelHandler(handler))
            | beam.MapTuple(row)
            | beam.io.WriteToParquet(f"{target}/latents", _SCHEMA, file_name_suffix=".parquet")
        )


def read(start: int, source: str) -> Iterator[tuple[int, np.ndarray]]:
    """Images with their ids: uint8 (28, 28)."""
    images = np.load(source, mmap_mode="r")[start : start + BATCH_SIZE]
    yield from enumerate(images, start)


def encode(
    model: keras.Model, batch: Sequence[np.ndarray], *_: Any, **__: Any
) -> Iterable[PredictionResult]:
    """What the handler does with a batch.

    Its own default calls the model eagerly and makes a tensor of every row of the result, which
    took 1.5 times the CPU for the whole run.
    """
    return map(PredictionResult, batch, compiled(model)(np.stack(batch)))


def row(image_id: int, result: PredictionResult) -> dict[str, Any]:
    """A row of the Parquet file."""
    return {"image_id": image_id, "latent": result.inference}


if __name__ == "__main__":
    main(*sys.argv[1:])
