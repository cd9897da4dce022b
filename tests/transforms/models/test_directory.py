"""Finding a model, and loading it without running anything that is in there."""

import contextlib
import importlib
import json
import pickle
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from transforms.errors import InputError
from transforms.models.autoencoder import (
    build_decoder,
    build_encoder,
    import_keras,
    load_decoder,
    load_encoder,
)
from transforms.models.directory import find_model
from transforms.models.keras_file import expects_bytes
from transforms.quantize import Quantization, calibrate

LATENT_SIZE = 4
LATENTS = np.random.default_rng(5).uniform(0, 3, (200, LATENT_SIZE)).astype(np.float32)
IMAGES = np.random.default_rng(6).uniform(0, 1, (3, 28, 28, 1)).astype(np.float32)


def make_model(folder: Path, seed: int = 0) -> Path:
    """A model directory as train writes it, with networks of 4 latents that were never trained."""
    folder.mkdir()
    build_encoder(seed, LATENT_SIZE, latent_bias=1.0).save(folder / "encoder.keras")
    build_decoder(seed, LATENT_SIZE).save(folder / "decoder.keras")
    contents = {name: (folder / name).read_bytes() for name in ("encoder.keras", "decoder.keras")}
    card = {
        "format": "emnist-latents model",
        "files": {
            name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
            for name, content in contents.items()
        },
        "quantization": {
            str(bits): msgspec.to_builtins(calibrate(LATENTS, bits)) for bits in range(4, 9)
        },
    }
    (folder / "model.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "made")


@pytest.fixture
def model(made, tmp_path) -> Path:
    """A model directory that a test may spoil."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in made.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_model_directory_is_what_its_card_says(made):
    model = find_model(str(made))
    assert (model.name, model.encoder) == (str(made), str(made / "encoder.keras"))
    assert model.decoder == str(made / "decoder.keras")
    for path, found in [
        (model.encoder, model.encoder_sha256),
        (model.decoder, model.decoder_sha256),
    ]:
        assert found == sha256(Path(path).read_bytes()).hexdigest()
    quantization = model.quantization(6)
    assert isinstance(quantization, Quantization)
    stated = json.loads((made / "model.json").read_text())["quantization"]["6"]
    assert quantization.bits == 6
    assert (list(quantization.scale), list(quantization.offset)) == (
        stated["scale"],
        stated["offset"],
    )


def test_its_networks_are_those_that_were_saved(made):
    encoder, decoder = load_encoder(find_model(str(made))), load_decoder(find_model(str(made)))
    latents = encoder.predict(IMAGES, verbose=0)
    expected = build_encoder(0, LATENT_SIZE, latent_bias=1.0).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(latents, expected, atol=1e-6)
    images = decoder.predict(latents, verbose=0)
    assert images.shape == (3, 28, 28, 1)
    expected = build_decoder(0, LATENT_SIZE).predict(latents, verbose=0)
    np.testing.assert_allclose(images, expected, atol=1e-6)


@pytest.mark.parametrize("name", [None, "pretrained"])
def test_the_model_of_the_package_has_a_name(name):
    model = find_model(name)
    assert model.name == "pretrained"
    assert Path(model.decoder).name == "decoder.keras"
    assert all(len(model.quantization(bits).scale) == 32 for bits in range(4, 9))


def card_of(folder: Path, change: Callable[[dict], Any]) -> None:
    """Changes the card of a model directory."""
    card = json.loads((folder / "model.json").read_text())
    change(card)
    (folder / "model.json").write_text(json.dumps(card))


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(InputError, match="nosuch is neither a folder with a model"):
        find_model(str(tmp_path / "nosuch"))
    with pytest.raises(InputError, match="is neither a folder with a model"):
        find_model(str(tmp_path))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "model.json").unlink(), "neither a folder with a model.json"),
        (lambda f: (f / "model.json").write_bytes(b"\xff\x00{"), "model.json is not what train"),
        (lambda f: (f / "model.json").write_text(""), "model.json is not what train"),
        (lambda f: (f / "model.json").write_text("[]"), "model.json is not what train"),
        (lambda f: (f / "model.json").write_text("[" * 100_000), "model.json is not what train"),
        (
            lambda f: card_of(f, lambda card: card.update(format="emnist-latents run")),
            "its format is 'emnist-latents run'",
        ),
        (lambda f: card_of(f, lambda card: card.pop("format")), "model.json is not what train"),
        (lambda f: card_of(f, lambda card: card.pop("quantization")), "is not what train writes"),
        (
            lambda f: card_of(f, lambda card: card.update(quantization=["x"])),
            "is not what train writes",
        ),
        (
            lambda f: card_of(f, lambda card: card["quantization"].update({"6": 1})),
            "is not what train writes",
        ),
        (
            lambda f: card_of(f, lambda card: card["files"].pop("decoder.keras")),
            "is not what train writes",
        ),
        (
            lambda f: card_of(f, lambda card: card["files"].update({"encoder.keras": "x"})),
            "is not what train writes",
        ),
        (lambda f: _append(f / "encoder.keras"), "encoder.keras is not the one that model.json"),
        (lambda f: _append(f / "decoder.keras"), "decoder.keras is not the one that model.json"),
        (lambda f: (f / "encoder.keras").unlink(), "encoder.keras cannot be read"),
        (lambda f: (f / "decoder.keras").unlink(), "decoder.keras cannot be read"),
    ],
    ids=[
        "no card",
        "binary card",
        "empty card",
        "list for a card",
        "deep card",
        "another format",
        "no format",
        "no quantization",
        "list for quantization",
        "number for quantization",
        "decoder not named",
        "text for file",
        "altered encoder",
        "altered decoder",
        "no encoder",
        "no decoder",
    ],
)
def test_a_spoilt_model_directory_is_refused_in_a_line(model, spoil, said):
    spoil(model)
    with pytest.raises(InputError, match=said) as error:
        find_model(str(model))
    assert f"--model={model}" in one_line(error)


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_bits_that_were_never_calibrated_are_no_traceback(model):
    card_of(model, lambda card: card["quantization"].pop("6"))
    with contextlib.suppress(InputError):  # As good: it is said.
        assert find_model(str(model)).quantization(6) is None


def test_files_that_change_after_they_were_found_are_refused(model):
    found = find_model(str(model))
    for name, load in [("encoder.keras", load_encoder), ("decoder.keras", load_decoder)]:
        _append(model / name)
        with pytest.raises(InputError, match=f"{name} is not what it was") as error:
            load(found)
        one_line(error)
        (model / name).unlink()
        said = rf"{name} cannot be read \(.*\): put it back"
        with pytest.raises(InputError, match=said) as error:
            load(found)
        one_line(error)


def test_a_lone_encoder_has_no_decoder(made):
    model = find_model(str(made / "encoder.keras"))
    assert (model.decoder, model.decoder_sha256, model.card) == (None, None, None)
    assert model.quantization(8) is None
    assert load_encoder(model).predict(IMAGES, verbose=0).shape == (3, LATENT_SIZE)
    with pytest.raises(InputError, match="is an encoder alone, and cannot decode"):
        load_decoder(model)


def test_a_decoder_of_another_shape_is_refused(model):
    keras = import_keras()
    layers = keras.layers
    halves = [layers.Input((LATENT_SIZE,)), layers.Dense(14 * 14), layers.Reshape((14, 14, 1))]
    for network in (keras.Sequential(halves), build_encoder(0, LATENT_SIZE)):
        network.save(model / "decoder.keras")
        digest = sha256((model / "decoder.keras").read_bytes()).hexdigest()
        card_of(model, lambda card, at=digest: card["files"]["decoder.keras"].update(sha256=at))
        with pytest.raises(InputError):
            load_decoder(find_model(str(model)))


# What follows must not run. Each case leaves a mark where it does.


class Trap:
    """Things that leave a mark once they run."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "it-ran"
        self.module = folder / "evil_module.py"
        self.module.write_text(
            f"import pathlib\npathlib.Path({str(self.mark)!r}).touch()\n"
            "def run(*args, **kwargs): pass\nclass Layer: pass\n"
        )

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)

    @property
    def has_sprung(self) -> bool:
        return self.mark.exists()


