"""Whole runs by each engine: the same latents, whatever the batches, threads and processes."""

import io
import json
import shutil
import subprocess
import sys
import warnings
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_job.__main__ import run
from beam_job.exit_status import WITH_REJECTS
from tests.conftest import PRETRAINED, RUNNER, compress, latents, rows, tree
from tests.test_imports import SCRIPT
from transforms.latents import METADATA_KEY
from transforms.models import choice
from transforms.models.autoencoder import import_keras

ENGINES = {
    "tensorflow": ("tensorflow", "float32", ["--engine=tensorflow"]),
    "ncnn": ("ncnn", "float32", ["--engine=ncnn"]),
    "int8": ("litert", "int8", ["--precision=int8"]),
}
THREADS = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
INSTALL = "pip install 'emnist-latents[fast]'"


@pytest.fixture(params=list(ENGINES))
def engine(request) -> str:
    return request.param


def int8_latents(images: np.ndarray) -> np.ndarray:
    """What TensorFlow's own interpreter gives for images uint8 (n, 28, 28)."""
    import tensorflow as tf

    with warnings.catch_warnings(action="ignore"):  # It is to leave TensorFlow, for LiteRT.
        interpreter = tf.lite.Interpreter(str(PRETRAINED / "encoder-int8.tflite"))
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(takes["index"], (len(images), 28, 28, 1))
    interpreter.allocate_tensors()
    interpreter.set_tensor(takes["index"], (images[..., None] / 255).astype(np.float32))
    interpreter.invoke()
    return interpreter.get_tensor(gives["index"])


def assert_latents(found: np.ndarray, images: np.ndarray, engine: str, plain_latents) -> None:
    if engine == "int8":
        expected = int8_latents(images)
        # A sum that falls on the middle of two integers may go to either.
        assert np.abs(found - expected).max() <= 0.05 * expected.max()
        assert np.abs(found - expected).mean() <= 1e-3 * expected.max()
    else:
        np.testing.assert_allclose(found, plain_latents(images), atol=2e-5)


def manifest_model(output: Path) -> dict:
    return json.loads((output / "manifest.json").read_text())["model"]


PACKAGES = {"tensorflow": "tensorflow", "ncnn": "ncnn", "litert": "ai-edge-litert"}


def test_latents_and_manifest(engine, tmp_path, idx_file, random_images, plain_latents):
    name, precision, flags = ENGINES[engine]
    argv = [f"--input={idx_file}", "--batch_size=16", "--shard_size=25", "--quiet", *flags]
    assert compress(*argv, f"--output={tmp_path}/out") == 0
    assert rows(tmp_path / "out")["image_id"].tolist() == list(range(40))
    assert_latents(latents(tmp_path / "out"), random_images, engine, plain_latents)
    model = manifest_model(tmp_path / "out")
    assert (model["engine"], model["precision"]) == (name, precision)
    for part, file in (("sha256", "encoder.keras"), ("decoder_sha256", "decoder.keras")):
        assert model[part] == sha256((PRETRAINED / file).read_bytes()).hexdigest()
    int8 = sha256((PRETRAINED / "encoder-int8.tflite").read_bytes()).hexdigest()
    assert model["int8_sha256"] == (int8 if engine == "int8" else None)
    assert (model["parameters"], model["input"]) == (494_112, [28, 28, 1])
    (part, *_) = sorted((tmp_path / "out/latents/split=train").iterdir())
    stated = json.loads(pq.read_metadata(part).metadata[METADATA_KEY])
    assert stated["model"] == model
    assert ("encoder in int8" in stated["encoding"]) == (engine == "int8")
    versions = json.loads((tmp_path / "out/manifest.json").read_text())["versions"]
    assert versions[PACKAGES[name]] == version(PACKAGES[name])


def png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return content.getvalue()


