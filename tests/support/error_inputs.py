"""The wrong inputs that the catalogue of errors is made of, as files in the current folder."""

import io
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.conftest import PRETRAINED
from tests.support.keras_files import saved
from tests.support.nist import idx_images
from transforms.models.autoencoder import import_keras

Prepare = Callable[[], None]
"""Makes what a command is to trip over, in the current folder."""

IMAGES = np.random.default_rng(4).integers(0, 256, (6, 28, 28), np.uint8)
IDX = idx_images(IMAGES)
RUN_FILE = "run/latents/split=all/part-00000-of-00001.parquet"


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def parquet(**columns: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def staged(
    image_ids: list[int | None],
    kind: pa.DataType = pa.int64(),  # noqa: B008
    character: str | None = None,
) -> bytes:
    """Staged Parquet of black images, of label 0. character: what that stands for."""
    rows = len(image_ids)
    table = pa.table(
        {
            "image_id": pa.array(image_ids, kind),
            "label": pa.array([0] * rows, pa.uint8()),
            "image": pa.array([bytes(784)] * rows, pa.binary(784)),
        }
    )
    if character is not None:
        described = json.dumps({"characters": {"0": character}})
        table = table.replace_schema_metadata({"emnist_images": described})
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def pictures(*contents: bytes | None) -> list[dict[str, Any]]:
    """A column of images as Hugging Face has it."""
    return [{"bytes": content, "path": ""} for content in contents]


def encoded(kind: str, image: Image.Image, **settings: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


def png(side: int = 28, mode: str = "L") -> bytes:
    content = io.BytesIO()
    Image.new(mode, (side, side)).save(content, "PNG")
    return content.getvalue()


def at(contents: dict[str, bytes]) -> Prepare:
    """Files by path."""

    def prepare() -> None:
        for name, content in contents.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content)

    return prepare


def nothing() -> None:
    """No files."""


def input_and(*steps: Prepare) -> Prepare:
    """Good images in `f`, and something else."""

    def prepare() -> None:
        for step in (at({"f": IDX}), *steps):
            step()

    return prepare


def link_to_itself() -> None:
    Path("loop").symlink_to("loop")


def removed(path: str) -> Prepare:
    return lambda: Path(path).unlink()


def altered(path: str) -> Prepare:
    """A file whose last byte is another."""

    def prepare() -> None:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    return prepare


def manifest(change: Callable[[dict[str, Any]], Any]) -> Prepare:
    """The run's manifest, changed in place."""

    def prepare() -> None:
        path = Path("run/manifest.json")
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return prepare


def model(*steps: Prepare) -> Prepare:
    """A model directory `m`, and what is done to it."""

    def prepare() -> None:
        shutil.copytree(PRETRAINED, "m")
        for step in steps:
            step()

    return prepare


def replaced(name: str, content: Callable[[], bytes]) -> Prepare:
    """Another file in the model directory, by whose checksum its card goes."""

    def prepare() -> None:
        Path("m", name).write_bytes(content())
        card = json.loads(Path("m/model.json").read_text())
        card["files"][name]["sha256"] = sha256(Path("m", name).read_bytes()).hexdigest()
        Path("m/model.json").write_text(json.dumps(card))

    return prepare


def int8_of_another_shape() -> bytes:
    """A LiteRT network that maps (7,) to (3,)."""
    import_keras()
    import tensorflow as tf

    function = tf.function(lambda x: x[:, :3], input_signature=[tf.TensorSpec([1, 7], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    content: bytes = converter.convert()
    return content


def network(build: Callable[[Any], Any]) -> Prepare:
    """`m.keras`, of what is built of the module keras."""

    def prepare() -> None:
        build(import_keras()).save("m.keras")

    return prepare


def sequential(keras: Any, *layers: Any, shape: tuple[int, ...] = (28, 28, 1)) -> Any:
    return keras.Sequential([keras.layers.Input(shape), *layers])


def small_encoder() -> bytes:
    """The file of an encoder to 2 latents, which is not built as those of train are."""
    keras = import_keras()
    return saved(sequential(keras, keras.layers.Flatten(), keras.layers.Dense(2)))


def functional(keras: Any) -> Any:
    image = keras.Input((28, 28, 1))
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))


def with_lambda(keras: Any) -> Any:
    return sequential(keras, keras.layers.Flatten(), keras.layers.Lambda(lambda x: x[:, :8]))


def two_outputs(keras: Any) -> Any:
    image = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(image)
    return keras.Model(image, [flat, flat])


def filled(value: float) -> Callable[[Any], Any]:
    """An encoder to 2 latents that gives one value for every image."""

    def build(keras: Any) -> Any:
        encoder = sequential(keras, keras.layers.Flatten(), keras.layers.Dense(2))
        encoder.set_weights([np.zeros((784, 2)), np.full(2, value)])
        return encoder

    return build
