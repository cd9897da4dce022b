"""The Keras encoder, and loading one from a file."""

import contextlib
import gc
import hashlib
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transforms.errors import InputError
from transforms.files import read_bytes
from transforms.images import SIDE

if TYPE_CHECKING:
    import keras

LATENT_SIZE = 32
UNTRAINED_SEED = 0
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Encoder:
    """A Keras encoder and what identifies it.

    name: the file it came from, or UNTRAINED. sha256: of the file; of the weights, layer by layer,
    where there is no file. model maps float32 (n, 28, 28, 1) to (n, latent_size).
    """

    name: str
    sha256: str
    model: "keras.Model"

    @property
    def latent_size(self) -> int:
        return int(self.model.output_shape[-1])

    @property
    def trained(self) -> bool:
        return self.name != UNTRAINED


def build_encoder(seed: int = UNTRAINED_SEED, latent_size: int = LATENT_SIZE) -> "keras.Model":
    """The reference encoder, untrained: (28, 28, 1) in [0, 1] to `latent_size` float32.

    494,112 parameters at 32 latents. Each layer draws its initial weights from a seed of its own,
    so that they are the same in every process.
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
            ),
        ],
        name="encoder",
    )


def load_encoder(path: str | None) -> Encoder:
    """The encoder in a `.keras` file, or the untrained one of UNTRAINED_SEED for None.

    Raises InputError where the file is missing, is no Keras model that can be loaded safely, or
    does not map (28, 28, 1) to (N,).
    """
    if path is None:
        model = build_encoder()
        digest = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights()))
        return Encoder(UNTRAINED, digest.hexdigest(), model)
    try:
        content = read_bytes(path)
    except OSError as error:
        raise InputError(
            f"--model={path} cannot be read: give a .keras file that exists ({error})"
        ) from error
    model = _load_keras(path, content)
    _check_model(path, model)
    return Encoder(path, hashlib.sha256(content).hexdigest(), model)


def _load_keras(path: str, content: bytes) -> "keras.Model":
    keras = import_keras()
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, "model.keras")  # Keras reads from the local disk only.
        local.write_bytes(content)
        if not zipfile.is_zipfile(local):
            raise InputError(f"--model={path} is no .keras file: save one with model.save()")
        try:
            return keras.saving.load_model(local, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever a layer's deserialisation raises.
            raise InputError(
                f"--model={path} cannot be loaded as a Keras model ({_line(error)}): save one that "
                "is made of Keras's own layers"
            ) from error


def _check_model(path: str, model: "keras.Model") -> None:
    """Encodes two black images: what comes out says more than what the model says of itself."""
    import numpy as np

    takes = f"({SIDE}, {SIDE}, 1)"
    inputs = [(tuple(tensor.shape), str(tensor.dtype)) for tensor in getattr(model, "inputs", [])]
    if [shape for shape, _ in inputs] != [(None, SIDE, SIDE, 1)]:
        shapes = ", ".join(str(shape) for shape, _ in inputs) or "nothing: it was never built"
        raise InputError(
            f"--model={path} takes {shapes}; an encoder maps {takes} to (N,), for any number of "
            "images at once"
        )
    try:
        latents = model(np.zeros((2, SIDE, SIDE, 1), np.float32), training=False)
        shape, dtype = tuple(latents.shape), str(np.asarray(latents).dtype)
    except Exception as error:  # Whatever its layers, or our reading of several outputs, raise.
        raise InputError(
            f"--model={path} does not encode an image ({_line(error)}): an encoder maps {takes} "
            "to (N,)"
        ) from error
    if len(shape) != len(("image", "value")) or (inputs[0][1], dtype) != ("float32", "float32"):
        raise InputError(
            f"--model={path} maps {inputs[0][1]} {takes} to {dtype} {shape[1:]}; an encoder maps "
            f"float32 {takes} to float32 (N,)"
        )


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def import_keras() -> Any:
    """The keras module on TensorFlow, imported without TensorFlow's start-up notes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _stderr_held_back(), _no_collection():
        import keras
        import tensorflow as tf

        tf.constant(0)  # Looks for devices, which is what TensorFlow has most to say about.
    return keras


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Pauses the garbage collector: over and over it would walk all that is being imported.

    Beam, TensorFlow and Keras together take 2.4 to 2.7 s to import without it, 3.0 with it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keeps file descriptor 2 quiet, and shows what was held back if the block fails.

    TensorFlow's C++ writes there whatever TF_CPP_MIN_LOG_LEVEL says
    (github.com/tensorflow/tensorflow/issues/100442).
    """
    if "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, contextlib.ExitStack() as stack:
        shown = os.dup(2)
        stack.callback(os.close, shown)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
