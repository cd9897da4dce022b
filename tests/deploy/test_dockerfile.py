import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.files_of import ROOT

DOCKERFILE = ROOT / "deploy/Dockerfile"


def test_the_linter_finds_nothing():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint comes with the project's extra `dev`"
    linted = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_what_starts_workers_is_of_the_beam_and_python_that_are_locked():
    beam, template, python = re.findall(r"^FROM (\S+:\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    locked = (ROOT / "deploy/requirements.txt").read_text()
    (version,) = re.findall(r"^apache-beam==(\S+) ", locked, re.MULTILINE)
    assert beam == f"apache/beam_python3.11_sdk:{version}"
    assert python == "python:3.11-slim-bookworm"
    assert "/python311-template-launcher-base:" in template
    assert "--python-version 3.11 " in locked


def test_it_does_not_end_as_root():
    *_, last = re.findall(r"^USER (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert last == "10001"
