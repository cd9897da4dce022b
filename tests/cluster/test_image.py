"""The image, as its Dockerfile's steps make it; see image.py for what stands in for what."""

import json
import re

import pytest

from tests.cluster.image import Image
from tests.dockerfile import ROOT

pytestmark = pytest.mark.cluster


def test_only_what_other_images_hold_is_left_out(image: Image):
    assert image.left_out == [
        "beam /opt/apache/beam/boot",
        "beam /opt/apache/beam/LICENSE",
        "beam /opt/apache/beam/NOTICE",
        "template /opt/google/dataflow/python_template_launcher",
    ]


def test_what_it_starts_is_beams_boot(image: Image):
    assert image.entrypoint == ["/opt/apache/beam/boot"]
    assert image.environment["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"] == "1"
    assert (image.root / image.environment["FLEX_TEMPLATE_PYTHON_PY_FILE"].lstrip("/")).exists()


def test_the_job_runs_as_a_user_who_is_not_root(image: Image):
    assert image.run(["id", "-u"]).stdout == "10001\n"
    job = ["emnist-latents", "compress", "--dataset=sample", "--output=out", "--data_dir=data"]
    done = image.run(job)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((image.root / "home/beam/out/manifest.json").read_text())
    assert manifest["model"]["engine"] == "ncnn"
    assert {split: seen["written"] for split, seen in manifest["dataset"]["splits"].items()} == {
        "train": 1500,
        "test": 297,
    }


@pytest.mark.parametrize("flags", [["--engine=tensorflow"], ["--precision=int8"]])
def test_every_engine_is_in_it(image: Image, flags: list[str]):
    output = f"out{flags[0]}"
    where = ["--dataset=sample", "--data_dir=data", f"--output={output}", "--quiet"]
    done = image.run(["emnist-latents", "compress", *where, *flags])
    assert done.returncode == 0, done.stderr


def test_the_user_can_write_where_dataflow_has_it_write(image: Image):
    for folder in ("/var/log/dataflow/template_launcher", "/var/opt/google", "/tmp"):
        assert image.run(["touch", f"{folder}/file"]).returncode == 0
    assert image.run(["touch", "/opt/venv/file"]).returncode != 0


def test_the_template_starts_in_it(image: Image):
    main = image.environment["FLEX_TEMPLATE_PYTHON_PY_FILE"]
    refused = image.run(["python", main, "--runner=DataflowRunner"])
    assert refused.returncode == 2
    assert "give either --dataset=NAME or --input" in refused.stderr


def test_it_holds_no_more_than_it_needs(image: Image):
    assert list(image.root.glob("opt/venv/lib/python3.11/site-packages/pytest")) == []
    assert not (image.root / "root/.cache").exists()
    assert not (image.root / "build").exists()


def test_versions_are_those_of_the_lock_file(image: Image):
    locked = (ROOT / "deploy/requirements.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", locked, re.MULTILINE))
    listed = json.loads(image.run(["python", "-m", "pip", "list", "--format=json"]).stdout)
    installed = {entry["name"].lower().replace("_", "-"): entry["version"] for entry in listed}
    assert {
        name: version for name, version in pins.items() if installed.get(name) != version
    } == {}
