"""Everything on a file system that only Beam knows."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.conftest import PRETRAINED, compress, latents
from tests.memory_files import FILES


@pytest.fixture(autouse=True)
def _files() -> Iterator[None]:
    FILES.clear()
    yield
    FILES.clear()


def remote_latents(output: str) -> np.ndarray:
    (content,) = (FILES[path] for path in FILES if path.startswith(f"{output}/latents/"))
    return np.stack(pq.read_table(io.BytesIO(content))["latent"].to_pylist()).astype(np.float32)


def test_files_model_and_output_may_be_anywhere_that_beam_knows(
    tmp_path: Path, idx_file: Path, capsys: pytest.CaptureFixture[str]
):
    for path in idx_file.parent.iterdir():
        FILES[f"mem://in/{path.name}"] = path.read_bytes()
    for path in PRETRAINED.iterdir():
        FILES[f"mem://model/{path.name}"] = path.read_bytes()
    given = set(FILES)
    flags = ["--input=mem://in/*", "--model=mem://model", "--output=mem://out", "--quiet"]
    assert compress(*flags, "--plan") == 0
    assert "40 images" in capsys.readouterr().out
    assert set(FILES) == given
    assert compress(*flags) == 0
    assert {path for path in FILES if path not in given} == {
        "mem://out/latents/split=train/part-00000-of-00001.parquet",
        "mem://out/manifest.json",
        "mem://out/report.html",
        "mem://out/sizes.json",
    }
    assert compress(f"--input={idx_file}", f"--output={tmp_path}/out", "--quiet") == 0
    np.testing.assert_array_equal(remote_latents("mem://out"), latents(tmp_path / "out"))
    assert compress(*flags) == 2
    assert "--output=mem://out holds a run already" in capsys.readouterr().err
    assert compress(*flags, "--overwrite") == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--input=mem://in/none"], "--input=mem://in/none matches no file"),
        (["--dataset=sample", "--model=mem://none"], "--model=mem://none is neither"),
    ],
)
def test_what_is_not_there_is_told(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert compress(*flags, "--data_dir=mem://data", "--output=mem://out") == 2
    assert said in capsys.readouterr().err
    assert FILES == {}


def test_a_dataset_is_staged_where_beam_knows_the_way():
    flags = ["--dataset=sample", "--data_dir=mem://data", "--quiet"]
    assert compress(*flags, "--output=mem://out") == 0
    staged = {path: FILES[path] for path in FILES if path.startswith("mem://data/")}
    assert set(staged) == {
        "mem://data/sample/dataset.json",
        "mem://data/sample/images/split=test/part-00000-of-00001.parquet",
        "mem://data/sample/images/split=train/part-00000-of-00001.parquet",
    }
    assert "mem://out/manifest.json" in FILES
