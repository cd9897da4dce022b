"""Engines: which is chosen, and what they compute beside plain Keras with the same weights."""

import itertools
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import PRETRAINED
from tests.support.keras_files import (
    random_network,
    reconfigured,
    reweighted,
    saved,
    weight,
    with_random_weights,
)
from tests.test_imports import run_without_what_is_slow
from transforms.errors import InputError, UnknownNetworkError
from transforms.models import choice, litert_engine, ncnn_engine
from transforms.models.autoencoder import build_decoder, build_encoder, import_keras
from transforms.models.choice import Engine, choose_engine, load_decoder, load_encoder
from transforms.models.directory import find_model
from transforms.models.keras_file import read_layers

layers = import_keras().layers
IMAGES = np.random.default_rng(0).uniform(0, 1, (70, 28, 28, 1)).astype(np.float32)
LATENTS = np.random.default_rng(1).uniform(0, 3, (70, 32)).astype(np.float32)
NCNN, LITERT = Engine("ncnn"), Engine("litert", "int8")
SHAPES = [(28, 28, 1), (13, 9, 3)]
KERNELS = [(1, 1), (3, 3), (5, 5), (3, 1), (4, 4)]


def ncnn_network(content: bytes):
    return ncnn_engine.network(read_layers(content))


def assert_same_as_keras(network, count: int = 3) -> None:
    """The network by ncnn and by Keras, on random values."""
    found = ncnn_network(saved(network))
    assert found.input_shape == network.input_shape[1:]
    assert found.output_shape == network.output_shape[1:]
    assert found.parameters == network.count_params()
    values = np.random.default_rng(count).uniform(0, 1, (count, *found.input_shape))
    values = values.astype(np.float32)
    computed = found.compute(values)
    assert computed.dtype == np.float32
    assert computed.flags.c_contiguous
    np.testing.assert_allclose(computed, np.asarray(network(values)), atol=2e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_convolution_is_that_of_keras(shape, kernel, strides, padding):
    layer = layers.Conv2D(5, kernel, strides=strides, padding=padding, activation="relu")
    assert_same_as_keras(random_network(layer, shape=shape))


@pytest.mark.parametrize(
    ("shape", "kernel", "strides"),
    [((28, 28, 1), (1, 3), (2, 2)), ((8, 7, 16), (1, 3), (2, 1)), ((6, 7, 2), (2, 2), (3, 3))],
)
def test_a_convolution_that_needs_padding_on_one_side_alone(shape, kernel, strides):
    layer = layers.Conv2D(8, kernel, strides=strides, padding="same")
    assert_same_as_keras(random_network(layer, shape=shape))


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_a_decoder_is_that_of_keras(kernel, strides):
    transposed = {"strides": strides, "padding": "same"}
    decoder = [
        layers.Dense(9, activation="relu"),
        layers.Dense(3 * 2 * 5, activation="relu"),
        layers.Reshape((3, 2, 5)),
        layers.Conv2D(4, 3, padding="same"),
        layers.Conv2DTranspose(3, kernel, activation="relu", **transposed),
        layers.Conv2DTranspose(2, (kernel, 3), activation="sigmoid", use_bias=False, **transposed),
    ]
    assert_same_as_keras(random_network(*decoder, shape=(6,)))


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 3), (5, 1, 2)], ids=str)
def test_flattened_images_are_in_the_order_of_keras(shape):
    assert_same_as_keras(random_network(layers.Flatten(), layers.Dense(4), shape=shape))
    rows, columns, channels = shape
    there_and_back = [
        layers.Flatten(),
        layers.Dense(rows * columns * channels, activation="sigmoid"),
        layers.Reshape(shape),
        layers.Flatten(),
        layers.Dense(4),
    ]
    if rows * columns < 100:
        assert_same_as_keras(random_network(*there_and_back, shape=shape))


@pytest.mark.parametrize("size", [1, 7, 64])
def test_dense_layers_are_those_of_keras(size):
    dense = [layers.Dense(5, use_bias=False), layers.Dense(3, activation="sigmoid")]
    assert_same_as_keras(random_network(*dense, shape=(size,)))


