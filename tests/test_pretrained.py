"""The weights that come with the package, on real images that they were never trained on."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.conftest import PRETRAINED
from transforms.models.arrays import latents_of
from transforms.models.autoencoder import import_keras
from transforms.models.choice import Engine, load_decoder, load_encoder
from transforms.models.directory import find_model

CARD = json.loads((PRETRAINED / "model.json").read_text())


@pytest.fixture(scope="module")
def networks():
    """Encoder and decoder by plain Keras."""
    load = import_keras().models.load_model
    return [load(PRETRAINED / f"{name}.keras", compile=False) for name in ("encoder", "decoder")]


@pytest.fixture(scope="module")
def letters(emnist_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The az letters, upright as they are stored, and their labels."""
    images, labels = (
        gzip.decompress((emnist_data / f"az-letters-{kind}-ubyte.gz").read_bytes())
        for kind in ("images-idx3", "labels-idx1")
    )
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels, np.frombuffer(labels, np.uint8, offset=8)


@pytest.fixture(scope="module", params=["digits", "letters"])
def kind(request, digits, letters) -> tuple[str, np.ndarray, np.ndarray]:
    images, labels = {"digits": digits, "letters": letters}[request.param]
    return request.param, images, labels


def held_out(images: np.ndarray) -> np.ndarray:
    return np.arange(len(images)) % 10 == 9


def encoded(networks, images: np.ndarray) -> np.ndarray:
    return networks[0].predict((images / 255)[..., None], batch_size=1024, verbose=0)


def psnr(networks, images: np.ndarray, latents: np.ndarray) -> float:
    decoded = networks[1].predict(latents.astype(np.float32), batch_size=1024, verbose=0)
    error = images - np.rint(decoded[..., 0] * 255)
    return 10 * np.log10(255**2 / np.mean(error**2))


def test_the_encoder_is_the_notebooks(networks):
    layers = [
        (layer.__class__.__name__, layer.get_config().get("activation"))
        for layer in networks[0].layers
    ]
    assert layers == [*[("Conv2D", "relu")] * 4, ("Flatten", None), ("Dense", "relu")]
    shapes = [weight.shape for weight in networks[0].get_weights()[::2]]
    assert shapes == [(3, 3, 1, 32), (3, 3, 32, 64), (3, 3, 64, 64), (3, 3, 64, 64), (12544, 32)]
    assert [layer.strides for layer in networks[0].layers[:4]] == [(1, 1), (2, 2), (1, 1), (1, 1)]


def test_both_are_small():
    files = [PRETRAINED / name for name in ("encoder.keras", "decoder.keras")]
    assert sum(path.stat().st_size for path in files) <= 12e6


def test_held_out_images_come_back(networks, kind):
    name, images, _ = kind
    seen = images[held_out(images)].astype(float)
    latents = encoded(networks, seen)
    floats = psnr(networks, seen, latents)
    assert floats >= {"digits": 24.8, "letters": 23.8}[name]
    assert floats == pytest.approx(CARD["quality"][name]["float32"]["psnr"], abs=0.01)
    assert (latents > 0).any(axis=0).all(), "a unit is dead"
    for bits, loss in ((8, 0.05), (5, 0.3)):
        quantization = CARD["quantization"][str(bits)]
        scale, offset = (np.array(quantization[key]) for key in ("scale", "offset"))
        numbers = np.clip(np.rint((latents - offset) / scale), 0, 2**bits - 1)
        assert floats - psnr(networks, seen, offset + scale * numbers) <= loss, f"{bits} bits"


def test_ncnn_gives_the_latents_and_images_of_keras(networks, kind):
    _, images, _ = kind
    seen = images[held_out(images)]
    latents = encoded(networks, seen)
    model = find_model(None)
    found = latents_of(load_encoder(model, Engine("ncnn")).compute, seen.reshape(-1, 784))
    np.testing.assert_allclose(found, latents, atol=2e-5)
    decoded = load_decoder(model, "ncnn").compute(latents)
    expected = networks[1].predict(latents, batch_size=1024, verbose=0)
    np.testing.assert_allclose(decoded, expected, atol=3e-5)


def test_int8_costs_at_most_a_twentieth_of_a_decibel(networks, kind):
    name, images, _ = kind
    seen = images[held_out(images)]
    encode = load_encoder(find_model(None), Engine("litert", "int8")).compute
    floats = psnr(networks, seen.astype(float), encoded(networks, seen))
    integers = psnr(networks, seen.astype(float), latents_of(encode, seen.reshape(-1, 784)))
    assert floats - integers <= 0.05
    stated = CARD["quality"][name]["float32 by the int8 encoder"]["psnr"]
    assert integers == pytest.approx(stated, abs=0.01)


def test_as_much_of_the_class_survives_as_in_32_principal_components(networks, kind):
    _, images, labels = kind
    out = held_out(images)
    flat = images.reshape(len(images), -1) / 255
    components = PCA(32, random_state=0).fit(flat[~out]).transform(flat)
    accuracies = []
    for features in (encoded(networks, images), components):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        classifier.fit(features[~out], labels[~out])
        accuracies.append(classifier.score(features[out], labels[out]))
    assert accuracies[0] >= accuracies[1]


def test_the_card_says_plainly_what_they_were_trained_on():
    assert "no real lower-case letter" in CARD["data"]["note"]
    assert CARD["data"]["held_out_images"] == {"digits": 1000, "letters": 494}
    assert "image_id % 10 == 9" in CARD["data"]["split"]
    assert CARD["latent"]["dead"] == []
    assert CARD["warnings"] == []
