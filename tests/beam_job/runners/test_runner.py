"""Everything in an object store: S3 on this machine."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.conftest import PRETRAINED, compress, latents


def remote_latents(s3: Any) -> np.ndarray:
    (name,) = s3.names("out/latents")
    content = s3.read(f"out/latents/{name}")
    return np.stack(pq.read_table(io.BytesIO(content))["latent"].to_pylist()).astype(np.float32)


def test_files_model_and_output_may_be_in_a_store(
    s3: Any, tmp_path: Path, idx_file: Path, capsys: pytest.CaptureFixture[str]
):
    for path in idx_file.parent.iterdir():
        s3.write(f"in/{path.name}", path.read_bytes())
    for path in PRETRAINED.iterdir():
        s3.write(f"model/{path.name}", path.read_bytes())
    flags = [f"--input={s3.url('in/*')}", f"--model={s3.url('model')}"]
    flags += [f"--output={s3.url('out')}", "--quiet"]
    assert compress(*flags, "--plan") == 0
    assert "40 images" in capsys.readouterr().out
    assert s3.names("out") == set()
    assert compress(*flags) == 0
    assert s3.names("out") == {
        "README.md",
        "_claim.json",
        "latents/split=train/part-00000-of-00001.parquet",
        "manifest.json",
        "report.html",
        "sample.parquet",
        "sizes.json",
    }
    assert compress(f"--input={idx_file}", f"--output={tmp_path}/out", "--quiet") == 0
    np.testing.assert_array_equal(remote_latents(s3), latents(tmp_path / "out"))
    assert compress(*flags) == 2
    assert f"--output={s3.url('out')} holds a complete run already" in capsys.readouterr().err
    assert compress(*flags, "--overwrite") == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--input=s3://bucket/in/none"], "--input=s3://bucket/in/none matches no file"),
        (["--dataset=sample", "--model=s3://bucket/none"], "--model=s3://bucket/none is neither"),
    ],
)
def test_what_is_not_there_is_told(
    s3: Any, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert compress(*flags, f"--data_dir={s3.url('data')}", f"--output={s3.url('out')}") == 2
    assert said in capsys.readouterr().err
    assert s3.names("out") | s3.names("data") == set()


def test_a_dataset_is_staged_in_a_store(s3: Any):
    flags = ["--dataset=sample", f"--data_dir={s3.url('data')}", "--quiet"]
    assert compress(*flags, f"--output={s3.url('out')}") == 0
    assert s3.names("data/sample") == {
        "_claim.json",
        "dataset.json",
        "images/split=test/part-00000-of-00001.parquet",
        "images/split=train/part-00000-of-00001.parquet",
    }
    assert "manifest.json" in s3.names("out")
