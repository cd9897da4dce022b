"""What the rivals share: the job's encoder, built without importing Beam, and a Parquet file."""

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


def compiled_encoder() -> Callable[[np.ndarray], np.ndarray]:
    """The same as one tf.function: uint8 images (n, 28, 28) to float32 latents (n, 32)."""
    import tensorflow as tf

    encoder = load_encoder()

    @tf.function(input_signature=[tf.TensorSpec((None, 28, 28), tf.uint8)])  # type: ignore[untyped-decorator]
    def encode(images: tf.Tensor) -> tf.Tensor:
        return encoder(tf.cast(images, tf.float32)[..., tf.newaxis] / 255, training=False)

    def latents(images: np.ndarray) -> np.ndarray:
        return np.asarray(encode(images))

    return latents


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


def write_latents(latents: np.ndarray, path: str) -> None:
    """Writes float32 latents (n, 32) as Parquet, with the row number as image_id."""
    table = pa.table(
        {
            "image_id": np.arange(len(latents)),
            "latent": pa.FixedSizeListArray.from_arrays(pa.array(latents.ravel()), LATENT_SIZE),
        }
    )
    pq.write_table(table, path, compression="zstd")
