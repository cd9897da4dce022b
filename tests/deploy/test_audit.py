"""The audit's verdict, on what pip-audit writes: a package that was not looked up is no pass."""

import json
import runpy

import pytest

from tests.support.files_of import ROOT

AUDIT = runpy.run_path(str(ROOT / "deploy/audit.py"))
CLEAN = {"name": "numpy", "version": "2.4.0", "vulns": []}
BAD = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "PYSEC-2023-175", "fix_versions": ["10.0.1"], "description": ""}],
}
SKIPPED = {
    "name": "pillow",
    "skip_reason": "Dependency not found on PyPI and could not be audited: pillow (9.0.0)",
}


@pytest.mark.parametrize(
    ("report", "log", "status", "said"),
    [
        ([CLEAN, {**CLEAN, "name": "pillow"}], "", 0, "2 of 2 packages were audited"),
        ([CLEAN, BAD], "Found 1", 1, "pillow 9.0.0: PYSEC-2023-175, mended in 10.0.1"),
        ([BAD], "", 1, "VULNERABLE: 1 of 2"),
        ([CLEAN, SKIPPED], "No known vulnerabilities found", 3, "NOT AUDITED: 1 of 2"),
        ([SKIPPED], "", 3, "not found on PyPI"),
        ([CLEAN], "", 3, "NOT AUDITED: 1 of 2"),
        (None, "Traceback ...\nConnectionError: no name", 3, "0 of 2 packages were audited"),
        (None, "Traceback ...\nConnectionError: no name", 3, "ConnectionError: no name"),
    ],
)
def test_only_what_was_looked_up_passes(report, log, status, said):
    written = "" if report is None else json.dumps({"dependencies": report, "fixes": []})
    found = AUDIT["verdict"](written, log, ["numpy", "pillow"])
    assert found.status == status
    assert any(said in line for line in found.lines)


def test_no_packages_are_no_pass():
    assert AUDIT["verdict"](json.dumps({"dependencies": []}), "", []).status == 3
