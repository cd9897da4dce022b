"""That the product patches no other library, and uses nobody's private attributes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.files_of import ROOT

MODULES = sorted(path for top in ("beam_job", "transforms") for path in (ROOT / top).rglob("*.py"))
NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_make"}
"""Public, whatever their names say (https://docs.python.org/3/library/collections.html)."""

HOOKS = {"threading.excepthook", "sys.stdin", "sys.stdout", "sys.stderr"}
"""What the standard library offers to be set."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


def others(tree: ast.Module) -> set[str]:
    """The names by which a module knows other modules, and what it imports of them."""
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {
        (alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names
    }


def faults(tree: ast.Module) -> Iterator[str]:
    """Private names of others that are read, and anything of others that is written."""
    foreign = others(tree)
    own = {
        node.attr if isinstance(node, ast.Attribute) else node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        or (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("self", "cls")
        )
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(is_private(name.name) for name in node.names):
            yield f"line {node.lineno}: imports a private name of {node.module}"
        if isinstance(node, ast.Attribute):
            is_others = isinstance(node.value, ast.Name) and node.value.id in foreign
            if is_private(node.attr) and node.attr not in own and ast.unparse(node) != "os._exit":
                yield f"line {node.lineno}: reads {ast.unparse(node)}"
            is_written = isinstance(node.ctx, (ast.Store, ast.Del))
            if is_others and is_written and ast.unparse(node) not in HOOKS:
                yield f"line {node.lineno}: writes {ast.unparse(node)}"
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("setattr", "delattr")
            and ast.unparse(node.args[0]).partition(".")[0] in foreign
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_leaves_others_alone(path: Path):
    assert list(faults(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    [
        "from apache_beam.io import _thing",
        "import apache_beam\napache_beam.io._thing()",
        "from apache_beam.io.filesystems import FileSystems\nprint(FileSystems._pipeline_options)",
        "import threading\nthreading.Thread = None",
        "from apache_beam.io import aws\naws.boto3 = None",
        "import os\nsetattr(os, 'name', 'nt')",
    ],
)
def test_what_is_not_allowed_is_found(source: str):
    assert list(faults(ast.parse(source)))
