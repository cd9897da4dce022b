"""Runs every command and every Python example of README.md and docs/, as it stands there."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation.home import make_home, run_page
from tests.documentation.pages import PAGES, blocks, read
from tests.support.files_of import ROOT

WITH_EXAMPLES = [
    page for page in PAGES if {"console", "python"} & {block.kind for block in blocks(read(page))}
]


@pytest.mark.long
@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_every_command_and_example_works_as_it_stands(page: str, tmp_path: Path):
    """A page makes what it reads, so each has a folder of its own."""
    home = tmp_path / "home"
    make_home(home)
    assert run_page(page, home, Path(sys.executable).parent)


def test_make_lists_what_there_is_to_make():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.split()[1] for line in done.stdout.splitlines()} >= {"run", "test", "bench"}
