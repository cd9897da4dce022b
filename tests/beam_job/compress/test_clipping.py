"""What `compress` says of int8 latents that were outside of the calibrated range."""

import json
from pathlib import Path

import numpy as np
import pytest

from beam_job.datasets.sample import sample_splits
from beam_job.reports.sizes import clipping_notes
from tests.conftest import PRETRAINED, compress
from transforms.sizes import Sizes


@pytest.fixture(scope="module")
def ink_on_white(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two splits of 200 digits: `train` as they are, `test` with black and white exchanged."""
    folder = tmp_path_factory.mktemp("images")
    digits = sample_splits()["test"].images[:200]
    np.save(folder / "a-train.npy", digits)
    np.save(folder / "a-test.npy", 255 - digits)
    return folder


def clipped_by_hand(images: np.ndarray, latents: np.ndarray, bits: int) -> tuple[int, int]:
    """The values that lie half a step or more beyond the range that the model's card has."""
    card = json.loads((PRETRAINED / "model.json").read_text())["quantization"][str(bits)]
    scale, offset = np.array(card["scale"]), np.array(card["offset"])
    low, high = offset - scale / 2, offset + scale * (2**bits - 0.5)
    outside = (latents < low) | (latents > high)
    assert len(latents) == len(images)
    return int(outside.sum()), int(outside.any(axis=1).sum())


@pytest.mark.parametrize("bits", [8, 5])
def test_clipped_values_are_counted_and_many_are_said(
    bits, ink_on_white, tmp_path, plain_latents, capsys
):
    flags = [f"--input={ink_on_white}/*.npy", f"--output={tmp_path}/out", "--invert=no"]
    sizes_of_work = ["--shard_size=90", "--batch_size=40"]
    assert compress(*flags, *sizes_of_work, "--latent_dtype=int8", f"--latent_bits={bits}") == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    sizes = json.loads((tmp_path / "out/sizes.json").read_text())
    total = np.zeros(2, int)
    for split in ("train", "test"):
        images = np.load(ink_on_white / f"a-{split}.npy")
        expected = clipped_by_hand(images, plain_latents(images), bits)
        total += expected
        for counts in (sizes["splits"][split], manifest["dataset"]["splits"][split]):
            found = counts["clipped_values"], counts["clipped_images"]
            # Another engine rounds otherwise, where a value is on the edge.
            np.testing.assert_allclose(found, expected, atol=3)
    found = sizes["total"]["clipped_values"], sizes["total"]["clipped_images"]
    np.testing.assert_allclose(found, total, atol=6)
    (note,) = manifest["warnings"]
    share = sizes["splits"]["test"]["clipped_values"] / (200 * 32)
    assert share > 0.05
    assert note.startswith(f"{100 * share:.1f}% of the latent values of split test are outside ")
    assert "in 200 of 200 images" in note
    assert f"note: {note}\n" in capsys.readouterr().err


def test_floats_count_nothing(ink_on_white, tmp_path, capsys):
    flags = [f"--input={ink_on_white}/*.npy", f"--output={tmp_path}/out", "--invert=no"]
    assert compress(*flags) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    sizes = json.loads((tmp_path / "out/sizes.json").read_text())
    counts = [*sizes["splits"].values(), sizes["total"], *manifest["dataset"]["splits"].values()]
    assert {(one["clipped_values"], one["clipped_images"]) for one in counts} == {(0, 0)}
    assert manifest["warnings"] == []
    assert "clipped" not in capsys.readouterr().err


def test_only_splits_with_more_than_one_percent_are_named():
    def counted(clipped: int) -> Sizes:
        # 1,000 latents of 32 values, a byte each.
        return Sizes(
            images_encoded=1000, latent_bytes=32_000, clipped_values=clipped, clipped_images=77
        )

    assert clipping_notes({"train": counted(320), "test": counted(0), "all": Sizes()}) == []
    (note,) = clipping_notes({"train": counted(320), "test": counted(321)})
    assert note.startswith("1.0% of the latent values of split test are outside the range that ")
    assert "in 77 of 1,000 images" in note
    assert note.endswith("or train a model on images like these")
