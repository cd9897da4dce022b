"""Training through the command line: what it writes, what it goes on with, what it refuses."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_job.__main__ import run
from tests.conftest import compress, latents, tree
from tests.support.nist import idx_images
from transforms.models.autoencoder import import_keras

pytestmark = pytest.mark.long

EPOCHS = 2


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"--data_dir={tmp_path_factory.mktemp('staged')}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> Path:
    """A model directory, trained on the sample for a moment."""
    output = tmp_path_factory.mktemp("model") / "model"
    flags = ["--dataset=sample", data_dir, f"--epochs={EPOCHS}", "--quiet"]
    assert run(["train", f"--output={output}", *flags]) == 0
    return output


def test_a_model_directory_says_what_it_is(model):
    card = json.loads((model / "model.json").read_text())
    assert sorted(tree(model)) == [
        "README.md",
        "_claim.json",
        "decoder.keras",
        "encoder-int8.tflite",
        "encoder.keras",
        "learning_curve.png",
        "model.json",
        "worst.png",
    ]
    assert sorted(card["files"]) == ["decoder.keras", "encoder-int8.tflite", "encoder.keras"]
    for name, facts in card["files"].items():
        content = (model / name).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    # 1,500 training images, of which every tenth chooses the weights; the test split is held out.
    assert card["data"]["training_images"] == 1_350
    assert card["data"]["validation_images"] == 150
    assert card["data"]["held_out_images"] == {"split test": 297}
    assert [epoch["epoch"] for epoch in card["history"]] == [1, 2]
    assert card["settings"]["epochs"] == EPOCHS
    assert len(card["latent"]["active"]) == 32
    assert list(card["quantization"]) == ["4", "5", "6", "7", "8"]


def test_the_page_has_the_worst_class_and_pictures_that_open(model):
    card = json.loads((model / "model.json").read_text())
    worst = min(card["classes"], key=lambda name: card["classes"][name]["psnr"])
    page = (model / "README.md").read_text()
    assert f"It is worst at `{worst}`" in page
    assert sum(summary["images"] for summary in card["classes"].values()) == 297
    for name in ("learning_curve.png", "worst.png"):
        assert f"]({name})" in page
        assert min(Image.open(model / name).size) > 100


def test_the_card_states_the_quality_that_plain_keras_finds(model):
    from beam_job.datasets.sample import sample_splits

    keras = import_keras()
    images = sample_splits()["test"].images
    encoder, decoder = (
        keras.models.load_model(model / f"{name}.keras", compile=False)
        for name in ("encoder", "decoder")
    )
    pixels = np.reshape(images, (-1, 28, 28, 1))
    decoded = decoder.predict(encoder.predict(pixels / 255, verbose=0), verbose=0)
    error = pixels.astype(float) - np.rint(decoded * 255)
    psnr = 10 * np.log10(255**2 / np.mean(error**2))
    card = json.loads((model / "model.json").read_text())
    assert card["quality"]["split test"]["float32"]["psnr"] == pytest.approx(psnr, abs=0.001)


def test_the_card_states_the_quality_of_the_int8_encoder(model):
    from beam_job.datasets.sample import sample_splits
    from transforms.models.choice import Engine, load_encoder
    from transforms.models.directory import find_model

    pixels = np.reshape(sample_splits()["test"].images, (-1, 28, 28, 1))
    encode = load_encoder(find_model(str(model)), Engine("litert", "int8")).compute
    decoder = import_keras().models.load_model(model / "decoder.keras", compile=False)
    decoded = decoder.predict(encode((pixels / 255).astype(np.float32)), verbose=0)
    error = pixels.astype(float) - np.rint(decoded * 255)
    card = json.loads((model / "model.json").read_text())
    quality = card["quality"]["split test"]
    stated = quality["float32 by the int8 encoder"]["psnr"]
    assert stated == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)), abs=0.001)
    assert quality["float32"]["psnr"] - stated <= 0.05
    assert not any("int8" in warning for warning in card["warnings"])


def test_compress_takes_its_int8_encoder(model, tmp_path, data_dir):
    flags = ["--dataset=sample", data_dir, f"--model={model}", "--precision=int8", "--quiet"]
    assert compress(*flags, f"--output={tmp_path}/run") == 0
    described = json.loads((tmp_path / "run/manifest.json").read_text())["model"]
    content = (model / "encoder-int8.tflite").read_bytes()
    assert described["int8_sha256"] == hashlib.sha256(content).hexdigest()


def test_compress_takes_the_model(model, tmp_path, data_dir):
    flags = ["--dataset=sample", data_dir, f"--model={model}", "--quiet"]
    assert compress(*flags, f"--output={tmp_path}/run", "--latent_dtype=int8") == 0
    stored = latents(tmp_path / "run")
    assert stored.dtype == np.uint8
    described = json.loads((tmp_path / "run/manifest.json").read_text())["model"]
    card = json.loads((model / "model.json").read_text())
    assert described["quantization"] == card["quantization"]["8"]
    assert described["latent_bytes"] == 32


@pytest.mark.parametrize(
    ("epochs", "older", "hint"),
    [
        (0, False, ""),
        (1, False, "; --resume continues from its last epoch"),
        (1, True, "; --overwrite --resume continues from its last epoch"),
    ],
)
def test_an_interrupt_says_how_to_go_on(
    tmp_path, data_dir, monkeypatch, capfd, epochs, older, hint
):
    from beam_job.train import model as train
    from beam_job.train.fit import Progress

    def interrupted(*given: Any, **_: object) -> None:
        for _ in range(epochs):
            given[4](Progress())
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", interrupted)
    monkeypatch.setattr(train, "checkpoint_bytes", lambda *_: b"a checkpoint")
    argv = ["train", "--dataset=sample", data_dir, f"--output={tmp_path}/model", "--quiet"]
    (tmp_path / "model").mkdir()
    if older:
        (tmp_path / "model/model.json").write_text("{}")
        argv.append("--overwrite")
    assert run(argv) == 130
    line = capfd.readouterr().err.splitlines()[-1]
    assert line == f"interrupted; nothing was published{hint}"
    assert (tmp_path / "model/checkpoint.npz").exists() == bool(epochs)


def test_training_that_was_killed_goes_on_from_its_last_epoch(tmp_path, data_dir, capfd):
    argv = ["train", "--dataset=sample", data_dir, "--epochs=4", "--quiet"]
    command = [sys.executable, "-m", "beam_job", *argv, f"--output={tmp_path}/killed"]
    process = subprocess.Popen(command)
    checkpoint = tmp_path / "killed/checkpoint.npz"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/model.json").exists()
    begun = checkpoint.stat().st_mtime_ns
    longer = [flag for flag in [*command[3:], "--epochs=5"] if flag != "--epochs=4"]
    assert run(longer) == 2
    assert "holds an unfinished training: --resume continues it" in capfd.readouterr().err
    assert run([*longer, "--seed=9", "--resume"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "of another training, by epochs (4 there, 5 now), seed (0 there, 9 now)" in line
    subprocess.run([*command, "--resume"], check=True)
    assert not checkpoint.exists()
    assert (tmp_path / "killed/model.json").stat().st_mtime_ns > begun
    whole = [sys.executable, "-m", "beam_job", *argv, f"--output={tmp_path}/whole"]
    subprocess.run(whole, check=True)
    keras = import_keras()
    for name in ("encoder.keras", "decoder.keras"):
        weights = [
            keras.models.load_model(tmp_path / folder / name, compile=False).get_weights()
            for folder in ("killed", "whole")
        ]
        for one, other in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, other)
    histories = [
        json.loads((tmp_path / folder / "model.json").read_text())["history"]
        for folder in ("killed", "whole")
    ]
    assert histories[0] == histories[1]


def test_progress_and_the_result_are_shown(tmp_path, data_dir, capfd):
    argv = ["train", "--dataset=sample", data_dir, "--epochs=3", f"--output={tmp_path}/model"]
    assert run([*argv, "--max_minutes=1e-9"]) == 0
    said, progress = capfd.readouterr()
    assert re.search(
        r"^epoch 1/3, \d+\.\d\d dB, 0 dead; \d+ s an epoch, \d+ min left$", progress, re.MULTILINE
    )
    assert "note: training stopped after epoch 1 of 3, at --max_minutes" in progress
    assert "float32" in said
    assert "int8, 4 bits" in said
    assert "dead units" in said
    assert f"{tmp_path}/model/model.json" in said


def test_a_loss_that_is_no_number_is_told_in_one_line(tmp_path, data_dir, capfd):
    argv = ["train", "--dataset=sample", data_dir, f"--output={tmp_path}/model", "--epochs=1"]
    # So wild a learning rate cannot be given by flag.
    from beam_job.train import fit
    from beam_job.train import model as train

    settings = fit.Settings(1, 128, 1e30, 0, 0.0, 0.0, 0.0)
    options_settings = train.Settings
    train.Settings = lambda **_: settings
    try:
        assert run([*argv, "--quiet"]) == 1
    finally:
        train.Settings = options_settings
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert "diverged in its first epoch" in line
    assert not (tmp_path / "model").exists()


def with_few_images(folder: Path) -> None:
    (folder / "few.idx").write_bytes(idx_images(np.zeros((8, 28, 28), np.uint8)))


def with_a_model(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/model.json").write_text("{}")


def with_others_files(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/thesis.tex").write_text("precious")


def with_another_checkpoint(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/checkpoint.npz").write_bytes(b"no checkpoint")


def with_nothing(folder: Path) -> None:
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("prepare", "flags", "said"),
    [
        (with_few_images, ["--input=few.idx"], "8 images are too few to split"),
        (with_nothing, ["--input=nosuch"], "matches no file"),
        (with_nothing, [], "one of the two"),
        (with_nothing, ["--dataset=sample", "--epochs=0"], "epochs"),
        (with_nothing, ["--dataset=sample", "--learning_rate=0"], "above 0, at most 1"),
        (with_nothing, ["--dataset=sample", "--latent_noise=x"], "from 0 to 1"),
        (with_nothing, ["--dataset=sample", "--runner=FlinkRunner"], "no flag --runner"),
        (with_a_model, ["--dataset=sample"], "holds a complete model already"),
        (with_others_files, ["--dataset=sample", "--overwrite"], "are not a model"),
        (with_another_checkpoint, ["--dataset=sample"], "holds an unfinished training"),
        (
            with_another_checkpoint,
            ["--dataset=sample", "--resume"],
            "is not a checkpoint that can be read",
        ),
    ],
)
def test_wrong_input(prepare, flags, said, tmp_path, monkeypatch, capfd, data_dir):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    before = tree(tmp_path)
    capfd.readouterr()
    assert run(["train", "--output=out", data_dir, *flags]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert tree(tmp_path) == before
