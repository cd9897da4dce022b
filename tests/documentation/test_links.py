"""Every link of every Markdown page leads to a file of the project, and to a heading there."""

import re
from pathlib import Path

import pytest

from tests.documentation.pages import anchors
from tests.support.files_of import ROOT

FOLDERS = ("", "docs", "deploy", "benchmarks", "benchmarks/quality", "examples")
EVERY = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.md"))]


@pytest.mark.parametrize("page", EVERY, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"(?ms)^ *```.*?^ *```|`[^`\n]*`", "", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"(https|mailto):", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_relative_to(ROOT), f"{target}: leads out of the project"
        assert path.exists(), f"{target}: no such file"
        if anchor:
            assert anchor in anchors(path), f"{target}: no such heading"
