"""Decoding a run, and what was lost, through the command line on real images."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_job.__main__ import run
from beam_job.exit_status import WITH_REJECTS
from tests.conftest import PRETRAINED, RUNNER, compress, latents, rows, tree
from tests.support.nist import idx_images, idx_labels
from transforms.models.autoencoder import import_keras

pytestmark = pytest.mark.long


def reconstruct(*flags: str) -> int:
    """Runs `reconstruct` in this process on Beam's local runner; the exit status."""
    return run(["reconstruct", *flags, f"--runner={RUNNER}"])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"--data_dir={tmp_path_factory.mktemp('staged')}"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> Path:
    """A run of the sample in 6 bits."""
    output = tmp_path_factory.mktemp("run") / "run"
    flags = ["--latent_dtype=int8", "--latent_bits=6", "--shard_size=1000", "--quiet"]
    assert compress("--dataset=sample", f"--output={output}", data_dir, *flags) == 0
    return output


def pixels(folder: Path) -> np.ndarray:
    """Images of staged files by split and image_id: uint8 (n, 784)."""
    table = pads.dataset(folder, partitioning="hive").to_table().to_pandas()
    ordered = table.sort_values(["split", "image_id"])
    return np.stack([np.frombuffer(image, np.uint8) for image in ordered["image"]])


def plainly_decoded(output: Path) -> np.ndarray:
    """What the README's formula and a plain Keras decoder make of a run: uint8 (n, 784)."""
    model = json.loads((output / "manifest.json").read_text())["model"]
    values = latents(output)
    if model["quantization"] is not None:
        scale, offset = model["quantization"]["scale"], model["quantization"]["offset"]
        values = np.array(offset) + np.array(scale) * values
    decoder = import_keras().models.load_model(PRETRAINED / "decoder.keras", compile=False)
    images = decoder.predict(values.astype(np.float32), verbose=0)
    return np.rint(255 * images.reshape(-1, 784)).astype(np.uint8)


@pytest.mark.parametrize(
    "flags",
    [
        ["--latent_dtype=float32"],
        ["--latent_dtype=float16"],
        ["--latent_dtype=int8"],
        ["--latent_dtype=int8", "--latent_bits=4"],
    ],
    ids=["float32", "float16", "int8", "4 bits"],
)
def test_images_are_those_of_a_plain_decoder(flags, tmp_path, data_dir):
    output = tmp_path / "run"
    assert compress("--dataset=sample", f"--output={output}", data_dir, "--quiet", *flags) == 0
    assert reconstruct(f"--input={output}", f"--output={tmp_path}/images", "--quiet") == 0
    found = pixels(tmp_path / "images/images").astype(int)
    # The last bit of float32 arithmetic may fall on either side of a half.
    assert np.abs(found - plainly_decoded(output)).max() <= 1
    assert not (tmp_path / "images/quality.json").exists()
    assert "The originals were not given" in (tmp_path / "images/report.html").read_text()


def test_the_images_have_the_columns_of_staged_ones(sample, tmp_path):
    assert reconstruct(f"--input={sample}", f"--output={tmp_path}/out", "--quiet") == 0
    names = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.parquet")
    )
    assert names == [
        "images/split=test/part-00000-of-00001.parquet",
        "images/split=train/part-00000-of-00002.parquet",
        "images/split=train/part-00001-of-00002.parquet",
    ]
    table = pq.read_table(tmp_path / "out" / names[2])
    assert table.schema.names == ["image_id", "label", "image"]
    assert table.schema.field("image").type == pa.binary(784)
    assert table["image_id"].to_pylist() == list(range(1000, 1500))
    seal = json.loads((tmp_path / "out/reconstruction.json").read_text())
    written = tree(tmp_path / "out")
    del written["reconstruction.json"], written["_claim.json"]
    assert sorted(seal["files"]) == sorted(written)
    for name, facts in seal["files"].items():
        assert facts["sha256"] == hashlib.sha256(written[name]).hexdigest()
    with Image.open(tmp_path / "out/sheets/train.png") as sheet:
        assert sheet.width == 16 * 28 * 2


