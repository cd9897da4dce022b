"""Reading a `.keras` file without Keras: all of what Keras saves, and nothing from elsewhere."""

import json
import zipfile
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.support.keras_files import (
    members,
    random_network,
    reconfigured,
    reweighted,
    saved,
    weight,
    with_random_weights,
    zipped,
)
from transforms.errors import InputError, UnknownNetworkError
from transforms.models import keras_file
from transforms.models.autoencoder import build_decoder, build_encoder, import_keras
from transforms.models.keras_file import keras_content, read_layers

KERNEL, BIAS = "layers/conv2d/vars/0", "layers/conv2d/vars/1"


@pytest.fixture(scope="module")
def network():
    layers = import_keras().layers
    return random_network(layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(4), shape=(8, 8, 2))


@pytest.fixture(scope="module")
def content(network) -> bytes:
    return saved(network)


def unknown(content: bytes, said: str) -> None:
    with pytest.raises(UnknownNetworkError, match=said) as error:
        read_layers(content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("build", [build_encoder, build_decoder])
def test_layers_and_weights_are_those_that_keras_saved(build):
    built = with_random_weights(build())
    found = read_layers(saved(built))
    kinds = ["InputLayer", *(type(layer).__name__ for layer in built.layers)]
    assert [layer.kind for layer in found] == kinds
    for layer, kept in zip(found[1:], built.layers, strict=True):
        assert layer.config["name"] == kept.name
        assert len(layer.weights) == len(kept.get_weights())
        for weights, expected in zip(layer.weights, kept.get_weights(), strict=True):
            np.testing.assert_array_equal(weights, expected)


def test_names_that_layers_were_given_do_not_say_where_their_weights_are():
    layers = import_keras().layers
    built = random_network(
        layers.Conv2D(2, 3, name="conv2d_1"),
        layers.Conv2D(2, 3, name="conv2d"),
        layers.Flatten(name="conv2d_2"),
        layers.Dense(3, name="flatten"),
        layers.Dense(3, name="dense"),
        shape=(6, 6, 2),
    )
    weights = [array for layer in read_layers(saved(built)) for array in layer.weights]
    for found, expected in zip(weights, built.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def elsewhere(folder: Path) -> Path:
    """An HDF5 file of someone else's, with arrays of the kernel's shape."""
    path = folder / "elsewhere.h5"
    with h5py.File(path, "w") as file:
        file["secret"] = np.ones((3, 3, 2, 3), np.float32)
        file["vars/0"], file["vars/1"] = file["secret"][...], np.ones(3, np.float32)
    (folder / "raw").write_bytes(np.ones((3, 3, 2, 3), np.float32).tobytes())
    return path


@pytest.mark.parametrize(("path", "name"), [(KERNEL, "secret"), ("layers/conv2d/vars", "vars")])
def test_an_external_link_is_not_followed(path, name, content, tmp_path):
    link = h5py.ExternalLink(str(elsewhere(tmp_path)), name)
    linked = reweighted(content, weight(path, link))
    unknown(linked, "weights that lie in another file")


def test_external_raw_storage_is_not_read(content, tmp_path):
    elsewhere(tmp_path)

    def change(file):
        del file[KERNEL]
        outside = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset(KERNEL, (3, 3, 2, 3), "f4", external=outside)

    unknown(reweighted(content, change), "weights that lie in another file")


@pytest.mark.parametrize("own", [True, False])
def test_a_virtual_dataset_is_not_read(own, content, tmp_path):
    source = "." if own else str(elsewhere(tmp_path))

    def change(file):
        del file[KERNEL]
        file["secret"] = np.ones((3, 3, 2, 3), np.float32)
        layout = h5py.VirtualLayout((3, 3, 2, 3), np.float32)
        layout[...] = h5py.VirtualSource(source, "secret", (3, 3, 2, 3), np.float32)
        file.create_virtual_dataset(KERNEL, layout)

    unknown(reweighted(content, change), "weights that lie in another file")


def test_a_link_within_the_file_is_harmless(content, network):
    def change(file):
        file.move(KERNEL, "kept")
        file[KERNEL] = h5py.SoftLink("/kept")

    (_, convolution, *_) = read_layers(reweighted(content, change))
    np.testing.assert_array_equal(convolution.weights[0], network.get_weights()[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (weight(KERNEL, np.ones((3, 3, 2, 3))), "weights of float64"),
        (weight(KERNEL, np.ones((3, 3, 2, 3), np.float16)), "weights of float16"),
        (weight(KERNEL, np.ones((3, 3, 2, 3), ">f4")), "weights of >f4"),
        (weight(KERNEL, np.ones((3, 3, 2, 3), np.int32)), "weights of int32"),
        (weight(KERNEL, "text"), "weights of object"),
        (lambda file: (file.pop(KERNEL), file.create_group(KERNEL)), "what cannot be read"),
        (lambda file: file.move(KERNEL, "layers/conv2d/vars/5"), "what cannot be read"),
        (weight(KERNEL, h5py.SoftLink("/nowhere")), "what cannot be read"),
        (weight(KERNEL, h5py.SoftLink("/" + KERNEL)), "what cannot be read"),
    ],
    ids=["64", "16", "big-endian", "whole", "text", "group", "renamed", "dangling", "loop"],
)
def test_weights_of_another_kind_are_not_taken(change, said, content):
    unknown(reweighted(content, change), said)


def with_damaged_weights(content: bytes, compression: int) -> bytes:
    """The file with bytes turned over inside the weights."""
    spoilt = bytearray(zipped(members(content), compression))
    start = spoilt.index(b"model.weights.h5") + len("model.weights.h5")
    spoilt[start : start + 64] = bytes(byte ^ 255 for byte in spoilt[start : start + 64])
    return bytes(spoilt)


def test_weights_nested_too_deep_are_not_taken(content):
    def nest(file):
        group = file
        for _ in range(200):
            group = group.create_group("g" * 200)

    unknown(reweighted(content, nest), "nested as Keras nests none")


def test_too_many_weights_are_not_taken(content, monkeypatch):
    monkeypatch.setattr(keras_file, "_MAX_OBJECTS", 5)
    unknown(content, "more than 5 weights")


def with_lost_group(weights: bytes) -> bytes:
    """An HDF5 whose last B-tree says that the next one lies outside of the file."""
    at = weights.rindex(b"TREE") + 16
    return weights[:at] + (2**60 - 1).to_bytes(8, "little") + weights[at + 8 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda parts: zipped(
            {**parts, "model.weights.h5": with_lost_group(parts["model.weights.h5"])}
        ),
        lambda parts: zipped({name: parts[name] for name in ("config.json", "metadata.json")}),
        lambda parts: zipped({**parts, "model.weights.h5": b""}),
        lambda parts: zipped({**parts, "model.weights.h5": b"no HDF5" * 100}),
        lambda parts: zipped({**parts, "model.weights.h5": parts["model.weights.h5"][:9000]}),
        lambda parts: with_damaged_weights(zipped(parts), zipfile.ZIP_STORED),
        lambda parts: with_damaged_weights(zipped(parts), zipfile.ZIP_DEFLATED),
    ],
    ids=["group", "none", "empty", "text", "truncated", "checksum", "deflate"],
)
def test_weights_that_are_missing_or_damaged_are_not_taken(spoil, content):
    unknown(spoil(members(content)), "what cannot be read")


def whole_config(content: bytes, config: object) -> bytes:
    return zipped({**members(content), "config.json": json.dumps(config).encode()})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: whole_config(c, []), "what cannot be read"),
        (lambda c: whole_config(c, {}), "what cannot be read"),
        (lambda c: whole_config(c, {"class_name": "Functional"}), "a Functional network"),
        (lambda c: whole_config(c, {"class_name": "Sequential"}), "what cannot be read"),
        (lambda c: reconfigured(c, lambda ls: ls[1].update(config=None)), "what cannot be read"),
        (lambda c: reconfigured(c, lambda ls: ls[1].update(class_name="ReLU")), "a layer ReLU"),
        (lambda c: reconfigured(c, lambda ls: ls[1].update(class_name=[])), "what cannot be read"),
        (lambda c: reconfigured(c, lambda ls: ls[1]["config"].pop("dtype")), "cannot be read"),
    ],
)
def test_another_configuration_is_not_taken(spoil, said, content):
    unknown(spoil(content), said)


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "mixed_bfloat16", "float64"])
def test_a_layer_that_computes_in_another_type_is_not_taken(dtype):
    layers = import_keras().layers
    unknown(saved(random_network(layers.Dense(2, dtype=dtype), shape=(4,))), f"layer of {dtype}")
    built = import_keras().Sequential([layers.Input((4,), dtype="uint8"), layers.Dense(2)])
    unknown(saved(built), "a layer of uint8")


def test_a_functional_network_is_not_taken():
    keras = import_keras()
    image = keras.layers.Input((4,))
    unknown(saved(keras.Model(image, keras.layers.Dense(2)(image))), "a Functional network")


def test_another_file_than_expected_is_refused(content, tmp_path):
    path = tmp_path / "network.keras"
    path.write_bytes(content)
    assert keras_content("m", str(path), sha256(content).hexdigest()) == content
    with pytest.raises(InputError, match="is not what it was"):
        keras_content("m", str(path), "0" * 64)
    path.unlink()
    with pytest.raises(InputError, match=r"cannot be read \(.*\): put it back"):
        keras_content("m", str(path), sha256(content).hexdigest())
