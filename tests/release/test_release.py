"""What `make release` built in out/dist: what is in it, and that it works where it is installed."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_job import __version__
from tests.documentation.home import make_home, run_page
from tests.support.files_of import ROOT

pytestmark = pytest.mark.release

UV = Path(sys.executable).parent / "uv"
PACKAGES = ("beam_job", "transforms")


def built(pattern: str) -> Path:
    (path,) = (ROOT / "out/dist").glob(pattern)
    return path


def of_the_packages() -> set[str]:
    """The files that git keeps of the packages."""
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name for name in listed.stdout.split() if (ROOT / name).is_file()}


def test_the_wheel_holds_the_packages_and_nothing_else():
    with zipfile.ZipFile(built("*.whl")) as wheel:
        names = set(wheel.namelist())
    about = f"emnist_latents-{__version__}.dist-info"
    assert {name for name in names if not name.startswith(f"{about}/")} == of_the_packages()
    assert {name.removeprefix(f"{about}/") for name in names if name.startswith(f"{about}/")} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt"),
        *("licenses/LICENSE", "licenses/NOTICE"),
    }


def test_the_sdist_makes_the_wheel():
    with tarfile.open(built("*.tar.gz")) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    assert of_the_packages() <= held
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"} <= held


def test_the_version_is_that_of_changelog_and_citation():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    dated = re.search(
        rf"^## \[{re.escape(__version__)}\] - (\d{{4}}-\d\d-\d\d)$", changelog, re.MULTILINE
    )
    assert dated
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {__version__}\ndate-released: {dated[1]}\n" in citation


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """The folder of an empty environment, which is gone afterwards: it takes gigabytes."""
    folder = tmp_path / "empty"
    subprocess.run([UV, "venv", "--quiet", f"--python={sys.executable}", folder], check=True)
    yield folder
    shutil.rmtree(folder)


def test_the_readmes_commands_run_from_the_wheel_alone(empty: Path, tmp_path: Path):
    """In an empty environment, from a folder without the sources."""
    install = [UV, "pip", "install", "--quiet", f"--python={empty / 'bin/python'}"]
    subprocess.run([*install, built("*.whl"), "duckdb", "polars"], check=True)
    home = tmp_path / "home"
    make_home(home)
    assert run_page("README.md", home, empty / "bin") >= 6
