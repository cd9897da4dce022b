"""Runs every command and every Python example of the README, top to bottom, as it stands there."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.nist import matlab_zip

pytestmark = pytest.mark.long

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"(?ms)^ *```(\w*)\n(.*?)^ *```", README.read_text("utf-8"))
COMMANDS = [
    line.removeprefix("$ ")
    for kind, text in BLOCKS
    if kind == "console"
    for line in text.splitlines()
]
EXAMPLES = [textwrap.dedent(text) for kind, text in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README's commands name."""
    if "EMNIST_DATA" not in os.environ:
        pytest.skip("EMNIST_DATA is not set: the README's commands need the official digits")
    folder = tmp_path_factory.mktemp("readme")
    for path in Path(os.environ["EMNIST_DATA"]).glob("emnist-mnist-test-*.gz"):
        (folder / path.name).symlink_to(path)
    for name, array in [("images", np.zeros((3, 28, 28), np.uint8)), ("labels", np.arange(3))]:
        (folder / name).mkdir()
        np.save(folder / name / "some.npy", array)
    (folder / "scans").mkdir()
    Image.new("RGB", (60, 50), "white").save(folder / "scans/some.png")
    images = (np.zeros((4, 28, 28), np.uint8), np.arange(4))
    cache = folder / "keras/datasets"
    cache.mkdir(parents=True)
    matlab_zip(cache / "emnist_matlab.npz", {"balanced": {"train": images, "test": images}})
    return folder


def run(home: Path, argv: list[str]) -> str:
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": binaries,
        "KERAS_HOME": str(home / "keras"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    done = subprocess.run(
        argv, cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_works_as_it_stands(home: Path):
    for command in COMMANDS:
        if command.startswith("make "):
            target = command.removeprefix("make ")
            assert re.search(rf"^{target}:", (README.parent / "Makefile").read_text(), re.MULTILINE)
        else:
            assert run(home, shlex.split(command)), command
    assert len([command for command in COMMANDS if "compress" in command]) >= 5


def number(word: str) -> float | str:
    try:
        return float(word.replace(",", ""))
    except ValueError:
        return word


def same(ours: list, theirs: list, tolerance: float) -> bool:
    return all(
        one == other or (isinstance(one, float) and one == pytest.approx(other, rel=tolerance))
        for one, other in zip(ours, theirs, strict=True)
    )


def test_make_run_ends_with_the_table_that_the_readme_shows(home: Path):
    argv = ["compress", "--dataset=sample", "--output=out/sample"]
    said = run(home, ["emnist-latents", *argv])
    shown = next(text for kind, text in BLOCKS if not kind and "original, uint8" in text)
    for line in shown.splitlines():
        # The size of the files moves a little from one pyarrow to the next.
        numbers = [number(word) for word in line.split()]
        alike = [
            [number(word) for word in other.split()]
            for other in said.splitlines()
            if len(other.split()) == len(numbers)
        ]
        tolerance = 0.02 if "Parquet" in line else 0
        assert any(same(numbers, other, tolerance) for other in alike), line
    for name in ("latents/split=train", "sizes.json", "report.html", "manifest.json"):
        assert f"out/sample/{name}" in said


@pytest.mark.parametrize("example", EXAMPLES, ids=[text.split()[1] for text in EXAMPLES])
def test_every_example_runs(home: Path, example: str):
    assert (home / "out/sample/manifest.json").exists(), "what the examples read: the run above"
    assert (home / "data/sample/dataset.json").exists(), "and the dataset staged above"
    assert run(home, [sys.executable, "-c", example]).strip()


def test_make_lists_what_there_is_to_make():
    done = subprocess.run(["make"], cwd=README.parent, capture_output=True, text=True, check=True)
    assert {line.split()[1] for line in done.stdout.splitlines()} >= {"run", "test", "bench"}
