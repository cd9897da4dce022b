"""Reading latents back, decoding them, and the files of images."""

import io
import json
import re
from hashlib import sha256
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from msgspec import to_builtins

from tests.conftest import RUNNER, tree
from tests.transforms.models.test_directory import LATENT_SIZE, make_model
from transforms.decode import (
    Decode,
    DecodedBatch,
    DecoderHandler,
    ImageFormat,
    ReadLatents,
    WriteImages,
    decoded_pixels,
)
from transforms.errors import InputError, RunError
from transforms.images import NO_LABEL, Segment, Shard, ShardKey
from transforms.inputs.read import read_shard
from transforms.latents import LatentBatch, ModelRecord, latent_table, parquet_bytes
from transforms.models.autoencoder import import_keras
from transforms.quantize import Quantization
from transforms.read_latents import LatentShard, latent_batches, read_latents
from transforms.staged import staged_pixels
from transforms.write_latents import WriteLatents

COUNT = 10
KEY = ShardKey("train", 1, 2, COUNT)
FIRST = 100
"""The first image_id of the shard."""
QUANTIZATION = Quantization(6, (0.5, 0.25, 2.0, 0.125), (0.0, -1.0, 3.0, 0.5))
IMAGES = np.random.default_rng(7).integers(0, 256, (COUNT, 784), np.uint8)
MODEL = ModelRecord(
    name="made here",
    sha256="",
    decoder_sha256=None,
    precision="float32",
    latent_size=4,
    latent_dtype="float32",
    latent_bytes=16,
    quantization=None,
)
MADE_BY = {"model": to_builtins(MODEL)}
LABELS = np.arange(COUNT, dtype=np.int16) % 3


def stored_values(dtype: str) -> np.ndarray:
    random = np.random.default_rng(8)
    if dtype == "uint8":
        return random.integers(0, 64, (COUNT, LATENT_SIZE), np.uint8)
    return random.uniform(0, 4, (COUNT, LATENT_SIZE)).astype(dtype)


def write_latents(
    folder: Path, values: np.ndarray, rows: list[int] | None = None, key: ShardKey = KEY
) -> LatentShard:
    """A file of latents as compress writes it. rows: those that were not rejected."""
    kept = np.arange(len(values)) if rows is None else np.array(rows)
    batch = LatentBatch(key, len(values), FIRST + kept, LABELS[: len(values)][kept], values[kept])
    content = parquet_bytes(latent_table(batch, {0: "a"}), MADE_BY)
    path = folder / f"latents-{key.split}-{key.number}.parquet"
    path.write_bytes(content)
    return LatentShard(key._replace(rows=len(kept)), str(path), sha256(content).hexdigest(), MODEL)


def originals(folder: Path, first: int = FIRST, labels: bytes | None = bytes(LABELS.tolist())):
    """The images of the shard, as a file of bare pixels."""
    path = folder / "originals"
    path.write_bytes(IMAGES.tobytes())
    return Shard(KEY, (Segment(str(path), "raw", COUNT, 0, first, labels=labels),))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_what_was_written_is_read(dtype, tmp_path):
    values = stored_values(dtype)
    shard = write_latents(tmp_path, values)
    expected = values.astype(np.float64)
    if dtype == "uint8":
        expected = np.array([0.0, -1.0, 3.0, 0.5]) + np.array([0.5, 0.25, 2.0, 0.125]) * expected
    (batch,) = read_latents(shard, QUANTIZATION if dtype == "uint8" else None, 100)
    assert (batch.latents.shard, batch.latents.rows, len(batch)) == (shard.key, COUNT, COUNT)
    assert batch.latents.latents.dtype == np.float32
    np.testing.assert_array_equal(batch.latents.latents, expected)
    np.testing.assert_array_equal(batch.latents.image_ids, np.arange(100, 110))
    np.testing.assert_array_equal(batch.latents.labels, LABELS)
    assert batch.originals is None
    (columns,) = latent_batches(shard.path, shard.sha256, MODEL, 100)
    assert columns.latents.dtype == dtype
    np.testing.assert_array_equal(columns.latents, values)