@pytest.mark.parametrize(
    "broken",
    [[*range(8), *range(16, 20)], pytest.param(range(20), marks=pytest.mark.long)],
    ids=["first and last", "all"],
)
def test_a_batch_of_rejects_alone(broken, engine, tmp_path, random_images, plain_latents):
    cells = [
        {"bytes": b"no picture" if number in broken else png(image), "path": ""}
        for number, image in enumerate(random_images[:20])
    ]
    pq.write_table(pa.table({"image": cells}), tmp_path / "images.parquet")
    flags = [f"--input={tmp_path}/images.parquet", "--max_rejects=20", "--batch_size=8"]
    output = tmp_path / "out"
    assert compress(*flags, f"--output={output}", "--quiet", *ENGINES[engine][2]) == WITH_REJECTS
    kept = [number for number in range(20) if number not in broken]
    assert rows(output)["image_id"].tolist() == kept
    if kept:
        assert_latents(latents(output), random_images[kept], engine, plain_latents)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["ncnn", "int8"])
def test_threads_write_the_same_bytes(engine, tmp_path, idx_file, capfd):
    argv = [f"--input={idx_file}", "--batch_size=7", "--shard_size=10", "--quiet"]
    argv += ENGINES[engine][2]
    assert compress(*argv, f"--output={tmp_path}/one") == 0
    assert compress(*argv, f"--output={tmp_path}/more", *THREADS) == 0
    assert capfd.readouterr().err == ""
    assert len(tree(tmp_path / "one/latents")) == 4
    assert tree(tmp_path / "one/latents") == tree(tmp_path / "more/latents")
    assert manifest_model(tmp_path / "one") == manifest_model(tmp_path / "more")


@pytest.mark.long
def test_the_size_of_batches_changes_no_byte_of_a_value_with_ncnn(tmp_path, idx_file):
    found = []
    for size in (1, 7, 40):
        argv = [f"--input={idx_file}", f"--batch_size={size}", "--quiet", "--engine=ncnn"]
        assert compress(*argv, f"--output={tmp_path}/{size}") == 0
        found.append(latents(tmp_path / str(size)))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize(
    ("missing", "expected"), [([], "ncnn"), (["ncnn", "ai_edge_litert"], "tensorflow")]
)
def test_what_is_fastest_is_taken_unasked(missing, expected, tmp_path, idx_file, monkeypatch):
    hide(monkeypatch, *missing)
    assert compress(f"--input={idx_file}", f"--output={tmp_path}/out", "--quiet") == 0
    assert manifest_model(tmp_path / "out")["engine"] == expected


def hide(monkeypatch, *packages: str) -> None:
    """Makes packages look as if they were not installed."""
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name in packages else True)


def pixels(folder: Path) -> np.ndarray:
    parts = [pq.read_table(path)["image"].to_pylist() for path in sorted(folder.rglob("*.parquet"))]
    return np.stack([np.frombuffer(image, np.uint8) for part in parts for image in part])


@pytest.mark.long
def test_reconstruct_gives_the_same_images_by_either_engine(tmp_path, idx_file):
    assert compress(f"--input={idx_file}", f"--output={tmp_path}/run", "--quiet") == 0
    decoded = {}
    for flags in ([], ["--engine=ncnn"], ["--engine=tensorflow"]):
        output = tmp_path / f"images{''.join(flags)}"
        argv = [f"--input={tmp_path}/run", f"--output={output}", "--batch_size=7", *flags]
        assert run(["reconstruct", *argv, f"--runner={RUNNER}", "--quiet"]) == 0
        decoded[(*flags,)] = pixels(output / "images").astype(int)
    plain = import_keras().models.load_model(PRETRAINED / "decoder.keras", compile=False)
    expected = 255 * plain.predict(latents(tmp_path / "run"), verbose=0).reshape(-1, 784)
    for found in decoded.values():
        assert found.shape == (40, 784)
        # Half a level by rounding; the last bit of float32 arithmetic may fall on either side.
        assert np.abs(found - expected).max() <= 0.501
    np.testing.assert_array_equal(decoded[()], decoded["--engine=ncnn",])
    assert np.abs(decoded["--engine=ncnn",] - decoded["--engine=tensorflow",]).max() <= 1


