"""Which model `reconstruct` and `verify` take for a run that may be anybody's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from beam_job.__main__ import run
from beam_job.compress import pipeline as compress_pipeline
from beam_job.outputs import run_model
from beam_job.outputs.run_directory import CompleteRun, DatasetRecord, Manifest
from beam_job.outputs.run_model import model_of_run
from tests.conftest import RUNNER, compress
from transforms.errors import InputError
from transforms.latents import ModelRecord
from transforms.models.directory import Model, find_model

STORES = ["s3://somebody/model", "gs://somebody/model", " S3://somebody/model", "hdfs://h/model"]


def run_of(**facts: Any) -> CompleteRun:
    """A run whose manifest has these facts of its model, and else those of the package's."""
    model = find_model(None)
    record = ModelRecord(
        name="pretrained",
        sha256=model.encoder_sha256,
        decoder_sha256=model.decoder_sha256,
        precision="float32",
        latent_size=32,
        latent_dtype="float32",
        latent_bytes=128,
        quantization=None,
    )
    manifest = Manifest(
        run_id="",
        dataset=DatasetRecord("", "", {}, ()),
        model=replace(record, **facts),
        characters={},
        flags={},
        files=(),
    )
    return CompleteRun("run", manifest)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The models that are looked for; each is found, and is the package's."""
    names: list[str | None] = []

    def find(name: str | None) -> Model:
        names.append(name)
        return find_model(None)

    monkeypatch.setattr(run_model, "find_model", find)
    return names


@pytest.mark.parametrize("decodes", [True, False])
@pytest.mark.parametrize("name", STORES)
def test_a_store_that_a_run_names_is_not_asked(name: str, decodes: bool, asked):
    with pytest.raises(InputError, match="a store that a run names is never asked: give the model"):
        model_of_run(run_of(name=name), None, decodes=decodes)
    assert asked == []


@pytest.mark.parametrize("name", STORES)
def test_a_store_that_the_user_names_is(name: str, asked):
    model_of_run(run_of(name="s3://another/model"), name, decodes=True)
    assert asked == [name]


@pytest.mark.parametrize("name", ["pretrained", "/models/mine", "mine.keras", "C:\\models\\mine"])
def test_the_packages_model_and_one_on_this_machine_are_taken(name: str, asked):
    model_of_run(run_of(name=name), None, decodes=True)
    assert asked == [name]


@pytest.mark.parametrize("decodes", [True, False])
def test_another_encoder_is_refused(decodes: bool):
    with pytest.raises(InputError, match="holds latents of another model than pretrained"):
        model_of_run(run_of(sha256="0" * 64), None, decodes=decodes)


def test_another_decoder_is_refused_where_it_is_needed():
    compressed = run_of(decoder_sha256="0" * 64)
    model_of_run(compressed, None, decodes=False)
    with pytest.raises(InputError, match="holds latents of another model than pretrained"):
        model_of_run(compressed, None, decodes=True)


def test_commands_ask_no_store_that_a_whole_run_names(tmp_path: Path, monkeypatch, asked, capsys):
    model_record = compress_pipeline.model_record
    monkeypatch.setattr(
        compress_pipeline,
        "model_record",
        lambda *given: replace(model_record(*given), name="s3://somebody/model"),
    )
    np.save(tmp_path / "f.npy", np.zeros((3, 28, 28), np.uint8))
    assert compress(f"--input={tmp_path}/f.npy", f"--output={tmp_path}/run", "--quiet") == 0
    assert run(["verify", f"--input={tmp_path}/run", "--quiet"]) == 0
    capsys.readouterr()
    commands = [
        ["verify", f"--input={tmp_path}/run", f"--against={tmp_path}/f.npy"],
        ["reconstruct", f"--input={tmp_path}/run", f"--output={tmp_path}/o", f"--runner={RUNNER}"],
    ]
    for command in commands:
        assert run(command) == 2
        assert "a store that a run names is never asked" in capsys.readouterr().err
    assert asked == []
    own = f"--model={Path(find_model(None).encoder).parent}"
    assert run([*commands[0], own]) == 0
