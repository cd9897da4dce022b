"""A hook of MkDocs: brings pages and pictures that are not in docs/ into the site."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

_ROOT = Path(__file__).parents[1]
_BROUGHT = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "deploy/README.md": "deploy/README.md",
    **{
        str(path.relative_to(_ROOT)): str(path.relative_to(_ROOT))
        for pattern in ("*.md", "*.svg", "quality/*.md", "quality/*.svg")
        for path in sorted((_ROOT / "benchmarks").glob(pattern))
    },
}
"""Page of the site: file of the project."""
_BY_FILE = {file: page for page, file in _BROUGHT.items()}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the files."""
    for page, file in _BROUGHT.items():
        files.append(File.generated(config, page, abs_src_path=str(_ROOT / file)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links lead where the pages are in the site; to other files of the project there is none."""
    own = page.file.src_uri
    source = Path(_ROOT, _BROUGHT.get(own, f"docs/{own}")).parent

    def in_site(found: re.Match[str]) -> str:
        file = (source / found[1]).resolve().relative_to(_ROOT).as_posix()
        target = _BY_FILE.get(file) or file.removeprefix("docs/")
        up = "../" * own.count("/")
        return f"{up}{target}"

    markdown = re.sub(
        r"\[([^]]+)\]\((?:\.\./)*(LICENSE|CODE_OF_CONDUCT\.md|README\.md)\)", r"\1", markdown
    )
    return _LINK.sub(in_site, markdown)