def test_quality_is_what_plain_numpy_says(sample, tmp_path, data_dir, capsys):
    flags = [f"--input={sample}", "--originals=sample", data_dir, f"--output={tmp_path}/out"]
    assert reconstruct(*flags, "--batch_size=300") == 0
    said = capsys.readouterr().out
    staged = Path(data_dir.removeprefix("--data_dir=")) / "sample/images"
    error = pixels(staged).astype(float) - pixels(tmp_path / "out/images")
    quality = json.loads((tmp_path / "out/quality.json").read_text())
    test, train = error[:297], error[297:]
    for part, errors in (("test", test), ("train", train), (None, error)):
        found = quality["splits"][part] if part else quality["total"]
        psnr = 10 * np.log10(255**2 / np.mean(errors**2))
        assert found["images"] == len(errors)
        assert found["mse"] == pytest.approx(np.mean(errors**2), rel=1e-12)
        assert found["psnr"] == pytest.approx(psnr, abs=1e-4)
        assert f"{psnr:.2f} dB" in said
    labels = rows(sample)["label"].to_numpy()
    threes = error[labels == 3]
    assert quality["classes"]["3"]["psnr"] == pytest.approx(
        10 * np.log10(255**2 / np.mean(threes**2)), abs=1e-4
    )
    worst = int(np.argmax((error**2).sum(axis=1)))
    named = rows(sample).iloc[worst]
    assert quality["worst"][0]["split"] == named["split"]
    assert quality["worst"][0]["image_id"] == named["image_id"]


def test_rejects_are_not_missed(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    column = [{"bytes": png(picture), "path": ""} for picture in pictures]
    column[2] = {"bytes": b"no picture", "path": ""}
    pq.write_table(pa.table({"image": column, "label": [1] * 6}), tmp_path / "f.parquet")
    flags = [f"--input={tmp_path}/f.parquet", "--max_rejects=1", "--quiet"]
    assert compress(*flags, f"--output={tmp_path}/run") == WITH_REJECTS
    originals = f"--originals={tmp_path}/f.parquet"
    decoded = [f"--input={tmp_path}/run", f"--output={tmp_path}/out", "--quiet"]
    assert reconstruct(*decoded, originals) == 0
    quality = json.loads((tmp_path / "out/quality.json").read_text())
    assert quality["total"]["images"] == 5
    assert quality["originals"]["same_files"] is True


def test_a_shard_of_rejects_alone_has_nothing_to_decode(tmp_path):
    column = [{"bytes": png(np.full((28, 28), grey, np.uint8)), "path": ""} for grey in range(6)]
    column[2] = column[3] = {"bytes": b"no picture", "path": ""}
    pq.write_table(pa.table({"image": column}), tmp_path / "f.parquet")
    flags = [f"--input={tmp_path}/f.parquet", "--max_rejects=2", "--shard_size=2", "--quiet"]
    assert compress(*flags, f"--output={tmp_path}/run") == WITH_REJECTS
    decoded = [f"--input={tmp_path}/run", f"--output={tmp_path}/out", "--quiet"]
    assert reconstruct(*decoded, f"--originals={tmp_path}/f.parquet") == 0
    assert len(pixels(tmp_path / "out/images")) == 4


def test_whether_the_originals_are_the_same_images_is_reported(tmp_path, idx_file, capfd):
    run_flags = [f"--input={idx_file}", "--shard_size=16", f"--output={tmp_path}/run", "--quiet"]
    assert compress(*run_flags) == 0
    images = np.frombuffer(idx_file.read_bytes()[16:], np.uint8).reshape(-1, 28, 28)
    labels = np.frombuffer(labels_of(idx_file).read_bytes()[8:], np.uint8)
    np.save(tmp_path / "train.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    assert same_files(tmp_path) is True  # In a file of another format.
    assert "note" not in capfd.readouterr().err
    changed = images.copy()
    changed[-1, 5, 5] ^= 1
    np.save(tmp_path / "train.npy", changed)
    assert same_files(tmp_path) is False
    assert "the originals are other images than the run was made of" in capfd.readouterr().err
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    for file in manifest["files"]:
        file.pop("images_sha256", None)  # As in runs of the first edition.
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest))
    assert same_files(tmp_path) is None
    assert "the run has no checksums of its images" in capfd.readouterr().err


def labels_of(idx_file: Path) -> Path:
    """The labels next to a file of images."""
    return idx_file.with_name(idx_file.name.replace("images-idx3", "labels-idx1"))


def same_files(folder: Path) -> bool | None:
    """What quality.json says of train.npy as the originals of a run."""
    flags = [f"--input={folder}/run", f"--originals={folder}/train.npy"]
    more = [f"--labels={folder}/labels.npy", f"--output={folder}/out", "--overwrite"]
    assert reconstruct(*flags, *more) == 0
    quality = json.loads((folder / "out/quality.json").read_text())
    same: bool | None = quality["originals"]["same_files"]
    return same


def png(picture: np.ndarray) -> bytes:
    import io

    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return content.getvalue()


def test_a_reconstruction_is_replaced_only_when_told_to(sample, tmp_path, capfd):
    flags = [f"--input={sample}", f"--output={tmp_path}/out", "--quiet"]
    assert reconstruct(*flags) == 0
    before = tree(tmp_path / "out/images")
    assert reconstruct(*flags) == 2
    assert "--overwrite" in capfd.readouterr().err
    assert reconstruct(*flags, "--overwrite") == 0
    assert tree(tmp_path / "out/images") == before


