"""`.keras` files for tests: networks with random weights, and files that someone has edited."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from transforms.models.autoencoder import import_keras


def random_network(*layers: Any, shape: tuple[int | None, ...], seed: int = 0) -> Any:
    """A Sequential network of these layers, with weights that keep values near 1."""
    keras = import_keras()
    network = keras.Sequential([keras.layers.Input(shape), *layers])
    return with_random_weights(network, seed)


def with_random_weights(network: Any, seed: int = 0) -> Any:
    generator = np.random.default_rng(seed)
    network.set_weights(
        [
            generator.normal(0, 1 / np.sqrt(max(1, np.prod(weight.shape[:-1]))), weight.shape)
            for weight in network.get_weights()
        ]
    )
    return network


def saved(network: Any) -> bytes:
    """The content of the `.keras` file of a network."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        network.save(path)
        return path.read_bytes()


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return content.getvalue()


def reconfigured(content: bytes, change: Callable[[list[dict]], Any]) -> bytes:
    """The file with the configurations of its layers changed in place."""
    parts = members(content)
    config = json.loads(parts["config.json"])
    change(config["config"]["layers"])
    return zipped({**parts, "config.json": json.dumps(config).encode()})


def reweighted(content: bytes, change: Callable[[h5py.File], Any]) -> bytes:
    """The file with its HDF5 of weights changed in place."""
    parts = members(content)
    weights = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file)
    return zipped({**parts, "model.weights.h5": weights.getvalue()})


def weight(path: str, value: Any) -> Callable[[h5py.File], None]:
    """Puts another value in a weight's place."""

    def change(file: h5py.File) -> None:
        del file[path]
        file[path] = value

    return change
