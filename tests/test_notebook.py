"""Executes examples/quickstart.ipynb, all but the cell that installs the project."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.files_of import ROOT

NOTEBOOK = ROOT / "examples/quickstart.ipynb"


@pytest.mark.long
def test_the_notebook_runs_and_shows_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    binaries = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}})
    outputs = [output for cell in client.execute().cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    said = "".join(output.get("text", "") for output in outputs)
    assert len(pictures) == 2
    assert "float32 : latent values" in said
    decibels = float(said.splitlines()[-1].split(" dB")[0])
    assert 18 < decibels < 25


def test_the_notebook_is_stored_without_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if "outputs" in cell]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