def test_batches_are_as_large_as_they_may_be_and_in_order(tmp_path):
    values = stored_values("float32")
    shard = write_latents(tmp_path, values)._replace(originals=originals(tmp_path))
    batches = list(read_latents(shard, None, 4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sum(batch.latents.rows for batch in batches) == shard.key.rows
    for start, batch in zip((0, 4, 8), batches, strict=True):
        np.testing.assert_array_equal(
            batch.latents.image_ids, np.arange(COUNT)[start : start + 4] + 100
        )
        np.testing.assert_array_equal(batch.latents.latents, values[start : start + 4])
        np.testing.assert_array_equal(batch.originals, IMAGES[start : start + 4])


def test_originals_are_found_by_image_id_where_some_were_rejected(tmp_path):
    kept = [0, 3, 4, 9]
    shard = write_latents(tmp_path, stored_values("float32"), kept)
    (batch,) = read_latents(shard._replace(originals=originals(tmp_path)), None, 100)
    assert batch.latents.image_ids.tolist() == [100, 103, 104, 109]
    np.testing.assert_array_equal(batch.originals, IMAGES[kept])


@pytest.mark.parametrize("at_once", [1, 3, 4, COUNT])
def test_originals_are_read_in_step_with_latents_that_lack_many(at_once, tmp_path):
    kept = [2, 3, 9]
    shard = write_latents(tmp_path, stored_values("float32"), kept)
    shard = shard._replace(originals=originals(tmp_path))
    batches = list(read_latents(shard, None, at_once))
    found = np.concatenate([batch.originals for batch in batches])
    np.testing.assert_array_equal(found, IMAGES[kept])


@pytest.mark.parametrize("at_once", [1, 3, COUNT])
def test_the_last_batch_carries_the_digest_of_all_originals(at_once, tmp_path):
    shard = write_latents(tmp_path, stored_values("float32"), [0, 3])
    shard = shard._replace(originals=originals(tmp_path))
    ((whole, _),) = read_shard(shard.originals, COUNT)
    *others, last = read_latents(shard, None, at_once)
    assert last.originals_sha256 == whole.sha256 != ""
    assert not any(batch.originals_sha256 for batch in others)


def test_image_ids_that_do_not_rise_are_refused(tmp_path):
    ids = np.array([100, 102, 101])
    batch = LatentBatch(KEY, 3, ids, LABELS[:3], stored_values("float32")[:3])
    content = parquet_bytes(latent_table(batch, {}), MADE_BY)
    path = tmp_path / "part.parquet"
    path.write_bytes(content)
    for at_once in (1, 2, 3):
        with pytest.raises(InputError, match=r"\(its image_ids do not rise\)"):
            list(latent_batches(str(path), sha256(content).hexdigest(), MODEL, at_once))


def test_latents_that_nobody_described_are_read(tmp_path):
    ids = np.arange(COUNT)
    latents = LatentBatch(KEY, COUNT, ids, LABELS, stored_values("float32"))

    def check(batches):
        (batch,) = batches
        np.testing.assert_array_equal(batch.latents.latents, latents.latents)

    with TestPipeline(runner=RUNNER) as pipeline:
        read = (
            pipeline
            | beam.Create([latents], reshuffle=False)
            | WriteLatents(str(tmp_path), {}, {})
            | beam.Map(
                lambda done: LatentShard(
                    KEY, f"{tmp_path}/{done.file.path}", done.file.sha256, None
                )
            )
            | beam.ParDo(ReadLatents(None, COUNT))
        )
        assert_that(read, check)


def test_latents_without_labels_are_of_any_images(tmp_path):
    shard = write_latents(tmp_path, stored_values("float32"))
    (batch,) = read_latents(shard._replace(originals=originals(tmp_path, labels=None)), None, COUNT)
    np.testing.assert_array_equal(batch.latents.labels, LABELS)
    np.testing.assert_array_equal(batch.originals, IMAGES)
    ids = np.arange(FIRST, FIRST + COUNT)
    none = np.full(COUNT, NO_LABEL, np.int16)
    unlabelled = LatentBatch(KEY, COUNT, ids, none, stored_values("float32"))
    content = parquet_bytes(latent_table(unlabelled, {}), MADE_BY)
    Path(shard.path).write_bytes(content)
    shard = LatentShard(KEY, shard.path, sha256(content).hexdigest(), MODEL, originals(tmp_path))
    (batch,) = read_latents(shard, None, COUNT)
    np.testing.assert_array_equal(batch.latents.labels, none)


def test_an_altered_file_is_refused_by_name(tmp_path):
    shard = write_latents(tmp_path, stored_values("float32"))
    content = bytearray(Path(shard.path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(shard.path).write_bytes(content)
    with pytest.raises(InputError, match=f"{shard.path} is not the file that the manifest names"):
        next(read_latents(shard, None, 4))


def test_a_file_with_other_columns_is_told(tmp_path):
    content = io.BytesIO()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(range(8), pa.int8()), 4)
    table = pa.table({"image_id": [0, 1], "latent": lists})
    described = json.dumps(MADE_BY).encode()
    pq.write_table(table.replace_schema_metadata({"emnist_latents": described}), content)
    path = tmp_path / "part.parquet"
    path.write_bytes(content.getvalue())
    with pytest.raises(InputError, match=r"is not what compress writes \(its latents are .*int8"):
        list(latent_batches(str(path), sha256(content.getvalue()).hexdigest(), MODEL, 100))


def test_a_missing_file_is_refused_by_name(tmp_path):
    shard = write_latents(tmp_path, stored_values("float32"))
    Path(shard.path).unlink()
    with pytest.raises(InputError, match=f"{shard.path} is gone or cannot be read"):
        next(read_latents(shard, None, 4))


@pytest.mark.parametrize(("first", "missing"), [(101, 100), (99, 109), (0, 100), (500, 100)])
def test_an_original_that_is_missing_is_named(first, missing, tmp_path):
    shard = write_latents(tmp_path, stored_values("float32"))
    shard = shard._replace(originals=originals(tmp_path, first, labels=None))
    with pytest.raises(InputError, match=f"no image_id {missing} in split train"):
        list(read_latents(shard, None, 4))


def test_an_original_with_another_label_is_named(tmp_path):
    shard = write_latents(tmp_path, stored_values("float32"))
    labels = LABELS.tolist()
    labels[6] = 9
    shard = shard._replace(originals=originals(tmp_path, labels=bytes(labels)))
    said = "--originals has label 9 for image_id 106 of split train, the run 0: give the images"
    with pytest.raises(InputError, match=said):
        list(read_latents(shard, None, 4))


def test_originals_that_cannot_be_read_are_missing(tmp_path):
    shard = write_latents(tmp_path, stored_values("float32"))
    path = tmp_path / "broken.parquet"
    pq.write_table(pa.table({"image": [{"bytes": b"no picture", "path": ""}] * COUNT}), path)
    broken = Shard(KEY, (Segment(str(path), "parquet", COUNT, 0, FIRST),))
    with pytest.raises(InputError, match="no image_id 100 in split train"):
        list(read_latents(shard._replace(originals=broken), None, 4))


def grey(*values: float):
    """A decoder whose images are of one grey each, by turns."""
    return lambda latents: np.resize(np.float32(values), len(latents)).repeat(784)


def test_pixels_are_rounded_and_clipped():
    decode = grey(0.0, 0.5 / 255 - 1e-4, 0.5 / 255 + 1e-4, 0.4, 1.0, 1.7, -0.2)
    found = decoded_pixels(decode, np.zeros((7, 4), np.float32))
    assert (found.dtype, found.shape) == (np.uint8, (7, 784))
    assert found[:, 0].tolist() == found[:, 783].tolist() == [0, 0, 1, 102, 255, 255, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_no_number_fails(value):
    with pytest.raises(RunError, match="pixels that are not finite"):
        decoded_pixels(grey(0.5, 0.5, value), np.zeros((3, 4), np.float32))


def test_any_number_of_latents_is_decoded_in_order():
    def decode(latents):
        assert len(latents) <= 1024
        return latents.repeat(784, axis=1).reshape(-1, 28, 28, 1) / 255

    latents = (np.arange(2500) % 256).astype(np.float32)[:, None]
    found = decoded_pixels(decode, latents)
    np.testing.assert_array_equal(found[:, 5], np.arange(2500) % 256)
    assert decoded_pixels(decode, latents[:0]).shape == (0, 784)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def plainly_decoded(model: Path, latents: np.ndarray) -> np.ndarray:
    decoder = import_keras().models.load_model(model / "decoder.keras", compile=False)
    return 255 * decoder.predict(latents.astype(np.float32), verbose=0).reshape(-1, 784)


@pytest.mark.parametrize("bits", [None, 4, 8])
def test_latents_become_staged_images(bits, model, tmp_path):
    if bits is None:
        quantization, values = None, stored_values("float32")
        expected = plainly_decoded(model, values)
    else:
        stated = json.loads((model / "model.json").read_text())["quantization"][str(bits)]
        quantization = Quantization(bits, tuple(stated["scale"]), tuple(stated["offset"]))
        values = np.random.default_rng(9).integers(0, 2**bits, (COUNT, LATENT_SIZE), np.uint8)
        latents = np.array(stated["offset"]) + np.array(stated["scale"]) * values
        expected = plainly_decoded(model, latents)
    kept = [0, 1, 2, 5, 6, 7, 9]
    shards = [
        write_latents(tmp_path, values, kept, KEY),
        write_latents(tmp_path, values[:3], None, ShardKey("test", 0, 1, 3)),
    ]
    shards[0] = shards[0]._replace(originals=originals(tmp_path))
    output = tmp_path / "out"

    def check_batches(batches):
        for batch in batches:
            assert (batch.originals is None) == (batch.shard.split == "test")
            if batch.originals is not None:
                np.testing.assert_array_equal(batch.originals, IMAGES[batch.image_ids - FIRST])

    def check_files(files):
        files = [finished.file for finished in files]
        for file in files:
            content = (output / file.path).read_bytes()
            assert (file.bytes, file.sha256) == (len(content), sha256(content).hexdigest())
        assert {(file.split, file.rows) for file in files} == {("train", 7), ("test", 3)}

    with TestPipeline(runner=RUNNER) as pipeline:
        batches = (
            pipeline
            | beam.Create(shards)
            | beam.ParDo(ReadLatents(quantization, 3))
            | Decode(DecoderHandler(str(model)))
        )
        assert_that(batches, check_batches, label="Batches")
        files = batches | WriteImages(str(output), {0: "a", 2: "c"}, 4)
        assert_that(files, check_files, label="Files")

    assert [re.sub(r"\.[0-9a-f]{12}\.", ".", name) for name in tree(output)] == [
        "images/split=test/part-00000-of-00001.parquet",
        "images/split=train/part-00001-of-00002.parquet",
    ]
    for name, rows in zip(tree(output), ([0, 1, 2], kept), strict=True):
        file = pq.ParquetFile(output / name)
        schema = file.schema_arrow
        assert schema.names == ["image_id", "label", "image"]
        assert schema.types == [pa.int64(), pa.uint16(), pa.binary(784)]
        assert json.loads(schema.metadata[b"emnist_images"]) == {"characters": {"0": "a", "2": "c"}}
        assert file.metadata.row_group(0).num_rows == min(4, len(rows))
        assert file.metadata.row_group(0).column(2).compression == "ZSTD"
        table = file.read()
        assert table["image_id"].to_pylist() == [FIRST + row for row in rows]
        assert table["label"].to_pylist() == [row % 3 for row in rows]
        found = np.stack([np.frombuffer(image, np.uint8) for image in table["image"].to_pylist()])
        # Half a level by rounding; the last bit of float32 arithmetic may fall on either side.
        assert np.abs(found - expected[rows]).max() <= 0.501


def test_images_are_read_as_any_staged_ones(tmp_path):
    form = ImageFormat({}, 4)
    labels = np.array([3, NO_LABEL, 0, 200], np.int16)
    ids = np.array([100, 101, 103, 108])
    batch = DecodedBatch(KEY, 4, ids, labels, IMAGES[:4], None)
    parts = [batch.take(np.array([2, 3])), batch.take(batch.image_ids < 102)]
    table = pa.concat_tables(map(form.table, parts)).sort_by("image_id")
    with form.open(tmp_path / "x.parquet", table.schema) as writer:
        writer.write_table(table)
    with (tmp_path / "x.parquet").open("rb") as file:
        chosen = staged_pixels(file, np.array([101, 108]))
    np.testing.assert_array_equal(chosen, IMAGES[[1, 3]])
    segment = Segment(str(tmp_path / "x.parquet"), "parquet", 4, 0, 100)
    ((read, rejects),) = read_shard(Shard(KEY._replace(rows=4), (segment,)), 100)
    assert rejects == ()
    np.testing.assert_array_equal(read.image_ids, ids)
    np.testing.assert_array_equal(read.labels, labels)
    np.testing.assert_array_equal(read.pixels, IMAGES[:4])


def test_a_decoder_other_than_the_runs_is_refused(model):
    digest = sha256((model / "decoder.keras").read_bytes()).hexdigest()
    assert DecoderHandler(str(model), sha256=digest).load_model().compute(
        np.zeros((2, LATENT_SIZE), np.float32)
    ).shape == (2, 28, 28, 1)
    with pytest.raises(InputError, match=r"decoder\.keras is not what it was"):
        DecoderHandler(str(model), sha256="0" * 64).load_model()
    with pytest.raises(InputError, match="cannot decode"):
        DecoderHandler(str(model / "encoder.keras"), sha256=digest).load_model()
