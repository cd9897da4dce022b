"""The lock file of the image, against what setup.py asks for."""

import re
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.files_of import ROOT

LOCKED = (ROOT / "deploy/requirements.txt").read_text()
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCKED, re.MULTILINE)
}
EXTRAS = ("", "fast", "gcp", "aws")
STANDS_IN = {"tensorflow": "tensorflow-cpu"}


def asked_for() -> list[Requirement]:
    """What setup.py asks for with the extras that the image has."""
    asked = [Requirement(line) for line in requires("emnist-latents") or []]
    return [
        requirement
        for requirement in asked
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": extra}) for extra in EXTRAS)
    ]


@pytest.mark.parametrize("requirement", asked_for(), ids=str)
def test_what_setup_py_asks_for_is_locked_at_a_version_that_it_takes(requirement: Requirement):
    name = canonicalize_name(requirement.name)
    assert PINS[STANDS_IN.get(name, name)] in requirement.specifier


def test_every_version_has_hashes_and_no_place_to_come_from():
    pinned = re.split(r"\n(?=[a-z])", LOCKED)[1:]
    assert len(pinned) == len(PINS) > 100
    assert [entry for entry in pinned if "--hash=sha256:" not in entry] == []
    assert "://" not in LOCKED
