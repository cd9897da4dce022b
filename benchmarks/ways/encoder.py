"""What the rivals share: the job's encoder, built without importing Beam, and a Parquet file."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from keras import layers

LATENT_SIZE = 32

PRETRAINED = Path(__file__).parents[2] / "transforms/pretrained/encoder.keras"


def load_encoder() -> keras.Model:
    """The encoder that the job uses by default: (28, 28, 1) in [0, 1] to (32,)."""
    return keras.models.load_model(PRETRAINED, compile=False)


@functools.cache  # Traced once, however often it is asked for.
def compiled(encoder: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """An encoder as one tf.function: uint8 images (n, 28, 28) to float32 latents (n, 32)."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 28, 28), tf.uint8)])  # type: ignore[untyped-decorator]
    def encode(images: tf.Tensor) -> tf.Tensor:
        return encoder(tf.cast(images, tf.float32)[..., tf.newaxis] / 255, training=False)

    def latents(images: np.ndarray) -> np.ndarray:
        return np.asarray(encode(images))

    return latents


def multiply_adds(encoder: keras.Model) -> int:
    """How many an image takes: each layer's weights, once for each place they are applied at."""
    weighted = [layer for layer in encoder.layers if layer.weights]
    return sum(
        math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1]) for layer in weighted
    )


def build_encoder() -> keras.Model:
    """The encoder with random weights, as the notebook leaves it."""

    def start(seed: int) -> keras.Initializer:
        return keras.initializers.GlorotUniform(seed=seed)

    same = {"padding": "same", "activation": "relu"}
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, kernel_initializer=start(0), **same),
            layers.Conv2D(64, 3, strides=2, kernel_initializer=start(1), **same),
            layers.Conv2D(64, 3, kernel_initializer=start(2), **same),
            layers.Conv2D(64, 3, kernel_initializer=start(3), **same),
            layers.Flatten(),
            layers.Dense(LATENT_SIZE, activation="relu", kernel_initializer=start(4)),
        ]
    )


def write_latents(latents: np.ndarray, folder: str) -> None:
    """Writes float32 latents (n, 32) as a Parquet file, with the row number as image_id."""
    table = pa.table(
        {
            "image_id": np.arange(len(latents)),
            "latent": pa.FixedSizeListArray.from_arrays(pa.array(latents.ravel()), LATENT_SIZE),
        }
    )
    Path(folder).mkdir()
    pq.write_table(table, Path(folder, "latents.parquet"), compression="zstd")
