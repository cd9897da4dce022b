"""The Keras encoder and decoder, and loading them from files without running what is in there."""

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from transforms.errors import InputError, first_line
from transforms.images import SIDE
from transforms.models.directory import Model, file_content
from transforms.models.keras_file import expects_bytes, keras_content
from transforms.quiet import no_collection, own_environment, stderr_held_back
from transforms.storage.files import temporary_folder

if TYPE_CHECKING:
    import keras

LATENT_SIZE = 32


def build_encoder(
    seed: int = 0,
    latent_size: int = LATENT_SIZE,
    latent_bias: float = 0.0,
    dtype: str = "float32",
) -> "keras.Model":
    """The reference encoder, untrained: (28, 28, 1) in [0, 1] to `latent_size` float32.

    494,112 parameters at 32 latents. Each layer draws its initial weights from a seed of its own,
    so that they are the same in every process. latent_bias: where the latent's biases start;
    above 0, its relu units start alive. dtype: Keras's policy for all but the last layer.
    """
    keras = import_keras()
    layers, initializers = keras.layers, keras.initializers

    def convolution(filters: int, layer: int, strides: int = 1) -> Any:
        return layers.Conv2D(
            filters,
            3,
            strides=strides,
            padding="same",
            activation="relu",
            kernel_initializer=initializers.GlorotUniform(seed=seed + layer),
            dtype=dtype,
        )

    return keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 1)),
            convolution(32, layer=0),
            convolution(64, layer=1, strides=2),
            convolution(64, layer=2),
            convolution(64, layer=3),
            layers.Flatten(),
            layers.Dense(
                latent_size,
                activation="relu",
                kernel_initializer=initializers.GlorotUniform(seed=seed + 4),
                bias_initializer=initializers.Constant(latent_bias),
            ),
        ],
        name="encoder",
    )


def build_decoder(
    seed: int = 0, latent_size: int = LATENT_SIZE, dtype: str = "float32"
) -> "keras.Model":
    """The decoder, untrained: `latent_size` float32 to (28, 28, 1) in [0, 1].

    617,505 parameters at 32 latents. Two dense layers, then 7x7 to 14x14 to 28x28. dtype: as for
    build_encoder.
    """
    keras = import_keras()
    layers, initializers = keras.layers, keras.initializers

    def settings(layer: int) -> dict[str, Any]:
        start = initializers.HeNormal(seed=seed + 100 + layer)
        return {"activation": "relu", "kernel_initializer": start, "dtype": dtype}

    return keras.Sequential(
        [
            layers.Input((latent_size,)),
            layers.Dense(256, **settings(0)),
            layers.Dense(7 * 7 * 32, **settings(1)),
            layers.Reshape((7, 7, 32)),
            layers.Conv2D(128, 3, padding="same", **settings(2)),
            layers.Conv2DTranspose(64, 4, strides=2, padding="same", **settings(3)),
            layers.Conv2D(64, 3, padding="same", **settings(4)),
            layers.Conv2DTranspose(
                1,
                4,
                strides=2,
                padding="same",
                activation="sigmoid",
                kernel_initializer=initializers.HeNormal(seed=seed + 105),
            ),
        ],
        name="decoder",
    )


def load_encoder(model: Model) -> "keras.Model":
    """The encoder of a model: float32 (n, 28, 28, 1) in [0, 1] to float32 (n, latent_size).

    One that begins with a Rescaling from 0 to 255 gets its pixels so.

    Raises InputError where the file is missing, is another than the model's, is no Keras model
    that can be loaded safely, or does not map (28, 28, 1) to (N,).
    """
    network = _load_keras(model.name, model.encoder, model.encoder_sha256)
    _check_encoder(model.name, network)
    if not expects_bytes(file_content(model.name, model.encoder)):
        return network
    keras = import_keras()
    layers = keras.layers
    return keras.Sequential([layers.Input((SIDE, SIDE, 1)), layers.Rescaling(255.0), network])


def load_decoder(model: Model) -> "keras.Model":
    """The decoder of a model: float32 (n, latent_size) to float32 (n, 28, 28, 1) in [0, 1].

    Raises InputError as load_encoder does, and where the model has no decoder.
    """
    if model.decoder is None or model.decoder_sha256 is None:
        raise InputError(
            f"--model={model.name} is an encoder alone, and cannot decode: give the model "
            "directory that train wrote"
        )
    network = _load_keras(model.name, model.decoder, model.decoder_sha256)
    _check_decoder(model.name, network)
    return network


def _load_keras(name: str, path: str, expected_sha256: str) -> "keras.Model":
    content = keras_content(name, path, expected_sha256)
    keras = import_keras()
    with temporary_folder() as folder:
        local = folder / "model.keras"  # Keras reads from the local disk only.
        local.write_bytes(content)
        try:
            return keras.saving.load_model(local, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever a layer's deserialisation raises.
            raise InputError(
                f"--model={name}: {path} cannot be loaded as a Keras model ({first_line(error)}): "
                "save one that is made of Keras's own layers"
            ) from error


def _check_encoder(name: str, model: "keras.Model") -> None:
    """Encodes two black images: what comes out says more than what the model says of itself."""
    import numpy as np

    takes = f"({SIDE}, {SIDE}, 1)"
    inputs = [(tuple(tensor.shape), str(tensor.dtype)) for tensor in getattr(model, "inputs", [])]
    if [shape for shape, _ in inputs] != [(None, SIDE, SIDE, 1)]:
        shapes = ", ".join(str(shape) for shape, _ in inputs) or "nothing: it was never built"
        raise InputError(
            f"--model={name} takes {shapes}; an encoder maps {takes} to (N,), for any number of "
            "images at once: give one that does"
        )
    try:
        latents = model(np.zeros((2, SIDE, SIDE, 1), np.float32), training=False)
        shape, dtype = tuple(latents.shape), str(np.asarray(latents).dtype)
    except Exception as error:  # Whatever its layers, or our reading of several outputs, raise.
        raise InputError(
            f"--model={name} does not encode an image ({first_line(error)}): an encoder maps "
            f"{takes} to (N,), give one that does"
        ) from error
    if len(shape) != len(("image", "value")) or (inputs[0][1], dtype) != ("float32", "float32"):
        raise InputError(
            f"--model={name} maps {inputs[0][1]} {takes} to {dtype} {shape[1:]}; an encoder maps "
            f"float32 {takes} to float32 (N,): give one that does"
        )


def _check_decoder(name: str, model: "keras.Model") -> None:
    takes, gives = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not _is_batch(takes, 2) or gives != (None, SIDE, SIDE, 1):
        raise InputError(
            f"--model={name}: its decoder maps {takes} to {gives}; a decoder maps (N,) to "
            f"({SIDE}, {SIDE}, 1): train it again"
        )


def _is_batch(shape: Any, dimensions: int) -> bool:
    return isinstance(shape, tuple) and len(shape) == dimensions and shape[0] is None


def import_keras() -> Any:
    """The keras module on TensorFlow, imported without TensorFlow's start-up notes.

    What the user's keras.json sets does not count. Raises InputError where something else has
    imported Keras already, on another backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    quietly = contextlib.nullcontext() if "tensorflow" in sys.modules else stderr_held_back()
    with quietly, no_collection(), own_environment():
        import keras
        import tensorflow as tf

        tf.constant(0)  # Looks for devices, which is what TensorFlow has most to say about.
    if keras.config.backend() != "tensorflow":
        raise InputError(
            f"Keras was imported with the backend {keras.config.backend()}: import it after "
            "transforms, or set KERAS_BACKEND=tensorflow"
        )
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    return keras
