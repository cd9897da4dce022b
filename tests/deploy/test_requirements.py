"""The lock file of the image, against what setup.py asks for."""

import distutils.core
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.dockerfile import ROOT

LOCKED = (ROOT / "deploy/requirements.txt").read_text()
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", LOCKED, re.MULTILINE)
}
IMAGE = {
    "python_version": "3.11",
    "python_full_version": "3.11.0",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
}


def required() -> list[str]:
    """What setup.py asks for with the extras that the image has."""
    project = distutils.core.run_setup(str(ROOT / "setup.py"), stop_after="init")
    extras = (project.extras_require[extra] for extra in ("fast", "gcp", "aws"))
    return [*project.install_requires, *(line for extra in extras for line in extra)]


@pytest.mark.parametrize("line", required())
def test_what_setup_py_asks_for_is_pinned_at_a_version_that_it_takes(line: str):
    requirement = Requirement(line)
    if requirement.marker is None or requirement.marker.evaluate(IMAGE):
        assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_every_pin_has_hashes_and_no_place_to_come_from():
    pinned = [entry for entry in re.split(r"\n(?=[a-z])", LOCKED) if "==" in entry.split("\n")[0]]
    assert len(pinned) == len(PINS) > 100
    assert [entry for entry in pinned if "--hash=sha256:" not in entry] == []
    assert "://" not in LOCKED
