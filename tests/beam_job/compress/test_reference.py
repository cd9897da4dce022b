"""The reference figures, from an archive shaped like EMNIST balanced: 112,800 and 18,800 images."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import compress, latents, rows
from tests.support.nist import matlab_zip


@pytest.mark.slow
def test_balanced_gives_every_reference_figure(
    tmp_path: Path, digits, plain_latents, monkeypatch, capsys
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras/datasets").mkdir(parents=True)
    images = {
        "train": np.resize(digits[0], (112_800, 28, 28)),
        "test": np.resize(digits[0][::-1], (18_800, 28, 28)),
    }
    labels = {split: np.arange(len(some)) % 47 for split, some in images.items()}
    archive = tmp_path / "keras/datasets/emnist_matlab.npz"
    splits = {split: (images[split], labels[split]) for split in images}
    matlab_zip(archive, {"balanced": splits})
    argv = ["--dataset=balanced", f"--data_dir={tmp_path}/data", f"--output={tmp_path}/out"]
    assert compress(*argv) == 0

    sizes = json.loads((tmp_path / "out/sizes.json").read_text())
    train, test = sizes["splits"]["train"], sizes["splits"]["test"]
    assert (train["images"], test["images"]) == (112_800, 18_800)
    assert train["uint8_bytes"] == 88_435_200
    assert train["uint8_mb"] == 84.33837890625
    assert train["float32_bytes"] == 353_740_800
    assert train["float32_mb"] == 337.353515625
    assert train["latent_bytes"] == 14_438_400
    assert train["latent_mb"] == 13.76953125
    said = capsys.readouterr().out
    for figure in ("84.33837890625 MB", "337.353515625 MB", "13.76953125 MB", "112,800", "18,800"):
        assert figure in said

    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    model = manifest["model"]
    assert model["parameters"] == 494_112
    assert (model["latent_size"], model["latent_dtype"]) == (32, "float32")
    assert (model["input"], model["latent_bytes"]) == ([28, 28, 1], 128)
    with zipfile.ZipFile(archive) as opened:
        member = opened.getinfo("matlab/emnist-balanced.mat")
    assert sizes["total"]["source_bytes"] == member.compress_size

    parts = sorted(path.name for path in (tmp_path / "out/latents/split=train").iterdir())
    assert parts == [f"part-{part:05d}-of-00007.parquet" for part in range(7)]
    table = rows(tmp_path / "out")
    for split, some in images.items():
        of_split = table[table["split"] == split]
        assert of_split["image_id"].tolist() == list(range(len(some)))
        assert of_split["label"].tolist() == labels[split].tolist()
    assert table["character"].nunique() == 47
    every_997th = np.concatenate([images["test"][::997], images["train"][::997]])
    found = latents(tmp_path / "out")
    picked = np.concatenate([found[:18_800][::997], found[18_800:][::997]])
    np.testing.assert_allclose(picked, plain_latents(every_997th), atol=1e-4)