@st.composite
def networks(draw):
    channels, filters = (draw(st.sampled_from([1, 2, 3, 4, 8, 16])) for _ in range(2))
    shape = (draw(st.integers(5, 14)), draw(st.integers(5, 14)), channels)
    stack = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["Conv2D", "Conv2DTranspose"]))
        stride = draw(st.integers(1, 2))
        described = {
            "filters": filters,
            "kernel_size": draw(st.sampled_from([stride, 3, 4, 5])),
            "strides": stride,
            "padding": "same",
            "activation": draw(st.sampled_from(["linear", "relu", "sigmoid"])),
            "use_bias": draw(st.booleans()),
        }
        stack.append((kind, described))
    if draw(st.booleans()):
        stack += [("Flatten", {}), ("Dense", {"units": draw(st.integers(1, 9))})]
    return stack, shape, draw(st.integers(0, 99))


@given(described=networks(), count=st.sampled_from([1, 2, 5]))
@settings(max_examples=25, deadline=None)
def test_any_network_is_that_of_keras(described, count):
    stack, shape, seed = described
    built = [getattr(layers, kind)(**config) for kind, config in stack]
    assert_same_as_keras(random_network(*built, shape=shape, seed=seed), count)


@pytest.fixture(scope="module")
def small() -> bytes:
    """An encoder's file that can be spoilt: a convolution, then a dense layer."""
    network = random_network(
        layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(4), shape=(8, 8, 2)
    )
    return saved(network)


OTHER_NETWORKS = {
    "dense on images": lambda: random_network(layers.Dense(4), shape=(8, 8, 2)),
    "dense on one pixel": lambda: random_network(layers.Dense(4), shape=(1, 1, 2)),
    "dense on rows": lambda: random_network(layers.Dense(4), shape=(1, 5)),
    "flatten at the end": lambda: random_network(layers.Flatten(), shape=(8, 8, 2)),
    "flatten of values": lambda: random_network(layers.Flatten(), layers.Dense(3), shape=(8,)),
    "flatten of rows": lambda: random_network(layers.Flatten(), layers.Dense(3), shape=(4, 2)),
    "flatten twice": lambda: random_network(
        layers.Flatten(), layers.Flatten(), layers.Dense(3), shape=(4, 4, 2)
    ),
    "reshape to rows": lambda: random_network(layers.Dense(12), layers.Reshape((4, 3)), shape=(8,)),
    "reshape to -1": lambda: random_network(
        layers.Dense(12), layers.Reshape((2, -1, 3)), shape=(8,)
    ),
    "reshape first": lambda: random_network(layers.Reshape((2, 2, 3)), shape=(12,)),
    "reshape twice": lambda: random_network(
        layers.Dense(12), layers.Reshape((2, 2, 3)), layers.Reshape((4, 1, 3)), shape=(8,)
    ),
    "dilation": lambda: random_network(layers.Conv2D(2, 3, dilation_rate=2), shape=(8, 8, 2)),
    "groups": lambda: random_network(layers.Conv2D(2, 3, groups=2), shape=(8, 8, 2)),
    "channels first": lambda: random_network(
        layers.Flatten(data_format="channels_first"), layers.Dense(2), shape=(2, 8, 8)
    ),
    "output padding": lambda: random_network(
        layers.Conv2DTranspose(2, 3, strides=2, padding="same", output_padding=1), shape=(4, 4, 2)
    ),
    "transposed valid": lambda: random_network(layers.Conv2DTranspose(2, 3), shape=(4, 4, 2)),
    "gaps": lambda: random_network(
        layers.Conv2DTranspose(2, 1, strides=2, padding="same"), shape=(4, 4, 2)
    ),
    "tanh": lambda: random_network(layers.Dense(2, activation="tanh"), shape=(4,)),
    "softmax": lambda: random_network(layers.Dense(2, activation="softmax"), shape=(4,)),
    "clipped": lambda: random_network(
        layers.Dense(2, activation=layers.ReLU(max_value=1.0)), shape=(4,)
    ),
    "normalization": lambda: random_network(layers.BatchNormalization(), shape=(8, 8, 2)),
    "nested": lambda: random_network(random_network(layers.Dense(2), shape=(4,)), shape=(4,)),
    "a fixed batch": lambda: import_keras().Sequential(
        [layers.Input((4,), batch_size=3), layers.Dense(2)]
    ),
    "any size": lambda: random_network(layers.Conv2D(2, 3), shape=(None, None, 2)),
    "any length": lambda: random_network(layers.Dense(2), shape=(None, 8)),
}


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_another_network_is_not_computed(name):
    if name == "output padding" and version("keras").startswith("3.12."):
        pytest.skip("Keras 3.12, the last for Python 3.10, does not save this setting")
    with pytest.raises(UnknownNetworkError):
        ncnn_network(saved(OTHER_NETWORKS[name]()))