@pytest.fixture
def trap(tmp_path, monkeypatch):
    folder = tmp_path / "trap"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield Trap(folder)
    sys.modules.pop("evil_module", None)


def test_the_trap_works(trap):
    assert not trap.has_sprung
    importlib.import_module("evil_module")
    assert trap.has_sprung
    trap.mark.unlink()
    pickle.loads(pickle.dumps(trap))
    assert trap.has_sprung


def refused(path: Path, said: str) -> str:
    """The line in which both networks of a `.keras` file are refused."""
    lone = find_model(str(path))
    as_decoder = replace(lone, decoder=lone.encoder, decoder_sha256=lone.encoder_sha256)
    with pytest.raises(InputError, match=said) as error:
        load_encoder(lone)
    with pytest.raises(InputError, match=said):
        load_decoder(as_decoder)
    assert str(path) in one_line(error)
    return str(error.value)


def rewritten(source: Path, target: Path, change: Callable[[Any], Any], **extra: bytes) -> Path:
    """A `.keras` file with its config.json changed, and more members."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    members["config.json"] = json.dumps(change(config)).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in {**members, **extra}.items():
            archive.writestr(name, content)
    return target


def first_layer(config: dict) -> dict:
    """The Conv2D of an encoder's configuration, to be changed."""
    (found, *_) = [one for one in config["config"]["layers"] if one["class_name"] == "Conv2D"]
    return found