@pytest.mark.long
def test_reconstruct_by_ncnn_imports_no_tensorflow(tmp_path, idx_file):
    argv = [f"--input={idx_file}", f"--output={tmp_path}/run", "--quiet", "--precision=int8"]
    assert compress(*argv) == 0
    argv = [f"--input={tmp_path}/run", f"--originals={idx_file}", f"--output={tmp_path}/images"]
    # Beam itself takes pandas where it is installed; the report takes Matplotlib.
    refused = SCRIPT.replace('"apache_beam", ', "").replace('"matplotlib", "pandas", ', "")
    code = refused + "from beam_job.__main__ import run\nassert run(sys.argv[1:]) == 0"
    command = [sys.executable, "-c", code, "reconstruct", *argv, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def model_folder(tmp_path) -> Path:
    """A copy of the package's model, to be spoilt."""
    return Path(shutil.copytree(PRETRAINED, tmp_path / "model"))


def change_card(folder: Path, change) -> None:
    card = json.loads((folder / "model.json").read_text())
    change(card)
    (folder / "model.json").write_text(json.dumps(card))


def altered(folder: Path) -> None:
    with (folder / "encoder-int8.tflite").open("ab") as file:
        file.write(b"x")


def gone(folder: Path) -> None:
    (folder / "encoder-int8.tflite").unlink()


def cut(folder: Path) -> None:
    content = (folder / "encoder-int8.tflite").read_bytes()[:9000]
    (folder / "encoder-int8.tflite").write_bytes(content)
    digest = sha256(content).hexdigest()
    change_card(folder, lambda card: card["files"]["encoder-int8.tflite"].update(sha256=digest))


def older(folder: Path) -> None:
    gone(folder)
    change_card(folder, lambda card: card["files"].pop("encoder-int8.tflite"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (altered, "encoder-int8.tflite is not the one that model.json names"),
        (gone, "encoder-int8.tflite cannot be read"),
        (cut, "its int8 encoder cannot be loaded"),
        (
            older,
            "has no int8 encoder: train it again, which makes one, or give --precision=float32",
        ),
    ],
)
def test_an_int8_encoder_that_is_none_is_told_in_one_line(
    spoil, said, model_folder, tmp_path, idx_file, capfd
):
    spoil(model_folder)
    argv = [f"--input={idx_file}", f"--model={model_folder}", f"--output={tmp_path}/out"]
    assert compress(*argv, "--precision=int8") == 2
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert f"--model={model_folder}" in line
    assert said in line
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [[], ["--engine=tensorflow"]], ids=str)
def test_an_older_model_directory_works_in_float32(
    flags, model_folder, tmp_path, idx_file, random_images, plain_latents
):
    older(model_folder)
    argv = [f"--input={idx_file}", f"--model={model_folder}", f"--output={tmp_path}/out"]
    assert compress(*argv, *flags, "--quiet") == 0
    assert_latents(latents(tmp_path / "out"), random_images, "", plain_latents)


@pytest.mark.parametrize(
    ("flags", "package"),
    [
        (["--engine=ncnn"], "ncnn"),
        (["--precision=int8"], "ai_edge_litert"),
        (["--engine=litert", "--precision=int8"], "ai_edge_litert"),
        (["--engine=ncnn", "--plan"], "ncnn"),
    ],
    ids=str,
)
def test_an_engine_that_is_not_installed_is_told_in_one_line(
    flags, package, tmp_path, idx_file, capfd, monkeypatch
):
    hide(monkeypatch, package)
    assert compress(f"--input={idx_file}", f"--output={tmp_path}/out", *flags) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: the engine ")
    assert "is not installed: " in line
    assert INSTALL in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--engine=litert"], "--engine=litert goes with --precision=int8"),
        (["--engine=ncnn", "--precision=int8"], "--precision=int8 goes with --engine=litert: ncnn"),
        (["--engine=tensorflow", "--precision=int8"], "goes with --engine=litert: tensorflow"),
        (["--engine=torch"], "torch"),
        (["--precision=int4"], "int4"),
    ],
    ids=str,
)
def test_flags_that_do_not_go_together(flags, said, tmp_path, idx_file, capfd):
    assert compress(f"--input={idx_file}", f"--output={tmp_path}/out", *flags) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "engine    ncnn, float32"),
        (["--engine=tensorflow"], "engine    tensorflow, float32"),
        (["--precision=int8"], "engine    litert, int8"),
    ],
    ids=str,
)
def test_the_plan_names_the_engine(flags, said, tmp_path, idx_file, capsys):
    argv = [f"--input={idx_file}", f"--output={tmp_path}/out", "--plan", *flags]
    assert compress(*argv) == 0
    assert said in capsys.readouterr().out.splitlines()
