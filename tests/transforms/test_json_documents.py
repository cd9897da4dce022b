"""Whose format is too new to be read."""

import json
from typing import Any

import pytest
from msgspec import convert

from beam_job.__main__ import run
from beam_job.datasets.catalog import DATASET_VERSION
from beam_job.outputs.run_directory import FORMAT_VERSION
from tests.conftest import PRETRAINED, compress
from transforms.errors import InputError
from transforms.json_documents import Header, check_version
from transforms.models.directory import CARD_VERSION


@pytest.mark.parametrize("document", [{}, {"format_version": 1}, {"format_version": 3}])
def test_a_format_that_is_known_is_taken(document: dict[str, Any]):
    check_version(convert(document, Header), 3, "x.json")


def test_a_newer_format_is_refused():
    with pytest.raises(InputError) as error:
        check_version(Header(format_version=4), 3, "x.json")
    assert str(error.value) == (
        "x.json has format version 4, and this program knows versions up to 3: use a newer "
        "emnist-latents"
    )


@pytest.mark.parametrize("document", [[], None, *({"format_version": v} for v in ("1", 1.5, True))])
def test_what_has_no_version_is_not_taken_for_newer(document: Any):
    with pytest.raises(ValueError, match="Expected"):
        convert(document, Header)


def test_what_is_written_has_the_version_that_is_read(tmp_path):
    data_dir = f"--data_dir={tmp_path}/data"
    assert run(["stage", "--dataset=sample", data_dir, "--quiet"]) == 0
    flags = ["--dataset=sample", data_dir, f"--output={tmp_path}/out", "--quiet"]
    assert compress(*flags) == 0
    written = {
        tmp_path / "data/sample/dataset.json": DATASET_VERSION,
        tmp_path / "out/manifest.json": FORMAT_VERSION,
        PRETRAINED / "model.json": CARD_VERSION,
    }
    for path, version in written.items():
        assert json.loads(path.read_text())["format_version"] == version
