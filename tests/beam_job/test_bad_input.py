"""Each wrong input of a catalogue: one line that names it and the way out, status 2, no trace."""

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_job.__main__ import run
from tests.conftest import RUNNER, tree
from tests.nist import idx_images, idx_labels

IMAGES = np.random.default_rng(4).integers(0, 256, (6, 28, 28), np.uint8)


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def parquet(table: pa.Table) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def staged(image_ids: list[int | None], kind: pa.DataType = pa.int64()) -> bytes:  # noqa: B008
    images = pa.array([bytes(784)] * len(image_ids), pa.binary(784))
    return parquet(pa.table({"image_id": pa.array(image_ids, kind), "image": images}))


IDX = idx_images(IMAGES)
BYTES_A_LIST = parquet(pa.table({"image": [{"bytes": [1, 2], "path": ""}]}))

FILES: list[tuple[str, dict[str, bytes], list[str], str]] = [
    ("matches no file", {}, ["--input=nosuch*"], "matches no file"),
    ("a folder", {"d/f": b""}, ["--input=d"], "is a folder"),
    ("empty", {"f": b""}, ["--input=f"], "none of IDX"),
    ("text", {"f": b"image_id,label\n"}, ["--input=f"], "none of IDX"),
    ("wrong magic", {"f": b"\0\0\x09\x03" + IDX[4:]}, ["--input=f"], "0x00000903"),
    ("only a header's part", {"f": IDX[:10]}, ["--input=f"], "truncated"),
    ("truncated", {"f": IDX[:-1]}, ["--input=f"], "truncated: 6 images take 4,704 bytes"),
    ("over-long", {"f": IDX + b"x"}, ["--input=f"], "too long"),
    ("claims 2^32-1", {"f": IDX[:4] + b"\xff" * 4 + IDX[8:]}, ["--input=f"], "truncated"),
    ("no images", {"f": idx_images(IMAGES[:0])}, ["--input=f"], "holds no images"),
    ("32x32", {"f": idx_images(np.zeros((2, 32, 32)))}, ["--input=f"], "32x32, not 28x28"),
    ("labels as images", {"f": idx_labels(np.arange(6))}, ["--input=f"], "holds labels"),
    ("gzip truncated", {"f": gzip.compress(IDX[:-9])}, ["--input=f"], "truncated"),
    ("gzip over-long", {"f": gzip.compress(IDX + b"x")}, ["--input=f"], "too long"),
    ("gzip cut", {"f": gzip.compress(IDX)[:-20]}, ["--input=f"], "gzip is truncated"),
    ("gzip of text", {"f": gzip.compress(b"hello, this is text")}, ["--input=f"], "a gzip of"),
    ("npy float", {"f": npy(IMAGES / 255)}, ["--input=f"], "float64, not uint8"),
    ("npy pickled", {"f": npy(np.array([{}]))}, ["--input=f"], "never loaded"),
    ("npy shape", {"f": npy(IMAGES[:, :27])}, ["--input=f"], "is of shape (6, 27, 28)"),
    ("npy flat", {"f": npy(IMAGES.reshape(-1))}, ["--input=f"], "is of shape"),
    ("npy columns", {"f": npy(np.asfortranarray(IMAGES))}, ["--input=f"], "column by column"),
    ("npy truncated", {"f": npy(IMAGES)[:-5]}, ["--input=f"], "truncated"),
    ("npy header", {"f": b"\x93NUMPY\x01\x00\x05\x00abc"}, ["--input=f"], "header"),
    ("parquet broken", {"f": b"PAR1" + b"x" * 40}, ["--input=f"], "as Parquet"),
    ("parquet columns", {"f": parquet(pa.table({"a": [1]}))}, ["--input=f"], "a (int64)"),
    ("parquet ids twice", {"f": staged([0, 1, 1])}, ["--input=f"], "image_id 1 follows image_id 1"),
    ("overlap", {"xa": staged([0, 1]), "xb": staged([1, 2])}, ["--input=x*"], "image_id 1 of"),
    (
        "labels beside, too few",
        {"a-images-idx3-ubyte": IDX, "a-labels-idx1-ubyte": idx_labels(np.arange(5))},
        ["--input=a-images-idx3-ubyte"],
        "5 labels",
    ),
    ("labels not there", {"f": IDX}, ["--input=f", "--labels=g"], "--labels=g matches no"),
    ("labels float", {"f": IDX, "g": npy(np.ones(6))}, ["--input=f", "--labels=g"], "float64"),
    ("labels 256", {"f": IDX, "g": npy(np.arange(6) + 251)}, ["--input=f", "--labels=g"], "256"),
    ("labels magic", {"f": IDX, "g": IDX}, ["--input=f", "--labels=g"], "0x00000803"),
    ("labels, files", {"f": IDX, "xg": b"", "xh": b""}, ["--input=f", "--labels=x*"], "2 files"),
    ("model missing", {"f": IDX}, ["--input=f", "--model=m.keras"], "--model=m.keras"),
    ("model no zip", {"f": IDX, "m": b"x"}, ["--input=f", "--model=m"], "no .keras file"),
    ("model no card", {"f": IDX, "m/x": b""}, ["--input=f", "--model=m"], "model.json"),
    ("model altered", {"f": IDX, "m/model.json": b"{}"}, ["--input=f", "--model=m"], "train it"),
    ("bits", {"f": IDX}, ["--input=f", "--latent_dtype=int8", "--latent_bits=3"], "from 4 to 8"),
    ("bits of floats", {"f": IDX}, ["--input=f", "--latent_bits=5"], "--latent_dtype=int8"),
    ("type", {"f": IDX}, ["--input=f", "--latent_dtype=int4"], "float16"),
    ("both", {"f": IDX}, ["--input=f", "--dataset=sample"], "one of the two"),
    ("neither", {}, [], "one of the two"),
    ("dataset unknown", {}, ["--dataset=nosuch"], "balanced"),
    ("shard size", {"f": IDX}, ["--input=f", "--shard_size=0"], "shard_size"),
    ("batch size", {"f": IDX}, ["--input=f", "--batch_size=0"], "batch_size"),
    ("flag", {"f": IDX}, ["--input=f", "--nosuch"], "--nosuch"),
    ("runner", {"f": IDX}, ["--input=f", "--runner=Nosuch"], "Nosuch"),
    ("archive address", {}, ["--dataset=mnist", "--archive_url=file:///etc"], "https://"),
    ("no network", {}, ["--dataset=mnist", "--archive_url=http://127.0.0.1:9/"], "matlab.zip"),
    ("output a file", {"f": IDX, "out": b"x"}, ["--input=f"], "is a file"),
    ("output below a file", {"f": IDX}, ["--input=f", "--output=f/out"], "below"),
    ("output no run", {"f": IDX, "out/x": b""}, ["--input=f", "--overwrite"], "no run"),
    ("output empty", {"f": IDX}, ["--input=f", "--output="], "is empty"),
    ("output a pattern", {"f": IDX}, ["--input=f", "--output=run?"], "run?"),
    ("data_dir a pattern", {"f": IDX}, ["--input=f", "--data_dir=d[1]"], "d[1]"),
    (
        "output with a manifest of others",
        {"f": IDX, "out/manifest.json": b'{"name": "app"}', "out/latents/mine": b"precious"},
        ["--input=f", "--overwrite"],
        "no run",
    ),
    ("output with latents of others", {"f": IDX, "out/latents/mine": b""}, ["--input=f"], "no run"),
    ("ids float", {"f": staged([0, 1], pa.float64())}, ["--input=f"], "image_id' is double"),
    ("ids null", {"f": staged([0, None])}, ["--input=f"], "no image_id"),
    ("bytes a list", {"f": BYTES_A_LIST}, ["--input=f"], "no column holds images"),
    ("output unknown", {"f": IDX}, ["--input=f", "--output=nosuch://b/o"], "--output=nosuch:"),
    ("scheme", {"f": IDX}, ["--input=nosuch://b/f"], "nosuch://b/f"),
]