CONVOLUTION, DENSE = "layers/conv2d/vars", "layers/dense/vars"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{CONVOLUTION}/0", np.ones((3, 3, 2, 4), np.float32)),
        (f"{CONVOLUTION}/0", np.ones((3, 3, 3, 2), np.float32)),
        (f"{DENSE}/0", np.ones((107, 4), np.float32)),
        (f"{CONVOLUTION}/2", np.ones(3, np.float32)),
        (f"{CONVOLUTION}/1", np.ones(7, np.float32)),
        (f"{CONVOLUTION}/1", np.ones(2, np.float32)),
        (f"{CONVOLUTION}/1", np.ones((1, 3), np.float32)),
        (f"{DENSE}/1", np.ones(3, np.float32)),
        (f"{DENSE}/1", np.ones(9, np.float32)),
        (f"{DENSE}/1", np.full(4, np.nan, np.float32)),
    ],
)
def test_weights_that_disagree_with_the_layers_are_not_computed(path, value, small):
    def change(file):
        if path in file:
            del file[path]
        file[path] = value

    with pytest.raises(UnknownNetworkError):
        ncnn_network(reweighted(small, change))


def settings_of(layer: int, **values):
    return lambda found: found[layer]["config"].update(values)


def without(layer: int, name: str):
    return lambda found: found[layer]["config"].pop(name)


# Keras takes those of the first group, and refuses the others.
@pytest.mark.parametrize(
    "change",
    [
        without(1, "data_format"),
        settings_of(1, activation=None),
        without(1, "strides"),
        without(1, "padding"),
        without(1, "use_bias"),
        without(1, "activation"),
        settings_of(1, strides=1),
        settings_of(1, kernel_size=3),
        settings_of(1, dilation_rate=1),
        lambda found: (
            found[0]["config"].update(batch_input_shape=[None, 8, 8, 2])
            or found[0]["config"].pop("batch_shape")
        ),
        lambda found: found.clear(),
        lambda found: found.__delitem__(slice(1, None)),
        lambda found: found.pop(0),
        lambda found: found.insert(2, found[0]),
        settings_of(1, filters=0),
        settings_of(1, padding="causal"),
        settings_of(1, groups=2),
        settings_of(1, activation=["relu"]),
        settings_of(0, batch_shape=[None, 2, 2, 2]),
        settings_of(0, batch_shape=[None, -8, -8, 2]),
        settings_of(1, padding=["same"]),
        settings_of(1, strides=[0, 0]),
        settings_of(1, strides=[-1, -1]),
        settings_of(0, batch_shape=[]),
        without(3, "units"),
    ],
)
def test_an_edited_configuration_is_not_computed(change, small):
    with pytest.raises(UnknownNetworkError):
        ncnn_network(reconfigured(small, change))


def test_fractions_are_not_computed():
    upsampling = layers.Conv2DTranspose(2, 4, strides=2, padding="same")
    content = saved(random_network(upsampling, shape=(4, 4, 2)))
    with pytest.raises(UnknownNetworkError, match="no whole numbers"):
        ncnn_network(reconfigured(content, settings_of(1, strides=[2, 0.5])))


def test_a_convolution_without_filters_is_not_computed(small):
    empty = reconfigured(small, settings_of(1, filters=0))
    empty = reweighted(empty, weight(f"{CONVOLUTION}/0", np.ones((3, 3, 2, 0), np.float32)))
    empty = reweighted(empty, weight(f"{CONVOLUTION}/1", np.ones(0, np.float32)))
    empty = reweighted(empty, weight(f"{DENSE}/0", np.ones((0, 4), np.float32)))
    with pytest.raises(UnknownNetworkError):
        ncnn_network(empty)


