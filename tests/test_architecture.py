"""The tree of the product: its layers, and what docs/architecture.md says of it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.files_of import ROOT

COMMANDS = ("compress", "reconstruct", "train", "evaluate", "verify", "stage", "report")
LAYERS = (
    ("transforms",),
    *(
        (f"beam_job.{name}",)
        for name in ("exit_status", "console", "logs", "progress", "stores", "suggestions")
    ),
    ("beam_job.runners",),
    ("beam_job.outputs",),
    ("beam_job.datasets",),
    ("beam_job.flags",),
    ("beam_job.reports",),
    ("beam_job.runs",),
    tuple(f"beam_job.{name}" for name in COMMANDS),
    ("beam_job.cli",),
    ("beam_job.__main__",),
)
"""From low to high; a module imports its own package, and what is below it."""
MOST_LINES, MOST_MODULES, MOST_TRANSFORMS = 400, 12, 19
PAGE = (ROOT / "docs/architecture.md").read_text()
FILES = sorted(path for top in ("beam_job", "transforms") for path in (ROOT / top).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imports(module: str) -> Iterator[tuple[int, str]]:
    """(line, module of the product) of each import, late ones included."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield node.lineno, full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def package_of(module: str) -> tuple[int, str] | None:
    """(layer, package) of a module; None for beam_job itself and for other projects."""
    for layer, packages in enumerate(LAYERS):
        for package in packages:
            if module == package or module.startswith(f"{package}."):
                return layer, package
    return None


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_no_layer_above_its_own(module: str):
    own = package_of(module)
    assert own is not None or module == "beam_job", f"{module} is of no layer"
    for line, imported in imports(module):
        other = package_of(imported)
        if own is not None and other is not None and other[1] != own[1]:
            assert other[0] < own[0], f"{module}:{line} imports {imported}"


def test_modules_do_not_import_each_other_in_a_circle():
    edges = {module: set(loaded_with(module)) & MODULES.keys() for module in MODULES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        for other in edges[module] - done:
            visit(other, (*above, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def loaded_with(module: str) -> Iterator[str]:
    """What a module imports when it is loaded, not late, within a function."""
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def test_no_module_is_long_and_no_folder_wide():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= MOST_LINES, path
    for folder in {path.parent for path in FILES}:
        most = MOST_TRANSFORMS if folder.name == "transforms" else MOST_MODULES
        assert len(list(folder.glob("[!_]*.py"))) <= most, folder


def test_few_modules_know_the_options_of_compress():
    knowing = [
        module
        for module, path in MODULES.items()
        if module != "beam_job.compress.options" and "CompressOptions" in path.read_text()
    ]
    assert len(knowing) <= 4, knowing


def test_the_page_names_what_there_is():
    named = set(re.findall(r"`((?:beam_job|transforms|tests)[\w/]*(?:\.\w+)?/?)`", PAGE))
    assert len(named) > 20
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing, missing
    tree = PAGE.split("```")[1]
    packages = {path.parent.name for path in FILES if path.name == "__init__.py"}
    listed = set(re.findall(r"^ *(\w+)/", tree, re.MULTILINE))
    assert packages <= listed, packages - listed
