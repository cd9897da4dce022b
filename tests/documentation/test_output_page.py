"""docs/output.md names each column and key that a run has, and no other."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import compress
from tests.documentation.pages import read

TABLES = dict(
    re.findall(r"<!-- (?:keys|columns): ([^>]+?) -->\n\n((?:\|.*\n)+)", read("docs/output.md"))
)


def named(table: str) -> set[str]:
    """What the first column of a table names."""
    rows = TABLES[table].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output") / "run"
    flags = ["--dataset=sample", "--latent_dtype=int8", f"--data_dir={output.parent}"]
    assert compress(*flags, f"--output={output}") == 0
    return output


def test_columns_of_the_latents(run: Path):
    schema = pq.read_schema(next(run.glob("latents/split=test/*.parquet")))
    assert named("latents") == set(schema.names)


def test_keys_of_sizes(run: Path):
    sizes = json.loads((run / "sizes.json").read_text())
    assert set(sizes) == {"splits", "total"}
    assert named("sizes.json splits.*") == set(sizes["total"]) == set(sizes["splits"]["test"])


def test_keys_of_the_manifest(run: Path):
    manifest = json.loads((run / "manifest.json").read_text())
    assert named("manifest.json") == set(manifest)
    assert named("manifest.json dataset") == set(manifest["dataset"])
    assert named("manifest.json model") == set(manifest["model"])
    assert named("manifest.json files.*") == {key for one in manifest["files"] for key in one}
    counts = re.findall(r"`(\w+)`", TABLES["manifest.json dataset"])
    assert set(manifest["dataset"]["splits"]["test"]) <= set(counts)


def test_files_of_a_run(run: Path):
    listed = set(re.findall(r"─ (\S+)", read("docs/output.md")))
    optional = {
        "rejects/rejects.jsonl",
        "files.parquet",
        "latents/split=NAME/part-00000-of-00007.parquet",
    }
    there = {path.name for path in run.iterdir()}
    assert there - {"latents"} == listed - optional