def with_layer(**names: Any) -> Callable[[dict], dict]:
    def change(config: dict) -> dict:
        first_layer(config).update({"registered_name": None, **names})
        return config

    return change


def with_setting(name: str, value: Any) -> Callable[[dict], dict]:
    def change(config: dict) -> dict:
        first_layer(config)["config"][name] = value
        return config

    return change


def named(module: str | None, name: str, config: Any = None, **more: Any) -> dict:
    return {
        "module": module,
        "class_name": name,
        "config": {} if config is None else config,
        "registered_name": None,
        **more,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_layer(module="subprocess", class_name="run"), "subprocess.run, which may run code"),
        (with_layer(module="evil_module", class_name="Layer"), "evil_module.Layer, which may run"),
        (with_layer(module="keras.evil_module", class_name="Layer"), "keras.evil_module.Layer"),
        (with_layer(module="keras.src.layers", class_name="Dense"), "keras.src.layers.Dense"),
        (with_layer(module="keras.utils", class_name="get_file"), "keras.utils.get_file"),
        (with_layer(module=None, class_name="Layer"), "None.Layer, which may run code"),
        (with_layer(registered_name="evil_module>Layer"), "keras.layers.Conv2D, which may run"),
        (
            with_layer(module="keras.src.engine.functional", class_name="Functional"),
            r"was saved by Keras 2 \(keras.src.engine.functional.Functional\): load it there, and",
        ),
        (
            with_layer(module="keras.src.ops.numpy", class_name="Multiply"),
            "computes with keras.src.ops.numpy.Multiply outside of a layer, which is not read",
        ),
        (with_layer(class_name="Lambda"), "keras.layers.Lambda, which may run code"),
        (with_layer(class_name="TFSMLayer"), "keras.layers.TFSMLayer, which may run code"),
        (with_layer(class_name="TorchModuleWrapper"), "TorchModuleWrapper, which may run"),
        (
            with_setting("activation", named("evil_module", "function", "run")),
            "evil_module.function, which may run code",
        ),
        (
            with_setting("activation", named("builtins", "function", "exec")),
            "builtins.function, which may run code",
        ),
        (
            with_setting("activation", named("builtins", "__lambda__", {"value": "x"})),
            "builtins.__lambda__, which may run code",
        ),
        (
            with_setting("kernel_initializer", named("evil_module", "run")),
            "evil_module.run, which may run code",
        ),
        (
            with_setting("name", {"a": [{"b": named("evil_module", "run")}]}),
            "evil_module.run, which may run code",
        ),
        (lambda config: {**config, "module": "evil_module"}, "evil_module.Sequential, which may"),
        # Keras finds "layers.Lambda" of module "keras" as well as "Lambda" of "keras.layers".
        (with_layer(module="keras", class_name="layers.Lambda"), "Lambda, which may run code"),
        (with_layer(module="keras", class_name="utils.get_file"), "get_file, which may run code"),
        (lambda config: [config], "cannot be loaded as a Keras model"),
        (lambda _: {}, "cannot be loaded as a Keras model"),
    ],
)
def test_what_may_run_code_is_refused(change, said, made, tmp_path, trap):
    path = rewritten(made / "encoder.keras", tmp_path / "evil.keras", change)
    refused(path, said)
    assert "evil_module" not in sys.modules
    assert not trap.has_sprung


