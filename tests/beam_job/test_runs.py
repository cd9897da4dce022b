"""Runs as a program opens them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import beam_job
from beam_job import Run, open_run
from tests.conftest import PRETRAINED, compress, rows
from transforms.errors import InputError
from transforms.models.autoencoder import import_keras


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the sample in int8, in several shards."""
    folder = tmp_path_factory.mktemp("run")
    flags = ("--dataset=sample", f"--data_dir={folder}/data", "--shard_size=700", "--quiet")
    assert compress(*flags, "--latent_dtype=int8", f"--output={folder}/out") == 0
    return folder / "out"


@pytest.fixture(scope="module")
def opened(folder: Path) -> Run:
    return open_run(folder)


def plain_values(folder: Path) -> np.ndarray:
    """Offset + scale * number of all rows, by split and image_id."""
    model = json.loads((folder / "manifest.json").read_text())["model"]
    scale, offset = (np.array(model["quantization"][name]) for name in ("scale", "offset"))
    return offset + scale * np.stack(rows(folder)["latent"])


def test_a_table_has_all_rows_with_their_values(folder: Path, opened: Run):
    table, expected = opened.to_table(), rows(folder)
    assert table.schema.names == ["split", "image_id", "label", "character", "latent"]
    assert table.schema.field("latent").type == pa.list_(pa.field("element", pa.float32()), 32)
    for name in ("split", "image_id", "label", "character"):
        assert table.column(name).to_pylist() == expected[name].tolist()
    values = np.array(table.column("latent").to_pylist(), np.float32)
    np.testing.assert_allclose(values, plain_values(folder), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(opened.to_numpy(), values)


def test_a_split_alone(opened: Run):
    assert opened.splits == {"test": 297, "train": 1500}
    test = opened.to_table("test")
    assert set(test.column("split").to_pylist()) == {"test"}
    np.testing.assert_array_equal(opened.to_numpy("test"), opened.to_numpy()[:297])
    assert opened.to_numpy("train").shape == (1500, 32)


def test_images_are_encoded_and_latents_decoded_as_the_networks_do(
    opened: Run, plain_latents, random_images: np.ndarray
):
    latents = opened.encode(random_images)
    np.testing.assert_allclose(latents, plain_latents(random_images), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(opened.encode(random_images.reshape(-1, 784)), latents)
    decoder = import_keras().models.load_model(PRETRAINED / "decoder.keras", compile=False)
    some = opened.to_numpy("test")[:50]
    expected = np.rint(255 * decoder.predict(some, verbose=0)[..., 0])
    decoded = opened.decode(some)
    assert (decoded.shape, decoded.dtype) == ((50, 28, 28), np.uint8)
    assert np.abs(decoded - expected).max() <= 1
    assert opened.encode(random_images[:0]).shape == (0, 32)
    assert opened.decode(some[:0]).shape == (0, 28, 28)


def test_documents(folder: Path, opened: Run):
    sizes = json.loads((folder / "sizes.json").read_text())
    assert opened.sizes.total.parquet_bytes == sizes["total"]["parquet_bytes"]
    assert opened.sizes.splits["test"].images == 297
    assert opened.characters == {digit: str(digit) for digit in range(10)}
    assert opened.manifest.model.latent_dtype == "int8"
    assert repr(opened) == f"Run('{folder}', splits={opened.splits}, latent_size=32)"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda run: run.to_table("all"), "there is no split 'all': give one of test, train"),
        (lambda run: run.encode(np.zeros((2, 28, 28))), "images are float64 (2, 28, 28): give"),
        (lambda run: run.encode(np.zeros((28, 28), np.uint8)), "images are uint8 (28, 28): give"),
        (lambda run: run.decode(np.zeros(32)), "latents are of shape (32,): give (n, 32)"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(call, said: str, opened: Run):
    with pytest.raises(InputError) as refused:
        call(opened)
    assert str(refused.value).startswith(said)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        open_run(tmp_path)


def test_what_reads_encodes_and_decodes_imports_neither_beam_nor_tensorflow(folder: Path):
    code = """
import sys
import beam_job

run = beam_job.open_run(sys.argv[1])
images = run.decode(run.to_numpy("test")[:3])
assert run.encode(images).shape == (3, 32) and run.to_table().num_rows == run.sizes.total.images
heavy = {"apache_beam", "tensorflow", "keras", "matplotlib", "sklearn", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def test_every_public_name_is_there():
    assert all(hasattr(beam_job, name) for name in beam_job.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nosuch'"):
        beam_job.Nosuch  # noqa: B018
