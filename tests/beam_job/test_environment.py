"""What surrounds the program does not decide: settings of other programs, streams, folders."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beam_job.__main__ import run
from tests.conftest import RUNNER, rows
from tests.support.nist import idx_images, matlab_zip
from transforms.quiet import own_environment

IMAGES = np.random.default_rng(6).integers(0, 256, (20, 28, 28), np.uint8)


@pytest.fixture(autouse=True)
def _in_a_folder_with_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f").write_bytes(idx_images(IMAGES))


def started(*words: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own. shell: what follows it in a shell."""
    command = " ".join([sys.executable, "-m", "beam_job", *words, shell])
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


PLAN = ("compress", "--input=f", "--output=out", "--plan")


def test_python_without_docstrings_is_refused():
    done = started(*PLAN, PYTHONOPTIMIZE="2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: python -OO (PYTHONOPTIMIZE=2) takes docstrings away, and Beam and Keras need "
        "theirs: run it without\n"
    )


def test_a_system_without_fcntl_is_refused(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert run([*PLAN]) == 2
    assert capsys.readouterr().err == (
        "error: this program runs on Linux and macOS, and this system has no fcntl: on Windows use "
        "WSL 2, or the container image\n"
    )


@pytest.mark.parametrize("name", ["transforms.py", "keras.py", "random.py", "numpy/__init__.py"])
def test_modules_in_the_current_folder_are_not_taken_for_others(name):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("raise RuntimeError('mine')")
    done = started(*PLAN)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_end_no_command(closed):
    done = started(*PLAN, shell=closed)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (closed[-3:] != ">&-" or closed == "2>&-")


def test_a_full_stdout_is_said_and_counts():
    done = started(*PLAN, shell="> /dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "error: stdout cannot be written (No space left on device): what --output names is as it "
        "should be; send stdout where there is room\n"
    )


def test_a_reader_that_has_seen_enough_ends_no_command():
    done = started("compress", "--help", shell="| true")
    assert done.stderr == ""


def test_a_user_without_a_home_needs_none(monkeypatch, capsys):
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert run([*PLAN]) == 0
    assert run(["compress", "--dataset=sample", "--output=out", "--plan"]) == 2
    assert run(["stage", "--dataset=sample"]) == 2
    assert run(["compress", "--dataset=mnist", "--output=out", "--data_dir=d", "--plan"]) == 2
    no_folder = "error: this user has no home folder: say by --data_dir where to stage --dataset"
    no_cache = (
        "error: this user has no home folder: set KERAS_HOME to the folder that EMNIST's archive "
        "is in"
    )
    assert capsys.readouterr().err.splitlines() == [no_folder, no_folder, no_cache]


def test_the_settings_of_a_notebook_come_back(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    with own_environment():
        assert (os.environ["MPLBACKEND"], os.environ["KERAS_BACKEND"]) == ("agg", "tensorflow")
    assert os.environ["MPLBACKEND"].startswith("module://")
    assert "KERAS_BACKEND" not in os.environ


@pytest.mark.long
def test_a_notebooks_settings_decide_nothing():
    """Those of Jupyter, and of who uses Keras otherwise."""
    Path("keras").mkdir()
    Path("keras/keras.json").write_text(
        '{"backend": "theano", "floatx": "float16", "image_data_format": "channels_first"}'
    )
    Path("matplotlibrc").write_text("backend: nonsense\nnonsense: 1\n")
    done = started(
        *("compress", "--input=f", "--output=out", "--engine=tensorflow", f"--runner={RUNNER}"),
        "--quiet",
        KERAS_HOME=str(Path("keras").resolve()),
        KERAS_BACKEND="torch",
        MPLBACKEND="module://matplotlib_inline.backend_inline",
        http_proxy="http://127.0.0.1:9",
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "could not be drawn" not in done.stderr
    assert Path("out/report.html").exists()
    assert len(rows(Path("out"))) == len(IMAGES)


@pytest.mark.long
def test_a_whole_archive_is_read_whatever_surrounds_it():
    """KERAS_BACKEND, a keras.py in the folder, and a program that comes from stdin."""
    part = (IMAGES[:4], np.arange(4))
    Path("keras/datasets").mkdir(parents=True)
    matlab_zip(Path("keras/datasets/emnist_matlab.npz"), {"mnist": {"train": part, "test": part}})
    Path("keras.py").write_text("raise RuntimeError('mine')")
    program = "from beam_job.__main__ import run; print(run(['stage', '--dataset=mnist']))"
    done = subprocess.run(
        [sys.executable, "-P", "-"] if sys.version_info >= (3, 11) else [sys.executable, "-"],
        input=program,
        env={
            **os.environ,
            "KERAS_HOME": str(Path("keras").resolve()),
            "KERAS_BACKEND": "torch",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "XDG_CACHE_HOME": str(Path("cache").resolve()),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["0"], done.stderr