def test_what_a_model_was_trained_with_is_not_loaded(made, tmp_path, trap):
    def with_a_loss(config: dict) -> dict:
        return {**config, "compile_config": {"loss": named("evil_module", "run")}}

    path = rewritten(made / "encoder.keras", tmp_path / "loss.keras", with_a_loss)
    assert load_encoder(find_model(str(path))).output_shape == (None, LATENT_SIZE)
    assert "evil_module" not in sys.modules
    assert not trap.has_sprung


@pytest.mark.parametrize(
    ("first", "expects"),
    [
        (lambda layers: layers.Rescaling(1 / 255), True),
        (lambda layers: layers.Rescaling(1 / 127.5, offset=-1), True),
        (lambda layers: layers.Rescaling(2.0), False),
    ],
)
def test_an_encoder_that_begins_with_a_rescaling_gets_what_it_expects(tmp_path, first, expects):
    keras = import_keras()
    layers = [first(keras.layers), keras.layers.Flatten(), keras.layers.Dense(4)]
    model = keras.Sequential([keras.layers.Input((28, 28, 1)), *layers])
    model.save(tmp_path / "m.keras")
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.float32)
    loaded = load_encoder(find_model(str(tmp_path / "m.keras")))
    expected = model.predict(images if expects else images / 255, verbose=0)
    np.testing.assert_allclose(loaded.predict(images / 255, verbose=0), expected, atol=1e-4)
    assert expects_bytes((tmp_path / "m.keras").read_bytes()) is expects


def test_another_member_in_the_file_is_refused(made, tmp_path, trap):
    extra = {"evil.pkl": pickle.dumps(trap)}
    path = rewritten(made / "encoder.keras", tmp_path / "evil.keras", lambda same: same, **extra)
    refused(path, "evil.pkl, which may run code")
    assets = {"assets/evil_module.py": trap.module.read_bytes()}
    path = rewritten(made / "encoder.keras", tmp_path / "assets.keras", lambda same: same, **assets)
    refused(path, "assets/evil_module.py, which may run code")
    assert not trap.has_sprung


def test_a_lambda_is_not_run(tmp_path, trap):
    keras = import_keras()
    mark = str(trap.mark)

    spring = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(mark).touch(), x)[1])
    layers = [keras.layers.Input((28, 28, 1)), spring, keras.layers.Flatten()]
    path = tmp_path / "lambda.keras"
    keras.Sequential(layers).save(path)
    trap.mark.unlink()  # Building it has run it.
    refused(path, "which may run code")
    assert not trap.has_sprung
    keras.saving.load_model(path, safe_mode=False)
    assert trap.has_sprung