def without_manifest(folder: Path) -> None:
    (folder / "run/manifest.json").unlink()


def with_garbage_manifest(folder: Path) -> None:
    (folder / "run/manifest.json").write_text('{"format": "emnist-latents run"}')


def without_latents(folder: Path) -> None:
    (folder / "run/latents/split=test/part-00000-of-00001.parquet").unlink()


def with_altered_latents(folder: Path) -> None:
    path = folder / "run/latents/split=test/part-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def of_another_model(folder: Path) -> None:
    altered = json.loads((folder / "run/manifest.json").read_text())
    altered["model"]["sha256"] = "0" * 64
    (folder / "run/manifest.json").write_text(json.dumps(altered))


def with_altered_scale(folder: Path) -> None:
    altered = json.loads((folder / "run/manifest.json").read_text())
    altered["model"]["quantization"]["scale"] = [0.5] * 32
    (folder / "run/manifest.json").write_text(json.dumps(altered))


def with_a_scale_too_few(folder: Path) -> None:
    altered = json.loads((folder / "run/manifest.json").read_text())
    del altered["model"]["quantization"]["scale"][0]
    (folder / "run/manifest.json").write_text(json.dumps(altered))


def of_a_model_that_is_gone(folder: Path) -> None:
    altered = json.loads((folder / "run/manifest.json").read_text())
    altered["model"]["name"] = "models/gone"
    (folder / "run/manifest.json").write_text(json.dumps(altered))


def with_other_images(folder: Path) -> None:
    zeros = np.zeros((297, 28, 28), np.uint8)
    for split, count in (("train", 1500), ("test", 297)):
        stem = folder / f"other-{split}"
        Path(f"{stem}-images-idx3-ubyte").write_bytes(idx_images(zeros[:1].repeat(count, 0)))
        Path(f"{stem}-labels-idx1-ubyte").write_bytes(idx_labels(np.full(count, 7, np.uint8)))


def with_fewer_images(folder: Path) -> None:
    (folder / "train.idx").write_bytes(idx_images(np.zeros((9, 28, 28), np.uint8)))


def with_nothing(folder: Path) -> None:
    assert (folder / "run").is_dir()


@pytest.mark.parametrize(
    ("prepare", "flags", "said"),
    [
        (with_nothing, ["--input=nosuch"], "nosuch is not a folder: give a run directory"),
        (without_manifest, ["--input=run"], "run has no manifest.json"),
        (with_garbage_manifest, ["--input=run"], "is not what compress writes"),
        (without_latents, ["--input=run"], "is gone or cannot be read"),
        (with_altered_latents, ["--input=run"], "was altered; run compress again"),
        (with_altered_scale, ["--input=run"], "was made otherwise than the manifest says"),
        (with_a_scale_too_few, ["--input=run"], "31 scales for 32 offsets"),
        (of_another_model, ["--input=run"], "holds latents of another model"),
        (of_a_model_that_is_gone, ["--input=run"], "give it by --model"),
        (with_nothing, ["--input=run", "--model=nosuch"], "--model=nosuch is neither"),
        (with_other_images, ["--input=run", "--originals=other-*"], "has label 7 for image_id"),
        (with_fewer_images, ["--input=run", "--originals=train.idx"], "9 images of split train"),
        (with_nothing, ["--input=run", "--originals=nosuch.idx"], "--input=nosuch.idx matches no"),
        (with_nothing, ["--input=run", "--labels=x"], "goes with --originals"),
    ],
)
def test_wrong_input(prepare, flags, said, sample, tmp_path, monkeypatch, capfd):
    shutil.copytree(sample, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    before = tree(tmp_path)
    capfd.readouterr()
    assert reconstruct(*flags, "--output=out", "--data_dir=data") == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert tree(tmp_path) == before


def test_latents_of_a_lone_encoder_cannot_be_decoded(tmp_path, idx_file, keras_encoder, capfd):
    keras_encoder.save(tmp_path / "mine.keras")
    flags = [f"--input={idx_file}", f"--model={tmp_path}/mine.keras", f"--output={tmp_path}/run"]
    assert compress(*flags) == 0
    assert "cannot be decoded" in capfd.readouterr().err
    assert reconstruct(f"--input={tmp_path}/run", f"--output={tmp_path}/out") == 2
    assert "made by an encoder alone" in capfd.readouterr().err
    assert compress(*flags, "--latent_dtype=int8", "--overwrite") == 2
    assert "needs a model that train calibrated" in capfd.readouterr().err
