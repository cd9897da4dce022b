"""A `.keras` file, read without Keras: whether it is harmless, its layers and their weights."""

import io
import lzma
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from transforms.errors import InputError, UnknownNetworkError, first_line
from transforms.json_documents import MAX_JSON_BYTES, parse_json
from transforms.storage.files import read_bytes

MAX_NETWORK_BYTES = 1 << 30
"""Of a file of a model, and of what is in it: 250 million parameters; the encoder has 0.5."""

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {_CONFIG, _WEIGHTS, "metadata.json"}
_KERAS_MODULES = {
    "builtins",
    "keras",
    "keras.constraints",
    "keras.initializers",
    "keras.layers",
    "keras.losses",
    "keras.metrics",
    "keras.models",
    "keras.optimizers",
    "keras.optimizers.schedules",
    "keras.regularizers",
}
_KERAS_PLUMBING = {("keras.src.models.functional", "Functional"), (None, "__keras_tensor__")}
_SCALE_OF_BYTES = 1 / 16
"""A Rescaling by less is for pixels up to 255: by 1 / 255, or by 1 / 127.5 to -1 to 1."""
_SHOWN_CHARACTERS = 300
_CODE_CLASSES = {"Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer", "function"}

# Where Keras keeps the weights of a layer: by its class in snake case, counted from the second on.
_WEIGHTS_FOLDERS = {
    "Conv2D": "conv2d",
    "Conv2DTranspose": "conv2d_transpose",
    "Dense": "dense",
    "Flatten": "flatten",
    "InputLayer": "input_layer",
    "Reshape": "reshape",
}
_UNREADABLE = (
    EOFError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


_MAX_DEPTH, _MAX_PATH_BYTES, _MAX_OBJECTS = 32, 4096, 100_000
"""Of HDF5: a network within a network takes two levels, a layer's weights three and few objects."""


class Layer(NamedTuple):
    """A layer of a network: the name of its Keras class, its configuration, its weights."""

    kind: str
    config: dict[str, Any]
    weights: tuple[np.ndarray, ...]


def keras_content(name: str, path: str, expected_sha256: str) -> bytes:
    """The content of a `.keras` file that is the one it should be, and harmless.

    name: of the model, for errors. Raises InputError where it is missing, is another file, is no
    `.keras` file, or is made of more than Keras's own layers and plain weights.
    """
    try:
        content = read_bytes(path, MAX_NETWORK_BYTES)
    except OSError as error:
        raise InputError(f"--model={name}: {path} cannot be read ({error}): put it back") from error
    if sha256(content).hexdigest() != expected_sha256:
        raise InputError(
            f"--model={name}: {path} is not what it was (its SHA-256 is another): put the right "
            "one back, or train it again"
        )
    _check_is_harmless(name, path, content)
    return content


def _check_is_harmless(name: str, path: str, content: bytes) -> None:
    """Raises InputError unless a `.keras` file is made of Keras's own layers and plain weights.

    Keras's safe mode refuses lambdas, but still imports whatever modules the file names; what it
    was led to that way has had to be mended more than once (CVE-2025-1550, CVE-2025-8747).
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            extra = set(archive.namelist()) - _MEMBERS
            config = parse_json(_member(archive, _CONFIG, MAX_JSON_BYTES))
            _check_weights(_member(archive, _WEIGHTS, MAX_NETWORK_BYTES))
    except _UNREADABLE as error:
        raise InputError(
            f"--model={name}: {path} is no .keras file ({first_line(error)}): save one with "
            "model.save()"
        ) from error
    if isinstance(config, dict):
        config.pop("compile_config", None)  # What it was trained with: nothing loads it.
    suspect = sorted(extra) or sorted(_foreign(config))
    if suspect:
        raise _refusal(f"--model={name}: {path}", suspect[0][:_SHOWN_CHARACTERS])


def _refusal(file: str, what: str) -> InputError:
    if what.startswith("keras.src.engine."):
        return InputError(
            f"{file} was saved by Keras 2 ({what}): load it there, and save it with Keras 3"
        )
    if what.startswith("keras.src.ops."):
        return InputError(
            f"{file} computes with {what} outside of a layer, which is not read: use Keras's own "
            "layers alone (x * 2 is Rescaling(2.0))"
        )
    return InputError(
        f"{file} holds {what}, which may run code: save a model that is made of Keras's own layers "
        "alone"
    )


def expects_bytes(content: bytes) -> bool:
    """Whether a network begins with a Rescaling that takes pixels from 0 to 255.

    content: as keras_content gives it.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        network = parse_json(archive.read(_CONFIG))
    while network is not None:
        layers = network.get("config", {}).get("layers", [])
        inner = [layer for layer in layers if layer.get("class_name") != "InputLayer"]
        network = inner[0] if inner else None
        if network is not None and network["class_name"] == "Rescaling":
            return bool(np.max(np.abs(network["config"]["scale"])) < _SCALE_OF_BYTES)
    return False


def _member(archive: zipfile.ZipFile, name: str, at_most: int) -> bytes:
    """A part of a zip; raises ValueError where it unpacks to more, whatever it says."""
    with archive.open(name) as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise ValueError(f"{name} in it unpacks to more than {at_most:,} bytes")
    return content


def _check_weights(content: bytes) -> None:
    """Raises ValueError unless all weights lie in the file, as many as it says.

    HDF5 can refer to other files on this machine, which are none of the model's, and can name a
    shape that takes all memory of it without a byte of data.
    """
    import h5py

    # What is raised within a callback, as h5py's own visititems does, comes out as a SystemError;
    # what is returned ends the visit.
    def refused(name: bytes, facts: Any) -> str | None:
        if facts.type == h5py.h5l.TYPE_EXTERNAL:
            return f"weights that lie in another file: {name[:_SHOWN_CHARACTERS]!r}"
        if name.count(b"/") > _MAX_DEPTH or len(name) > _MAX_PATH_BYTES:
            return f"weights nested as Keras nests none: {name[:_SHOWN_CHARACTERS]!r}"
        return None

    objects: list[tuple[bytes, int]] = []

    def too_many(name: bytes, facts: Any) -> bool | None:
        objects.append((name, facts.type))
        return True if len(objects) > _MAX_OBJECTS else None

    with _hdf5(content) as file:
        # Links first: it is told of one before what it leads to is gone through, however deep.
        if reason := file.id.links.visit(refused, info=True):
            raise ValueError(reason)
        if h5py.h5o.visit(file.id, too_many, info=True):
            raise ValueError(f"more than {_MAX_OBJECTS:,} weights")
        for name, kind in objects:
            if kind == h5py.h5o.TYPE_DATASET:
                _check_stored(name.decode(), file[name], len(content))


def _check_stored(name: str, stored: Any, at_most: int) -> None:
    if stored.is_virtual or stored.external:
        raise ValueError(f"weights that lie in another file: {name}")
    if stored.nbytes > at_most:
        raise ValueError(f"weights {name} that are said to take {stored.nbytes:,} bytes")


def _hdf5(content: bytes) -> Any:
    """An HDF5 file in memory, open for reading; raises OSError or ValueError where it is none.

    Not of a BytesIO: HDF5 closes what is left of a file that could not be opened when the process
    ends, and would call Python for it, which is gone by then (a segmentation fault).
    """
    import h5py

    return h5py.File(h5py.h5f.open_file_image(content))


def _foreign(config: Any) -> Iterator[str]:
    """What a model's configuration names that is not a layer, initializer, ... of Keras's own."""
    if isinstance(config, list):
        for part in config:
            yield from _foreign(part)
    elif isinstance(config, dict):
        if "class_name" in config:
            module, name = config.get("module"), config["class_name"]
            is_own = (
                isinstance(module, str)
                and isinstance(name, str)
                and module in _KERAS_MODULES
                and not config.get("registered_name")
                # Keras joins module and name, so a dot would lead out of the module.
                and name.isidentifier()
                and not name.startswith("__")
            )
            is_plumbing = any((module, name) == known for known in _KERAS_PLUMBING)
            if not is_plumbing and (not is_own or name in _CODE_CLASSES):
                yield f"{module}.{name}"
        for part in config.values():
            yield from _foreign(part)


def read_layers(content: bytes) -> list[Layer]:
    """The layers of a Sequential network of float32, in order, from what keras_content gave.

    Raises UnknownNetworkError for any other network, or where a weight is missing.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            network = parse_json(archive.read(_CONFIG))
            weights = archive.read(_WEIGHTS)
        if network["class_name"] != "Sequential":
            raise UnknownNetworkError(f"a {network['class_name']} network")
        _check_weights(weights)
        with _hdf5(weights) as file:
            return list(_layers(network["config"]["layers"], file))
    except (*_UNREADABLE, AttributeError) as error:
        raise UnknownNetworkError(f"what cannot be read ({first_line(error)})") from error


def _layers(configs: list[dict[str, Any]], file: Any) -> Iterator[Layer]:
    seen: Counter[str] = Counter()
    for described in configs:
        kind, config = described["class_name"], described["config"]
        if kind not in _WEIGHTS_FOLDERS:
            raise UnknownNetworkError(f"a layer {kind}")
        if _dtype(config["dtype"]) != "float32":
            raise UnknownNetworkError(f"a layer of {_dtype(config['dtype'])}")
        folder = _WEIGHTS_FOLDERS[kind]
        counted = f"{folder}_{seen[folder]}" if seen[folder] else folder
        seen[folder] += kind != "InputLayer"
        yield Layer(kind, config, tuple(_arrays(file, f"layers/{counted}/vars")))


def _dtype(described: Any) -> str:
    """The name of a dtype, which a layer's configuration has as it is or as a policy."""
    return str(described["config"]["name"] if isinstance(described, dict) else described)


def _arrays(file: Any, folder: str) -> Iterator[np.ndarray]:
    for number in range(len(file[folder]) if folder in file else 0):
        stored = file[f"{folder}/{number}"]
        if stored.dtype != np.float32:
            raise UnknownNetworkError(f"weights of {stored.dtype}")
        yield stored[...]
