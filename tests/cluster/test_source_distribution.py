"""What `--setup_file=./setup.py` hands to workers: it holds all, and runs where it is installed."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.files_of import ROOT, files_of_the_project

UV = Path(sys.executable).parent / "uv"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, of a clean copy of the project."""
    project, built = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("built")
    files_of_the_project(project)
    subprocess.run([UV, "build", "--quiet", "--sdist", "--out-dir", built, project], check=True)
    (path,) = built.glob("*.tar.gz")
    return path


def test_it_holds_what_the_packages_are_made_of(archive: Path):
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    needed = {
        str(path.relative_to(ROOT))
        for package in ("beam_job", "transforms")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert "transforms/pretrained/encoder.keras" in needed
    assert needed - held == set()
    assert {"setup.py", "pyproject.toml", "README.md"} <= held


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """The folder of an empty environment, which is gone afterwards: it takes gigabytes."""
    folder = tmp_path / "empty"
    subprocess.run([UV, "venv", "--quiet", f"--python={sys.executable}", folder], check=True)
    yield folder
    shutil.rmtree(folder)


def test_it_installs_in_an_empty_environment_and_runs_the_job(
    archive: Path, empty: Path, tmp_path: Path
):
    python = empty / "bin/python"
    install = [UV, "pip", "install", "--quiet", "--no-cache", f"--python={python}", archive]
    subprocess.run(install, check=True)
    job = ["compress", "--dataset=sample", "--data_dir=data", "--output=out"]
    done = subprocess.run(
        [python, "-m", "beam_job", *job],
        cwd=tmp_path,  # Not where the project lies, which would be imported in its place.
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["model"]["engine"] == "tensorflow"
    assert sum(split["written"] for split in manifest["dataset"]["splits"].values()) == 1797