# One engine, by itself.


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_batches_and_threads_change_no_bit_with_ncnn(cores, monkeypatch):
    expected = load_encoder(find_model(None), NCNN).compute(IMAGES)
    monkeypatch.setattr(ncnn_engine, "usable_cores", lambda: cores)
    compute = load_encoder(find_model(None), NCNN).compute
    for sizes in ([70], [1] * 5, [31, 1, 32, 6], [33, 37]):
        ends = list(itertools.accumulate(sizes))
        parts = [compute(IMAGES[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
        np.testing.assert_array_equal(np.concatenate(parts), expected[: ends[-1]])
    assert compute(IMAGES[:0]).shape == (0, 32)


def test_threads_change_no_bit_with_litert(monkeypatch):
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(litert_engine, "usable_cores", lambda cores=cores: cores)
        found.append(load_encoder(find_model(None), LITERT).compute(IMAGES))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_threads_change_little_with_tensorflow(tmp_path):
    """As many threads give the same bits; another number of them what is the same to 1e-5."""
    images = np.random.default_rng(2).integers(0, 256, (1100, 28, 28, 1)) / np.float32(255)
    np.save(tmp_path / "images.npy", images.astype(np.float32))

    def latents(threads: int) -> np.ndarray:
        script = (
            "import sys; import numpy as np; import tensorflow as tf\n"
            "tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[2]))\n"
            "from transforms.models.choice import Engine, load_encoder\n"
            "from transforms.models.directory import find_model\n"
            "compute = load_encoder(find_model(None), Engine()).compute\n"
            "images = np.load(sys.argv[1] + '/images.npy')\n"
            "np.save(sys.argv[1] + '/latents.npy', compute(images))\n"
        )
        command = [sys.executable, "-c", script, str(tmp_path), str(threads)]
        subprocess.run(command, check=True, capture_output=True)
        found: np.ndarray = np.load(tmp_path / "latents.npy")
        return found

    one = latents(1)
    assert one.max() > 1
    np.testing.assert_array_equal(latents(1), one)
    np.testing.assert_allclose(latents(2), one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("engine", [NCNN, LITERT], ids=str)
def test_threads_share_a_network(engine):
    compute = load_encoder(find_model(None), engine).compute
    sizes = [1, 7, 32, 70, 3, 33, 70, 1] * 2
    with ThreadPoolExecutor(4) as pool:
        for size, found in zip(sizes, pool.map(lambda n: compute(IMAGES[:n]), sizes), strict=True):
            np.testing.assert_array_equal(found, compute(IMAGES[:size]))


def test_what_an_engine_gave_stays_as_it_is():
    for engine in (Engine(), NCNN, LITERT):
        compute = load_encoder(find_model(None), engine).compute
        first = compute(IMAGES[:4])
        kept = first.copy()
        compute(IMAGES[4:8])
        np.testing.assert_array_equal(first, kept)


def test_images_that_are_not_contiguous_are_computed_alike():
    turned = IMAGES.transpose(0, 2, 1, 3)[::-2]
    for engine in (Engine(), NCNN, LITERT):
        compute = load_encoder(find_model(None), engine).compute
        np.testing.assert_allclose(compute(turned), compute(turned.copy()), atol=1e-6)


@pytest.mark.parametrize("engine", [NCNN, LITERT], ids=str)
def test_a_light_engine_imports_no_tensorflow(engine):
    run_without_what_is_slow(
        "import numpy as np\n"
        "from transforms.models.choice import Engine, load_decoder, load_encoder\n"
        "from transforms.models.directory import find_model\n"
        f"encoder = load_encoder(find_model(None), {engine!r})\n"
        "latents = encoder.compute(np.zeros((2, 28, 28, 1), np.float32))\n"
        "assert load_decoder(find_model(None)).compute(latents).shape == (2, 28, 28, 1)\n"
    )


# Which one.


def engine_of(network) -> str:
    """What computes a network."""
    return network.compute.__module__.rpartition(".")[2].removesuffix("_engine")


@pytest.fixture
def without_packages(monkeypatch):
    """Makes packages look as if they were not installed."""

    def hide(*hidden: str) -> None:
        monkeypatch.setattr(
            choice, "find_spec", lambda name: None if name in hidden else sys.modules["numpy"]
        )

    return hide


@pytest.fixture(scope="module")
def plain():
    """Encoder and decoder of the package by plain Keras."""
    load = import_keras().models.load_model
    return [load(PRETRAINED / f"{name}.keras", compile=False) for name in ("encoder", "decoder")]


@pytest.fixture
def model_folder(tmp_path) -> Path:
    """A copy of the package's model, to be spoilt."""
    return Path(shutil.copytree(PRETRAINED, tmp_path / "model"))


def change_card(folder: Path, change) -> None:
    card = json.loads((folder / "model.json").read_text())
    change(card)
    (folder / "model.json").write_text(json.dumps(card))


def put(folder: Path, name: str, content: bytes) -> None:
    """Puts another file in a model's place, and its SHA-256 in the card."""
    (folder / name).write_bytes(content)
    digest = sha256(content).hexdigest()
    change_card(folder, lambda card: card["files"][name].update(sha256=digest))


@pytest.fixture
def functional(tmp_path) -> Path:
    """An encoder that Keras loads and ncnn is not used for."""
    image = layers.Input((28, 28, 1))
    network = import_keras().Model(image, layers.Dense(3)(layers.Flatten()(image)))
    network.save(tmp_path / "functional.keras")
    return tmp_path / "functional.keras"


@pytest.mark.parametrize(
    ("name", "precision", "hidden", "expected"),
    [
        (None, "float32", [], NCNN),
        (None, "float32", ["ai_edge_litert"], NCNN),
        (None, "float32", ["ncnn"], Engine("tensorflow")),
        ("tensorflow", "float32", [], Engine("tensorflow")),
        ("tensorflow", "float32", ["ncnn", "ai_edge_litert"], Engine("tensorflow")),
        ("ncnn", "float32", ["ai_edge_litert"], NCNN),
        (None, "int8", ["ncnn"], LITERT),
        ("litert", "int8", [], LITERT),
    ],
)
def test_the_engine_chosen(name, precision, hidden, expected, without_packages, plain):
    without_packages(*hidden)
    model = find_model(None)
    assert choose_engine(model, name, precision) == expected
    network = load_encoder(model, expected)
    assert engine_of(network) == expected.name
    facts = (network.input_shape, network.output_shape, network.parameters)
    assert facts == ((28, 28, 1), (32,), 494_112)
    found, reference = network.compute(IMAGES), np.asarray(plain[0](IMAGES))
    assert (found.shape, found.dtype) == ((70, 32), np.float32)
    if precision == "float32":
        np.testing.assert_allclose(found, reference, atol=2e-5)
    else:
        assert 0 < np.abs(found - reference).mean() < 0.1 * reference.std()


@pytest.mark.parametrize(
    ("name", "precision", "package"),
    [("ncnn", "float32", "ncnn"), (None, "int8", "ai_edge_litert")],
)
def test_an_engine_that_is_not_installed_is_told_how_to_get(
    name, precision, package, without_packages
):
    without_packages(package)
    engine = Engine(name or "litert", precision)
    for ask in (
        lambda: choose_engine(find_model(None), name, precision),
        lambda: load_encoder(find_model(None), engine),
    ):
        with pytest.raises(InputError, match=r"pip install 'emnist-latents\[fast\]'") as error:
            ask()
        assert engine.name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_network_that_ncnn_does_not_know_goes_to_tensorflow(functional):
    model = find_model(str(functional))
    assert choose_engine(model, None, "float32") == Engine("tensorflow")
    assert engine_of(load_encoder(model, Engine())) == "tensorflow"
    with pytest.raises(InputError, match=r"a Functional network, which ncnn is not used for: give"):
        choose_engine(model, "ncnn", "float32")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (lambda: random_network(layers.Flatten(), layers.Dense(2), shape=(28, 28, 3)), "28, 3"),
        (lambda: random_network(layers.Conv2D(2, 3), shape=(28, 28, 1)), "26, 26, 2"),
        (lambda: random_network(layers.Dense(2), shape=(784,)), "784"),
        (lambda: random_network(layers.Conv2D(2, 3), shape=(None, None, 1)), "None"),
    ],
)
def test_an_encoder_of_another_shape_is_no_encoder_for_any_engine(network, said, tmp_path):
    network().save(tmp_path / "other.keras")
    model = find_model(str(tmp_path / "other.keras"))
    engine = choose_engine(model, None, "float32")
    assert engine == Engine("tensorflow")
    with pytest.raises(InputError, match=said):
        load_encoder(model, engine)
    with pytest.raises(InputError, match=said):
        choose_engine(model, "ncnn", "float32")


def test_an_older_model_has_no_int8_encoder_and_works_in_float32(model_folder):
    (model_folder / "encoder-int8.tflite").unlink()
    change_card(model_folder, lambda card: card["files"].pop("encoder-int8.tflite"))
    model = find_model(str(model_folder))
    assert model.encoder_int8 is None
    latents = [load_encoder(model, engine).compute(IMAGES) for engine in (Engine(), NCNN)]
    np.testing.assert_allclose(*latents, atol=2e-5)
    said = "has no int8 encoder: train it again"
    with pytest.raises(InputError, match=said):
        choose_engine(model, None, "int8")
    with pytest.raises(InputError, match=said):
        load_encoder(model, LITERT)


def test_a_lone_encoder_has_none_either(tmp_path):
    shutil.copy(PRETRAINED / "encoder.keras", tmp_path / "lone.keras")
    model = find_model(str(tmp_path / "lone.keras"))
    assert choose_engine(model, None, "float32") == NCNN
    with pytest.raises(InputError, match="has no int8 encoder"):
        choose_engine(model, "litert", "int8")


@pytest.mark.parametrize(
    ("engine", "hidden", "expected"),
    [
        (None, [], "ncnn"),
        (None, ["ncnn"], "tensorflow"),
        ("ncnn", [], "ncnn"),
        ("tensorflow", [], "tensorflow"),
        ("tensorflow", ["ncnn"], "tensorflow"),
    ],
)
def test_the_decoder_loaded(engine, hidden, expected, without_packages, plain):
    without_packages(*hidden)
    network = load_decoder(find_model(None), engine)
    assert engine_of(network) == expected
    assert (network.input_shape, network.output_shape) == ((32,), (28, 28, 1))
    assert network.parameters == 617_505
    np.testing.assert_allclose(network.compute(LATENTS), np.asarray(plain[1](LATENTS)), atol=1e-5)


def test_a_decoder_that_ncnn_does_not_know_goes_to_tensorflow(model_folder, without_packages):
    values = layers.Input((32,))
    image = layers.Reshape((28, 28, 1))(layers.Dense(784, activation="tanh")(values))
    put(model_folder, "decoder.keras", saved(import_keras().Model(values, image)))
    model = find_model(str(model_folder))
    assert engine_of(load_decoder(model)) == "tensorflow"
    with pytest.raises(InputError, match="which ncnn is not used for"):
        load_decoder(model, "ncnn")
    without_packages("ncnn")
    with pytest.raises(InputError, match="pip install"):
        load_decoder(model, "ncnn")


@pytest.mark.parametrize("engine", [None, "ncnn", "tensorflow"])
def test_what_is_no_decoder_is_refused_by_any_engine(engine, model_folder):
    with pytest.raises(InputError, match="encoder alone, and cannot decode"):
        load_decoder(find_model(str(model_folder / "encoder.keras")), engine)
    put(model_folder, "decoder.keras", (model_folder / "encoder.keras").read_bytes())
    with pytest.raises(InputError, match=r"28, 28, 1\) to"):
        load_decoder(find_model(str(model_folder)), engine)


@pytest.mark.parametrize("engine", [Engine(), NCNN, LITERT], ids=str)
def test_a_file_that_changed_since_it_was_found_is_refused(engine, model_folder):
    model = find_model(str(model_folder))
    name = "encoder-int8.tflite" if engine == LITERT else "encoder.keras"
    with (model_folder / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=rf"{name} is not "):
        load_encoder(model, engine)


@pytest.mark.parametrize(
    "engine",
    [Engine(), NCNN, LITERT],
    ids=str,
)
def test_a_file_that_is_gone_since_it_was_found_is_refused(engine, model_folder):
    model = find_model(str(model_folder))
    (model_folder / ("encoder-int8.tflite" if engine == LITERT else "encoder.keras")).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_encoder(model, engine)


# Encoders in int8 that are none, although their SHA-256 is in the card.

LOADS = """
import sys
from transforms.models.choice import Engine, load_encoder
from transforms.errors import InputError
from transforms.models.directory import find_model
for folder in sys.argv[1:]:
    try:
        load_encoder(find_model(folder), Engine("litert", "int8"))
    except InputError as error:
        print(error)
"""


def test_a_damaged_int8_encoder_is_refused_in_a_line_and_crashes_nothing(tmp_path):
    content = (PRETRAINED / "encoder-int8.tflite").read_bytes()
    size = len(content)
    random = np.random.default_rng(0)
    damaged = [
        b"",
        b"TFL3",
        b"no flat buffer " * 100,
        bytes(1000),
        content[:8] + random.bytes(5000),
        *(content[:cut] for cut in (100, 4000, size // 2, size - 1000, size - 1)),
    ]
    folders = []
    for number, spoilt in enumerate(damaged):
        folders.append(shutil.copytree(PRETRAINED, tmp_path / str(number)))
        put(folders[-1], "encoder-int8.tflite", spoilt)
    command = [sys.executable, "-c", LOADS, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(folders)
    for line, folder in zip(lines, folders, strict=True):
        assert line.startswith(f"--model={folder}: its int8 encoder cannot be loaded (")
        assert line.endswith("): train it again")


@pytest.fixture
def other_tflite():
    """A network of another shape as a .tflite file."""
    import tensorflow as tf

    def convert(network) -> bytes:
        return tf.lite.TFLiteConverter.from_keras_model(network).convert()

    return convert


@pytest.mark.parametrize(
    "build",
    [
        lambda: random_network(layers.Dense(3), shape=(5,)),
        lambda: random_network(layers.Conv2D(2, 3), shape=(28, 28, 1)),
        lambda: random_network(layers.Flatten(), layers.Dense(5), shape=(28, 28, 1)),
    ],
    ids=["of values", "to images", "of 5 latents"],
)
def test_an_int8_network_that_is_no_encoder_is_refused(build, other_tflite, model_folder):
    put(model_folder, "encoder-int8.tflite", other_tflite(build()))
    with pytest.raises(InputError):
        load_encoder(find_model(str(model_folder)), LITERT)


def test_litert_computes_what_tensorflow_lite_does(other_tflite):
    network = random_network(
        layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(4), shape=(28, 28, 1)
    )
    found = litert_engine.network("m", other_tflite(network), 7)
    assert (found.input_shape, found.output_shape, found.parameters) == ((28, 28, 1), (4,), 7)
    assert found.output_step == 0  # It computes in floats.
    for count in (1, 5, 2):
        expected = np.asarray(network(IMAGES[:count]))
        np.testing.assert_allclose(found.compute(IMAGES[:count]), expected, atol=1e-5)


@pytest.mark.parametrize("build", [build_encoder, build_decoder])
def test_other_weights_of_the_packages_networks_are_computed_too(build):
    assert_same_as_keras(with_random_weights(build(), seed=3), 40)


def test_a_decoder_that_keras_3_12_wrote_is_the_same():
    """It knew no output_padding; Keras 3.12 is the last one for Python 3.10."""
    layers = read_layers((PRETRAINED / "decoder.keras").read_bytes())
    assert any("output_padding" in layer.config for layer in layers)
    older = [
        layer._replace(
            config={name: value for name, value in layer.config.items() if name != "output_padding"}
        )
        for layer in layers
    ]
    assert ncnn_engine.translate(older) == ncnn_engine.translate(layers)


def test_the_int8_encoder_gives_whole_steps():
    network = load_encoder(find_model(None), LITERT)
    steps = network.compute(IMAGES) / network.output_step
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    assert np.diff(np.unique(np.rint(steps))).min() == 1
    assert steps.max() < 256


@pytest.mark.parametrize("engine", [Engine(), NCNN])
def test_an_encoder_in_floats_has_no_steps(engine):
    assert load_encoder(find_model(None), engine).output_step == 0


def test_keras_on_another_backend_is_refused(monkeypatch):
    keras = import_keras()
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(InputError, match="Keras was imported with the backend jax: import it aft"):
        import_keras()
