"""What `--setup_file=./setup.py` hands to workers: it holds all, and runs where it is installed."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cluster.image import Image
from tests.dockerfile import ROOT

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution as Beam makes it, of a clean copy of the project."""
    project = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    built = tmp_path_factory.mktemp("built")
    subprocess.run(
        [sys.executable, "setup.py", "sdist", "--dist-dir", built],
        cwd=project,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (path,) = built.iterdir()
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
    assert needed - held == set()
    assert {"setup.py", "pyproject.toml", "README.md"} <= held
    assert [name for name in held if name.startswith(("tests", "deploy"))] == []


def test_it_installs_in_an_empty_environment_and_runs_the_job(image: Image, archive: Path):
    """Empty but for what the project asks for, which the image has, at the versions locked."""
    shutil.copy(archive, image.root / "home/beam")
    python = "empty/bin/python"
    assert image.run(["python", "-m", "venv", "empty"]).returncode == 0
    (packages,) = image.root.glob("home/beam/empty/lib/python3.11/site-packages")
    (packages / "locked.pth").write_text("/opt/venv/lib/python3.11/site-packages\n")
    install = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    done = image.run([python, *install, archive.name])
    assert done.returncode == 0, done.stderr
    assert image.run([python, "-m", "pip", "check"]).returncode == 0
    where = image.run([python, "-c", "import beam_job; print(beam_job.__file__)"])
    assert where.stdout.startswith("/home/beam/empty/")
    job = ["compress", "--dataset=sample", "--data_dir=data", "--output=out-empty", "--quiet"]
    done = image.run(["empty/bin/emnist-latents", *job])
    assert done.returncode == 0, done.stderr
    assert (image.root / "home/beam/out-empty/manifest.json").exists()
