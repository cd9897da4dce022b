"""Which engine computes a model, and loading the model for it."""

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from transforms.errors import InputError, UnknownNetworkError
from transforms.images import SIDE
from transforms.models.directory import Model, check_content, file_content
from transforms.models.keras_file import keras_content, read_layers
from transforms.models.network import Network
from transforms.settings import ENGINES, PRECISIONS

TENSORFLOW, NCNN, LITERT = ENGINES
FLOAT32, INT8 = PRECISIONS

IMAGE_SHAPE = (SIDE, SIDE, 1)

_PACKAGES = {NCNN: "ncnn", LITERT: "ai_edge_litert"}
_INSTALL = "pip install 'emnist-latents[fast]'"


class Engine(NamedTuple):
    """What computes an encoder: a library by name, and its numbers."""

    name: str = TENSORFLOW
    precision: str = FLOAT32


def choose_engine(model: Model, name: str | None, precision: str) -> Engine:
    """The engine of this name for a model's encoder, or the fastest where none is named.

    ncnn is the fastest in float32 and LiteRT in int8; benchmarks/RESULTS.md has the figures. What
    is chosen unasked gives the reference's float32 latents, or is the only one for int8. Raises
    InputError where it isn't installed, or has nothing to compute.
    """
    if precision == INT8:
        return _int8_engine(model)
    if name == TENSORFLOW or (name is None and not is_installed(NCNN)):
        return Engine(TENSORFLOW, FLOAT32)
    _check_installed(NCNN)
    try:
        _ncnn_encoder(model)
    except UnknownNetworkError as error:
        if name == NCNN:
            raise _not_for_ncnn(model, error) from error
        return Engine(TENSORFLOW, FLOAT32)
    return Engine(NCNN, FLOAT32)


def _int8_engine(model: Model) -> Engine:
    _check_installed(LITERT)
    if model.encoder_int8 is None:
        raise InputError(
            f"--precision=int8: --model={model.name} has no int8 encoder: train it again, which "
            "makes one, or give --precision=float32"
        )
    return Engine(LITERT, INT8)


def load_encoder(model: Model, engine: Engine) -> Network:
    """The encoder of a model: float32 (n, 28, 28, 1) in [0, 1] to float32 (n, latent_size).

    Raises InputError where the model is not what it was, or the engine isn't there.
    """
    if engine.name == TENSORFLOW:
        from transforms.models import tensorflow_engine

        return tensorflow_engine.encoder_network(model)
    _check_installed(engine.name)
    if engine.name == NCNN:
        return _ncnn_encoder(model)
    path, expected, card = model.encoder_int8, model.encoder_int8_sha256, model.card
    if path is None or expected is None or card is None:
        raise InputError(f"--model={model.name} has no int8 encoder: train it again")
    network = _litert_network(model.name, path, expected, card.parameters.encoder)
    if (network.input_shape, network.output_shape) != (IMAGE_SHAPE, (card.latent_size,)):
        raise InputError(
            f"--model={model.name}: its int8 encoder maps {network.input_shape} to "
            f"{network.output_shape}, not {IMAGE_SHAPE} to ({card.latent_size},): train it again"
        )
    return network


def decoder_engine(encoder_engine: str) -> str | None:
    """What decodes beside an encoder's engine, for load_decoder: TensorFlow keeps to itself."""
    return TENSORFLOW if encoder_engine == TENSORFLOW else None


def load_decoder(model: Model, engine: str | None = None) -> Network:
    """The decoder of a model: float32 (n, latent_size) to float32 (n, 28, 28, 1) in [0, 1].

    engine: by name; None for ncnn where it is installed and knows the layers, else TensorFlow.
    Raises InputError where the model has no decoder or is not what it was, or the engine named
    isn't installed or doesn't know it.
    """
    if engine == NCNN:
        _check_installed(NCNN)
    if engine != TENSORFLOW and is_installed(NCNN) and model.decoder and model.decoder_sha256:
        try:
            return _ncnn_decoder(model.name, model.decoder, model.decoder_sha256)
        except UnknownNetworkError as error:
            if engine == NCNN:
                raise _not_for_ncnn(model, error) from error
    from transforms.models import tensorflow_engine

    return tensorflow_engine.decoder_network(model)


def _not_for_ncnn(model: Model, error: UnknownNetworkError) -> InputError:
    return InputError(
        f"--engine=ncnn: --model={model.name} has {error}, which ncnn is not used for: give "
        "--engine=tensorflow"
    )


def _ncnn_encoder(model: Model) -> Network:
    network = _ncnn_network(model.name, model.encoder, model.encoder_sha256)
    if network.input_shape != IMAGE_SHAPE or len(network.output_shape) != 1:
        raise UnknownNetworkError(f"shapes {network.input_shape} to {network.output_shape}")
    return network


def _ncnn_decoder(name: str, path: str, expected_sha256: str) -> Network:
    network = _ncnn_network(name, path, expected_sha256)
    if len(network.input_shape) != 1 or network.output_shape != IMAGE_SHAPE:
        raise UnknownNetworkError(f"shapes {network.input_shape} to {network.output_shape}")
    return network


# The launcher chooses, describes and runs a network, and draws the report with it: built once.
@lru_cache(maxsize=2)
def _ncnn_network(name: str, path: str, expected_sha256: str) -> Network:
    from transforms.models import ncnn_engine

    _check_imports(NCNN)
    return ncnn_engine.network(read_layers(keras_content(name, path, expected_sha256)))


@lru_cache(maxsize=1)
def _litert_network(name: str, path: str, expected_sha256: str, parameters: int) -> Network:
    from transforms.models import litert_engine

    _check_imports(LITERT)
    content = file_content(name, path)
    check_content(name, path, content, expected_sha256)
    return litert_engine.network(name, content, parameters)


def is_installed(engine: str) -> bool:
    """Whether the package of ncnn or LiteRT is there."""
    return find_spec(_PACKAGES[engine]) is not None


def _check_installed(engine: str) -> None:
    if not is_installed(engine):
        other = "--precision=float32" if engine == LITERT else "--engine=tensorflow"
        raise InputError(f"the engine {engine} is not installed: {_INSTALL}, or give {other}")


def _check_imports(engine: str) -> None:
    """Raises InputError where a package is there and does not work on this machine."""
    try:
        import_module(_PACKAGES[engine])
    except ImportError as error:
        raise InputError(
            f"the engine {engine} is installed, and cannot be imported ({error}): mend it "
            f"({_INSTALL}), or give --engine=tensorflow"
        ) from error