@pytest.mark.parametrize(
    ("files", "flags", "said"), [row[1:] for row in FILES], ids=[r[0] for r in FILES]
)
def test_wrong_input(
    files: dict[str, bytes],
    flags: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", "keras")
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    before = left(tmp_path)
    runner = [] if "--runner=Nosuch" in flags else [f"--runner={RUNNER}"]
    assert run(["compress", "--output=out", "--data_dir=data", *flags, *runner]) == 2
    captured = capfd.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert captured.out == ""
    assert left(tmp_path) == before
    assert not Path("data").exists()
    assert Path("out").exists() == any(name.startswith("out") for name in files)


def left(folder: Path) -> dict[str, bytes]:
    """What there is, but for the settings that Keras writes when it is imported."""
    return {name: c for name, c in tree(folder).items() if name != "keras/keras.json"}


def with_archive(folder: Path) -> None:
    (folder / "keras/datasets").mkdir(parents=True)
    (folder / "keras/datasets/emnist_matlab.npz").write_bytes(b"<html>")


def with_model(folder: Path) -> None:
    from transforms.autoencoder import import_keras

    keras = import_keras()
    layers = [keras.layers.Input((28, 28, 1)), keras.layers.Conv2D(1, 3)]
    keras.Sequential(layers).save(folder / "m.keras")
    (folder / "f").write_bytes(IDX)


def with_read_only_output(folder: Path) -> None:
    (folder / "f").write_bytes(IDX)
    (folder / "loop").symlink_to("loop")


@pytest.mark.parametrize(
    ("prepare", "flags", "said"),
    [
        (with_archive, ["--dataset=mnist", "--output=out"], "is not NIST's matlab.zip"),
        (with_model, ["--input=f", "--model=m.keras", "--output=out"], "to float32 (26, 26, 1);"),
        (with_read_only_output, ["--input=f", "--output=loop/out"], "cannot be written"),
    ],
)
def test_wrong_surroundings(
    prepare: Callable[[Path], None], flags: list[str], said: str, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", "keras")
    prepare(tmp_path)
    before = left(tmp_path)
    capfd.readouterr()
    assert run(["compress", "--data_dir=data", *flags, f"--runner={RUNNER}"]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert said in line
    assert left(tmp_path) == before


def test_debug_shows_the_traceback(tmp_path, capfd):
    assert run(["compress", "--input=nosuch", f"--output={tmp_path}/out", "--debug"]) == 2
    assert "Traceback" in capfd.readouterr().err


def test_the_idx_header_of_the_catalogue_is_what_it_claims():
    assert struct.unpack(">IIII", IDX[:16]) == (0x803, 6, 28, 28)


def test_image_ids_of_two_shards_that_overlap_are_told_at_the_end(tmp_path: Path, capfd):
    (tmp_path / "f").write_bytes(staged([0, 1, 0, 1]))
    flags = [f"--input={tmp_path}/f", f"--output={tmp_path}/out", "--shard_size=2"]
    assert run(["compress", *flags, f"--runner={RUNNER}"]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert "image_id 0 is in two places" in line
    assert [path.name[:12] for path in (tmp_path / "out").iterdir()] == ["_incomplete-"]