def test_a_registered_class_is_not_run(tmp_path, trap):
    keras = import_keras()
    mark = trap.mark

    @keras.saving.register_keras_serializable("tests", "Sprung")
    class Sprung(keras.layers.Layer):
        def call(self, x):
            return x

        @classmethod
        def from_config(cls, config):
            mark.touch()
            return cls(**config)

    layers = [keras.layers.Input((28, 28, 1)), Sprung(), keras.layers.Flatten()]
    path = tmp_path / "registered.keras"
    keras.Sequential(layers).save(path)
    refused(path, "Sprung, which may run code")
    assert not trap.has_sprung
    keras.saving.load_model(path)
    assert trap.has_sprung


def with_cut_deflate(path: Path) -> None:
    """A zip whose compressed config.json cannot be inflated."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"a": list(range(1000))}))
    content = bytearray(path.read_bytes())
    start = 30 + len("config.json")
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)


def with_a_password(path: Path) -> None:
    """A zip whose config.json says that it is encrypted."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    content = bytearray(path.read_bytes())
    content[6] |= 1
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    path.write_bytes(content)


def with_config(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", text)

    return write


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no zip"),
        lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 100),
        lambda path: zipfile.ZipFile(path, "w").close(),
        with_config("no JSON"),
        with_config("[" * 100_000),
        with_cut_deflate,
        with_a_password,
    ],
    ids=["empty", "text", "cut", "no member", "no JSON", "deep JSON", "damaged", "encrypted"],
)
def test_what_is_no_keras_file_is_refused_in_a_line(write, tmp_path):
    path = tmp_path / "no.keras"
    write(path)
    refused(path, "is no .keras file .*save one with model.save")


def test_the_damaged_file_is_what_it_is_meant_to_be(tmp_path):
    with_cut_deflate(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive, pytest.raises(zlib.error):
        archive.read("config.json")


def test_weights_that_are_missing_are_refused(made, tmp_path):
    with zipfile.ZipFile(made / "encoder.keras") as archive:
        config, metadata = archive.read("config.json"), archive.read("metadata.json")
    path = tmp_path / "bare.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", metadata)
    refused(path, "no .keras file")


def own_layers(keras: Any) -> list:
    layers = keras.layers
    return [
        layers.Input((28, 28, 1)),
        layers.Rescaling(2.0, offset=-1.0),
        layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(1e-4), activation="gelu"),
        layers.BatchNormalization(),
        layers.LeakyReLU(),
        layers.MaxPooling2D(),
        layers.SpatialDropout2D(0.1),
        layers.Flatten(),
        layers.Dense(8, activation=layers.ReLU(), kernel_constraint=keras.constraints.MaxNorm(3)),
        layers.Dense(6, activation=keras.activations.softplus, bias_initializer="ones"),
    ]


def sequential(keras: Any) -> Any:
    return keras.Sequential(own_layers(keras))


def functional(keras: Any) -> Any:
    layers = keras.layers
    image = layers.Input((28, 28, 1), name="picture")
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    y = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    z = layers.Concatenate()([x, layers.Activation("tanh")(y)])
    return keras.Model(image, layers.Dense(6)(layers.GlobalAveragePooling2D()(z)))


def nested(keras: Any) -> Any:
    image = keras.layers.Input((28, 28, 1))
    return keras.Model(image, keras.layers.Dense(5)(functional(keras)(image)))


def compiled_and_trained(keras: Any) -> Any:
    """An encoder that its maker fitted, and saved as model.save() does."""
    model = sequential(keras)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse", metrics=["mae"])
    model.fit(IMAGES, np.zeros((len(IMAGES), 6)), verbose=0)
    return model


@pytest.mark.parametrize("build", [sequential, functional, nested, compiled_and_trained])
def test_a_model_of_keras_own_layers_is_taken(build, tmp_path):
    network = build(import_keras())
    network.save(tmp_path / "own.keras")
    loaded = load_encoder(find_model(str(tmp_path / "own.keras")))
    np.testing.assert_allclose(
        loaded.predict(IMAGES, verbose=0), network.predict(IMAGES, verbose=0), atol=1e-6
    )
