"""What answers --help, --plan and errors imports neither Beam nor anything else that is slow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import transforms
from tests.support.nist import idx_images

# Imports of what is slow fail, and the traceback tells who asked for it.
SCRIPT = """
import sys

SLOW = {"apache_beam", "tensorflow", "keras", "matplotlib", "pandas", "sklearn", "scipy"}

class Refusing:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in SLOW, f"{name} is imported"

sys.meta_path.insert(0, Refusing())
"""
COMMANDS = ["compress", "reconstruct", "train", "evaluate", "verify", "report", "stage"]
QUICK = [
    "transforms",
    "transforms.models.choice",
    "transforms.models.litert_engine",
    "transforms.models.ncnn_engine",
    "transforms.errors",
    "transforms.settings",
    "transforms.images",
    "transforms.inputs.files",
    "transforms.inputs.read",
    "transforms.models.keras_file",
    "transforms.latents",
    "transforms.models.directory",
    "transforms.quantize",
    "transforms.shard_files",
    "transforms.staged",
    "transforms.storage.check",
    "transforms.storage.files",
    "beam_job.__main__",
    "beam_job.compress.command",
    "beam_job.datasets.catalog",
    "beam_job.datasets.emnist",
    "beam_job.datasets.partition",
    "beam_job.logs",
    "beam_job.cli",
    "beam_job.flags",
    "beam_job.runners.beam_flags",
    "beam_job.outputs.attempt",
    "beam_job.outputs.resume",
    "beam_job.outputs.seal",
    "beam_job.evaluate.command",
    "beam_job.report",
    "beam_job.stage",
    "beam_job.train.command",
    "beam_job.reconstruct.command",
    "beam_job.outputs.redaction",
    "beam_job.outputs.run_directory",
    "beam_job.outputs.run_model",
    "beam_job.datasets.sample",
    "beam_job.datasets.staging",
    "beam_job.stores",
]


def run_without_what_is_slow(code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT + code, *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("module", QUICK)
def test_module_imports_nothing_slow(module: str):
    run_without_what_is_slow(f"import {module}")


def test_an_error_imports_nothing_slow():
    code = "from beam_job.__main__ import run\nassert run(sys.argv[1:]) == 2"
    argv = ["stage", "--dataset=mnist", "--data_dir=/dev/null/data"]
    done = run_without_what_is_slow(code, *argv)
    assert done.stderr.startswith("error: --data_dir=/dev/null/data/mnist cannot be written")


ANSWERS = [
    *((0, [command, "--help"], "usage: ") for command in COMMANDS),
    (0, ["--version"], "emnist-latents "),
    (0, ["compress", "--input=f", "--output=o", "--plan"], "engine    ncnn, float32"),
    (0, ["compress", "--input=f", "--output=o", "--plan", "--precision=int8"], "litert, int8"),
    (0, ["compress", "--input=f", "--output=o", "--plan", "--engine=tensorflow"], "tensorflow, "),
    (0, ["compress", "--dataset=sample", "--output=o", "--plan"], "1,500 images"),
    (2, ["compress", "--input=nosuch", "--output=o"], "matches no file"),
    (2, ["compress", "--input=f", "--model=nosuch", "--output=o"], "--model=nosuch"),
    (2, ["compress", "--input=f", "--model=f", "--engine=ncnn", "--output=o"], "no .keras file"),
    (2, ["compress", "--input=f", "--engine=litert", "--output=o"], "--precision=int8"),
    (2, ["compress", "--input=f", "--output=f"], "is a file"),
    (2, ["reconstruct", "--input=nosuch", "--output=o"], "nosuch"),
    (2, ["reconstruct", "--input=.", "--output=f"], "file"),
    (2, ["reconstruct", "--input=f", "--output=o", "--engine=litert"], "litert"),
    (2, ["train", "--input=nosuch", "--output=o"], "matches no file"),
    (2, ["train", "--input=f", "--initial_model=nosuch", "--output=o"], "nosuch"),
    (2, ["train", "--input=f", "--output=f"], "file"),
    (2, ["train", "--input=f", "--output=o", "--epochs=0"], "epochs"),
    (2, ["evaluate", "--input=nosuch", "--output=o"], "matches no file"),
    (2, ["evaluate", "--input=f", "--model=nosuch", "--output=o"], "--model=nosuch"),
    (2, ["evaluate", "--input=f", "--output=f"], "file"),
]


@pytest.mark.parametrize(
    ("status", "argv", "said"),
    ANSWERS,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_answers_at_once_imports_nothing_slow(status, argv, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("f").write_bytes(idx_images(np.zeros((3, 28, 28), np.uint8)))
    code = (
        "from beam_job.__main__ import run\n"
        "try:\n    status = run(sys.argv[1:])\n"
        "except SystemExit as asked:\n    status = asked.code or 0\n"
        f"assert status == {status}, status"
    )
    done = run_without_what_is_slow(code, *argv)
    assert said in (done.stderr if status else done.stdout)
    if status:
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_public_names_that_need_nothing_slow_import_nothing_slow():
    run_without_what_is_slow(
        "from transforms import Quantization, Segment, Shard, ShardFile, stretches_of"
    )


def test_every_public_name_is_there():
    assert all(getattr(transforms, name).__name__ == name for name in transforms.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nosuch'"):
        transforms.Nosuch  # noqa: B018
