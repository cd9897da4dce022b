"""What answers --help, --plan and errors imports neither Beam nor anything else that is slow."""

import subprocess
import sys

import pytest

import transforms

# Imports of what is slow fail, and the traceback tells who asked for it.
SCRIPT = """
import sys

SLOW = {"apache_beam", "tensorflow", "keras", "matplotlib", "pandas", "sklearn", "scipy"}

class Refusing:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in SLOW, f"{name} is imported"

sys.meta_path.insert(0, Refusing())
"""
QUICK = [
    "transforms",
    "transforms.engines.choice",
    "transforms.engines.litert_engine",
    "transforms.engines.ncnn_engine",
    "transforms.errors",
    "transforms.files",
    "transforms.images",
    "transforms.keras_file",
    "transforms.latents",
    "transforms.model_directory",
    "transforms.quantize",
    "transforms.shard_files",
    "transforms.staged",
    "beam_job.__main__",
    "beam_job.compress",
    "beam_job.datasets",
    "beam_job.emnist",
    "beam_job.images_at_hand",
    "beam_job.inputs",
    "beam_job.logs",
    "beam_job.options",
    "beam_job.preflight",
    "beam_job.publishing",
    "beam_job.reconstruct",
    "beam_job.run_directory",
    "beam_job.sample",
    "beam_job.stage",
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


def test_public_names_that_need_nothing_slow_import_nothing_slow():
    run_without_what_is_slow("from transforms import Quantization, Segment, Shard, ShardFile")


def test_every_public_name_is_there():
    assert all(getattr(transforms, name).__name__ == name for name in transforms.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nosuch'"):
        transforms.Nosuch  # noqa: B018
