import shutil
import subprocess
import sys
from pathlib import Path

from tests.dockerfile import DOCKERFILE, ROOT, stages


def steps(instruction: str) -> list[list[str]]:
    return [
        step.argument.split()
        for stage in stages()
        for step in stage.steps
        if step.instruction == instruction
    ]


def test_the_linter_finds_nothing():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint comes with the project's extra `dev`"
    linted = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_what_the_dockerfile_copies_is_there_and_let_through():
    copied = {
        source for words in steps("COPY") if not words[0].startswith("--") for source in words[:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_it_builds_on_one_python_and_the_locked_beam():
    images = {stage.name: stage.image for stage in stages()}
    assert images["build"] == images[""] == "python:3.11-slim-bookworm"
    _, beam = images["beam"].split(":")
    assert images["beam"] == f"apache/beam_python3.11_sdk:{beam}"
    assert "python311" in images["template"]
    locked = (ROOT / "deploy/requirements.txt").read_text()
    assert f"\napache-beam=={beam} " in locked or f"\napache-beam[gcp,aws]=={beam} " in locked


def test_it_does_not_run_as_root():
    assert steps("USER") == [["${RUN_AS}"]]
    assert ["RUN_AS=10001"] in steps("ARG")
