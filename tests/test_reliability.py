"""docs/reliability.md names the tests that hold its promises."""

import ast
import re

from tests.support.files_of import ROOT

NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/reliability.md").read_text())


def test_the_tests_that_hold_promises_are_there():
    assert len(NAMED) > 15
    for path, name in NAMED:
        defined = {
            node.name
            for node in ast.parse((ROOT / path).read_text()).body
            if isinstance(node, ast.FunctionDef)
        }
        assert not name or name in defined, f"{path}::{name}"
