"""What many tests need: real images, the plain answer, and the command line in this process."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pytest

from beam_job.__main__ import run
from tests.support.nist import idx_images, idx_labels
from transforms.models.autoencoder import import_keras

RUNNER = "FnApiRunner"
PRETRAINED = Path(__file__).parents[1] / "transforms/pretrained"


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the caches of whoever runs it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path_factory.getbasetemp() / "keras"))


@pytest.fixture(scope="session")
def emnist_data() -> Path:
    """The folder with the official EMNIST test digits."""
    if "EMNIST_DATA" not in os.environ:
        pytest.skip("EMNIST_DATA is not set: the official EMNIST files are not at hand")
    return Path(os.environ["EMNIST_DATA"])


@pytest.fixture(scope="session")
def digits(emnist_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 official test digits, upright, uint8 (n, 28, 28), and their labels."""
    images = gzip.decompress((emnist_data / "emnist-mnist-test-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((emnist_data / "emnist-mnist-test-labels-idx1-ubyte.gz").read_bytes())
    assert struct.unpack(">IIII", images[:16]) == (2051, 10_000, 28, 28)
    stored = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return stored.swapaxes(1, 2), np.frombuffer(labels, np.uint8, offset=8)


@pytest.fixture(scope="session")
def byclass(emnist_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 116,323 images of the byclass test file, upright, uint8 (n, 28, 28), and their labels."""
    images, labels = (
        gzip.decompress((emnist_data / f"emnist-byclass-test-{kind}-ubyte.gz").read_bytes())
        for kind in ("images-idx3", "labels-idx1")
    )
    assert struct.unpack(">IIII", images[:16]) == (2051, 116_323, 28, 28)
    stored = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return stored.swapaxes(1, 2), np.frombuffer(labels, np.uint8, offset=8)


def notebook_encoder():
    """The reference encoder, built here a second time as the notebook has it, seeds 0 to 4."""
    keras = import_keras()
    seeded = [keras.initializers.GlorotUniform(seed=seed) for seed in range(5)]
    same = {"padding": "same", "activation": "relu"}
    image = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(32, (3, 3), kernel_initializer=seeded[0], **same)(image)
    x = keras.layers.Conv2D(64, (3, 3), strides=(2, 2), kernel_initializer=seeded[1], **same)(x)
    x = keras.layers.Conv2D(64, (3, 3), kernel_initializer=seeded[2], **same)(x)
    x = keras.layers.Conv2D(64, (3, 3), kernel_initializer=seeded[3], **same)(x)
    x = keras.layers.Flatten()(x)
    latent = keras.layers.Dense(32, activation="relu", kernel_initializer=seeded[4])(x)
    return keras.Model(image, latent)


@pytest.fixture(scope="session")
def keras_encoder():
    """The notebook's encoder with the weights that come with the package."""
    model = notebook_encoder()
    shipped = import_keras().models.load_model(PRETRAINED / "encoder.keras", compile=False)
    model.set_weights(shipped.get_weights())
    return model


@pytest.fixture(scope="session")
def plain_latents(keras_encoder) -> Callable[[np.ndarray], np.ndarray]:
    """encoder(images / 255) with nothing in between: uint8 (n, 28, 28) to float32 (n, 32)."""
    return lambda images: keras_encoder.predict((images / 255)[..., None], verbose=0)


@pytest.fixture
def random_images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)


@pytest.fixture
def idx_file(tmp_path: Path, random_images: np.ndarray) -> Path:
    """An IDX file of 40 images with its labels (0, 1, 2, ...) beside it."""
    path = tmp_path / "some-train-images-idx3-ubyte"
    path.write_bytes(idx_images(random_images))
    labels = tmp_path / "some-train-labels-idx1-ubyte"
    labels.write_bytes(idx_labels(np.arange(40, dtype=np.uint8)))
    return path


def compress(*flags: str) -> int:
    """Runs `compress` in this process on Beam's local runner; the exit status."""
    return run(["compress", *flags, f"--runner={RUNNER}"])


def rows(output: Path):
    """All rows of a run as a pandas table, `split` among its columns, by split and image_id."""
    table = pads.dataset(output / "latents", partitioning="hive").to_table().to_pandas()
    return table.sort_values(["split", "image_id"], ignore_index=True)


def latents(output: Path) -> np.ndarray:
    """The latents of a run by split and image_id, float32 (n, latent_size)."""
    return np.stack(rows(output)["latent"])


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
