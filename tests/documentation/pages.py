"""The pages that users read: README.md and docs/, as text, as blocks, and as sentences."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

from tests.support.files_of import ROOT

GENERATED = ("docs/cli.md",)
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
_FENCED = re.compile(r"(?ms)^( *)```(\w*)[^\n]*\n(.*?)^\1```")
_SENTENCE_ENDS = re.compile(r"(?<=[.!?:])[\"')*_]*\s+(?=[\"'(*_`\[]*[A-Z0-9`])")


class Block(NamedTuple):
    """A fenced block of a page. kind: the language behind the fence."""

    kind: str
    text: str


class Command(NamedTuple):
    """A command of a page. shown: what the page shows of its output, line by line."""

    line: str
    shown: list[str]


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(text: str) -> list[Block]:
    """The fenced blocks, top to bottom."""
    return [Block(kind, textwrap.dedent(body)) for _, kind, body in _FENCED.findall(text)]


def commands(block: Block) -> list[Command]:
    """The commands of a console block: `$ ` begins one, what follows is what it prints."""
    given: list[Command] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            given.append(Command(line.removeprefix("$ "), []))
        elif line.strip():
            given[-1].shown.append(line)
    return given


def prose_lines(text: str) -> list[str]:
    """The lines that are prose: no code, tables, headings, pictures or comments."""
    text = re.sub(r"(?s)<!-- (\w+): .*?<!-- end -->", "", _FENCED.sub("", text))
    text = re.sub(r"(?s)<!--.*?-->", "", text)
    return [
        line
        for line in text.splitlines()
        if not re.match(r"\s*(\||#|!\[|<|---|\[[^]]+\]: )|^ {4,}\S.*[;=]$", line)
    ]


def sentences(text: str) -> list[str]:
    """The sentences of a page's prose; a list item is at least one."""
    lines = "\n".join(prose_lines(text))
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", lines)
    found = []
    for paragraph in paragraphs:
        plain = re.sub(r"^\s*(?:[-*]|\d+\.) ", "", paragraph.strip())
        plain = re.sub(r"`[^`]+`", "`code`", plain)
        plain = re.sub(r"\]\([^)]*\)", "]", plain)
        found += _SENTENCE_ENDS.split(" ".join(plain.split()))
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def words(sentence: str) -> int:
    return len(re.findall(r"[\w`][^\s]*", sentence))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges and MkDocs make them."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}
