"""Every reader of what somebody else may have written: valid inputs for it, and how it is asked."""

import gzip
import hashlib
import io
import json
import lzma
import os
import tempfile
import zipfile
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin

from beam_job.datasets.catalog import DATASET_FILE, staged_dataset
from beam_job.datasets.emnist import check_archive, saved_splits
from beam_job.outputs.attempt import CLAIM, Attempt, Job, JobDataset, Kind, begin
from beam_job.outputs.resume import continued, describe
from beam_job.outputs.run_directory import MANIFEST, REJECTS, SIZES, complete_run
from beam_job.outputs.seal import seal
from beam_job.verify.read_back import read_back
from tests.campaigns.mutations import (
    Mutate,
    Reader,
    mutated_bytes,
    mutated_gzip,
    mutated_json,
    mutated_png,
    mutated_zip,
)
from tests.support import forms
from tests.support.nist import SIX, idx_images, idx_labels
from transforms.errors import InputError, UnknownNetworkError
from transforms.images import Reject, Sample, Shard, ShardKey
from transforms.inputs.dataset import Dataset, Source, cut_shards
from transforms.inputs.files import files_dataset
from transforms.inputs.labels import read_labels
from transforms.inputs.read import read_shard
from transforms.inputs.readers.decode import decode_image
from transforms.json_documents import decode
from transforms.latents import LatentBatch, LatentFormat, ModelRecord
from transforms.models.directory import find_model
from transforms.models.keras_file import keras_content, read_layers
from transforms.quantize import Quantization
from transforms.shard_files import FinishedShard, ShardFile, note_path, shard_path
from transforms.sizes import Sizes
from transforms.staged import staged_bytes, staged_table
from transforms.storage.files import child, file_facts, find_files, write_bytes

COUNT = 6
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28), np.uint8)
LABELS = np.arange(COUNT, dtype=np.uint8)
MAX_UNPACKED_BYTES = 1 << 20
PRETRAINED = Path(__file__).parents[2] / "transforms/pretrained"


def _npy(array: np.ndarray, **settings: bool) -> bytes:
    content = io.BytesIO()
    np.save(content, array, **settings)
    return content.getvalue()


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _parquet(table: pa.Table, **settings: object) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content, **settings)
    return content.getvalue()


def _encoded(image: np.ndarray, kind: str, **settings: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind, **settings)
    return content.getvalue()


def _put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _read_all(dataset: Dataset) -> None:
    for shard in cut_shards(dataset, 4):
        for _ in read_shard(shard, 3):
            pass


def _read_images(content: bytes, folder: Path) -> None:
    path = _put(folder, "input", content)
    _read_all(files_dataset(str(path), None, "auto", MAX_UNPACKED_BYTES))


def _read_gzip(content: bytes, folder: Path) -> None:
    from beam_job.datasets.staging import with_packed_staged

    path = _put(folder, "input", content)
    dataset = files_dataset(str(path), None, "auto", MAX_UNPACKED_BYTES)
    _read_all(with_packed_staged(dataset, str(folder / "staged")))


def _read_labels(content: bytes, folder: Path) -> None:
    (found,) = find_files(str(_put(folder, "labels", content)))
    read_labels(found, COUNT)


def _staged_seeds() -> list[bytes]:
    table = staged_table(np.arange(COUNT), LABELS.astype(np.int16), IMAGES)
    plain = _parquet(table, compression="none", use_dictionary=False)
    rows = [
        _parquet(table, row_group_size=2, compression=packed)
        for packed in ("none", "snappy", "gzip", "zstd")
    ]
    return [staged_bytes(table, {0: "0"}, 4), plain, *rows]


def _png_seeds() -> list[bytes]:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "an image", zip=True)
    info.add_itxt("Author", "nobody")
    colours = np.stack([IMAGES[0]] * 3, axis=2)
    palette = io.BytesIO()
    Image.fromarray(IMAGES[1]).convert("P").save(palette, "PNG", transparency=3)
    bits = io.BytesIO()
    Image.fromarray(IMAGES[1]).convert("1").save(bits, "PNG")
    frames = io.BytesIO()
    parts = [Image.fromarray(image) for image in IMAGES[:3]]
    parts[0].save(frames, "PNG", save_all=True, append_images=parts[1:])
    return [
        _encoded(IMAGES[0], "PNG", pnginfo=info, icc_profile=b"profile" * 30),
        _encoded(colours, "PNG"),
        *(content.getvalue() for content in (palette, bits, frames)),
    ]


def _jpeg_seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 3
    colours = np.stack([IMAGES[0], IMAGES[1], IMAGES[2]], axis=2)
    return [
        _encoded(IMAGES[0], "JPEG", exif=exif),
        _encoded(colours, "JPEG", progressive=True, icc_profile=b"profile" * 30),
        _encoded(IMAGES[1], "JPEG", optimize=True, comment=b"none"),
    ]


def _hugging_face_table(contents: list[bytes | None], **settings: object) -> bytes:
    cells = [{"bytes": content, "path": None} for content in contents]
    image = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    named = {"info": {"features": {"label": {"names": ["0", "1", "2"]}}}}
    table = pa.table({"image": image, "label": pa.array(range(len(cells)), pa.int64())})
    described = table.replace_schema_metadata({"huggingface": json.dumps(named)})
    return _parquet(described, **settings)


def _hugging_face_seeds() -> list[bytes]:
    contents = [
        _encoded(image, kind)
        for image, kind in zip(IMAGES[:3], ("PNG", "JPEG", "PNG"), strict=False)
    ]
    return [
        _hugging_face_table(contents, compression="none", use_dictionary=False),
        _hugging_face_table([*contents, None, contents[0]], row_group_size=2),
        _hugging_face_table(contents, compression="zstd"),
    ]


def _mutated_hugging_face(random, seeds):
    """The file altered, or a sound one of images that are."""
    if random.random() < 0.7:
        return mutated_bytes(random, seeds)
    pngs, jpegs = _png_seeds_once(), _jpeg_seeds_once()
    images = [
        mutated_png(random, pngs) if random.random() < 0.5 else mutated_bytes(random, jpegs)
        for _ in range(3)
    ]
    return _hugging_face_table(images)


_png_seeds_once = lru_cache(_png_seeds)
_jpeg_seeds_once = lru_cache(_jpeg_seeds)


def _decode(content: bytes, _: Path) -> None:
    decode_image(content)


def _archive(mats: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in SIX:
            archive.writestr(zipfile.ZipInfo(f"matlab/emnist-{name}.mat"), mats.get(name, b"mat"))
    return content.getvalue()


def _read_archive(content: bytes, folder: Path) -> None:
    check_archive(_put(folder, "matlab.zip", content), "fetch it again", "https://there")


def _mat_seeds() -> list[bytes]:
    from scipy.io import savemat

    seeds = []
    for packed in (False, True):
        splits = {
            split: {
                "images": IMAGES.transpose(0, 2, 1).reshape(COUNT, 784)[:count],
                "labels": LABELS[:count].reshape(-1, 1),
                "writers": np.zeros((count, 1), np.uint16),
            }
            for split, count in (("train", 3), ("test", 2))
        }
        content = io.BytesIO()
        mapping = np.array([[0, 48]], np.uint8)
        savemat(content, {"dataset": {**splits, "mapping": mapping}}, do_compression=packed)
        seeds.append(b" " * 116 + content.getvalue()[116:])  # Without the time.
    return seeds


def _read_mat(content: bytes, folder: Path) -> None:
    """What load_emnist does in a process of its own, and what is made of it there."""
    from beam_job.datasets.load_emnist import save_splits

    archive = _put(folder, "keras/datasets/emnist_matlab.npz", _archive({"mnist": content}))
    before, os.environ["KERAS_HOME"] = os.environ.get("KERAS_HOME"), str(archive.parents[1])
    here = Path.cwd()
    os.chdir(folder)
    try:
        save_splits("mnist")
        saved_splits(str(folder))
    except Exception as error:  # As emnist_splits catches what SciPy raises.
        raise InputError(str(error)) from error
    finally:
        os.chdir(here)
        os.environ.pop("KERAS_HOME") if before is None else os.environ.update(KERAS_HOME=before)


def _model() -> ModelRecord:
    return ModelRecord(
        name="pretrained",
        sha256="0" * 64,
        decoder_sha256="1" * 64,
        parameters=494112,
        input=(28, 28, 1),
        engine="ncnn",
        precision="float32",
        int8_sha256=None,
        latent_size=4,
        latent_dtype="int8",
        latent_bytes=4,
        quantization=Quantization(8, (0.1,) * 4, (0.0,) * 4),
    )


@lru_cache(maxsize=1)
def _run() -> dict[str, bytes]:
    """The files of a whole run of six images, two of them rejected, by their paths."""
    from beam_job.compress.complete import Run, complete
    from beam_job.outputs.model_record import latents_metadata

    model = _model()
    characters = {label: str(label) for label in range(10)}
    with tempfile.TemporaryDirectory() as folder:
        attempt = begin(f"{folder}/run", "--output")
        files = []
        for number, ids in enumerate(([0, 1, 2], [4])):
            key = ShardKey("test", number, 2, 3)
            latents = np.arange(len(ids) * 4, dtype=np.uint8).reshape(-1, 4)
            batch = LatentBatch(key, len(ids), np.array(ids), np.array(ids, np.int16), latents)
            form = LatentFormat(characters, latents_metadata("x", model))
            content = form.content(form.table(batch))
            path = f"latents/{key.name}.parquet"
            _put(Path(attempt.folder), path, content)
            digest = hashlib.sha256(content).hexdigest()
            files.append(ShardFile(path, "test", len(ids), len(content), digest, ids[0], ids[-1]))
        run = Run(
            attempt=attempt,
            created="2026-01-01T00:00:00+00:00",
            dataset=JobDataset("x", "2" * 64, {"test": 6}, (), characters),
            shards={"test": 2},
            model=model,
            flags={"shard_size": 3, "dataset": None, "overwrite": False, "parquet": "small"},
            batch_size=1,
            compatible=False,
            max_rejects=2,
            overwrite=False,
            decoder_engine=None,
            model_path=None,
            versions={},
        )
        written = sum(file.bytes for file in files)
        sizes = Sizes(4, 2, 4, 4, 4 * 784, 4 * 784 * 4, 16, written)
        rejects = [Reject("test", number, "there", number, "is none") for number in (3, 5)]
        complete(run, files, {"test": sizes}, rejects, [])
        top = Path(folder, "run")
        return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def _read_run(content: bytes, folder: Path, name: str) -> None:
    """A run one of whose files is the input, and which its manifest names as it now is."""
    manifest = json.loads(_run()[MANIFEST])
    if name != MANIFEST:
        for file in manifest["files"]:
            if file["path"] == name:
                digest = hashlib.sha256(content).hexdigest()
                file.update(bytes=len(content), sha256=digest)
    for path, written in _run().items():
        _put(folder, path, written)
    _put(folder, MANIFEST, json.dumps(manifest).encode())
    _put(folder, name, content)
    run = complete_run(str(folder))
    read_back(run)
    from transforms.read_latents import LatentShard, read_latents

    for key, file in run.shard_files():
        path = child(str(folder), file.path)
        shard = LatentShard(key, path, file.sha256, run.manifest.model)
        for _ in read_latents(shard, run.manifest.model.quantization, 2):
            pass


LATENTS = "latents/split=test/part-00000-of-00002.parquet"


def _of_run(name: str, mutate: Mutate, share: float) -> Reader:
    return Reader(
        lambda: [_run()[name]],
        lambda content, folder: _read_run(content, folder, name),
        mutate,
        share,
    )


def _mutated_lines(random, seeds):
    lines = random.choice(seeds).splitlines() * random.choice((1, 1, 2))
    place = random.randrange(len(lines))
    lines[place] = mutated_json(random, [lines[place]])
    return b"\n".join(lines)


def _dataset_seeds() -> list[bytes]:
    content = _staged_seeds()[0]
    name = "images/split=train/part-00000-of-00001.parquet"
    file = {"path": name, "split": "train", "rows": COUNT, "first_image_id": 0}
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    source = {"path": "matlab.zip", "split": None, "bytes": 9, "sha256": None}
    described = {
        "format": "emnist-latents staged dataset",
        "format_version": 1,
        "name": "x",
        "fingerprint": "0" * 64,
        "splits": {"train": COUNT},
        "shard_size": 16,
        "characters": {"0": "0"},
        "sources": [source],
        "files": [{**file, **facts}],
    }
    return [json.dumps(described).encode()]


_dataset_file = lru_cache(lambda: _staged_seeds()[0])


def _read_dataset(content: bytes, folder: Path) -> None:
    _put(folder, f"x/{DATASET_FILE}", content)
    _put(folder, "x/images/split=train/part-00000-of-00001.parquet", _dataset_file())
    dataset = staged_dataset(str(folder), "x")
    assert dataset is not None
    shards = cut_shards(dataset, 16384)
    for shard in shards[:3]:
        for _ in read_shard(shard, 1024):
            pass


def _note_seeds() -> list[bytes]:
    digest = hashlib.sha256(NOTED_CONTENT).hexdigest()
    file = ShardFile(NOTED, "test", 3, len(NOTED_CONTENT), digest, 0, 2, "1" * 64)
    sizes = Sizes(*[3] * len(Sizes._fields))
    rejects = (Reject("test", 1, "there", 1, "is none"),)
    sample = Sample((0,), (7,), bytes(784), bytes(LATENT_BYTES))
    return [msgspec.json.encode(FinishedShard(file, sizes, rejects, sample))]


LATENT_BYTES = 4
NOTED = "latents/split=test/part-00000-of-00002.0123456789ab.parquet"
NOTED_CONTENT = b"latents"


def _read_note(content: bytes, folder: Path) -> None:
    """A note as the graph finds it, and what is made of it at the end."""
    from beam_job.compress.pipeline import _FindFinished
    from beam_job.reports.run_report import sample_table_bytes
    from transforms.images import Stretch

    shard = Shard(ShardKey("test", 0, 2, 3), ())
    attempt = Attempt(f"{folder}/out", "a")
    _put(folder, f"out/_incomplete-a/{note_path(shard_path('latents', shard.key))}", content)
    _put(folder, f"out/_incomplete-a/{NOTED}", NOTED_CONTENT)
    for found in _FindFinished(attempt, LATENT_BYTES).process(Stretch((shard,))):
        if not isinstance(found, Stretch):
            noted = found.value
            assert noted.file.path == NOTED, noted.file.path
            model = _model()
            if noted.sample.image_ids:
                sample_table_bytes([(noted.file.split, noted.sample)], model)


def _job_seeds() -> list[bytes]:
    job = Job(
        created="2026-01-01T00:00:00+00:00",
        dataset=JobDataset("x", None, {"train": 3}, (Source("f", None, 3),), {0: "0"}),
        model=_model(),
        flags={"shard_size": 3},
        versions={"numpy": "2"},
    )
    return [msgspec.json.encode(job)]


def _read_job(content: bytes, folder: Path) -> None:
    _put(folder, "_incomplete-a/job.json", content)
    _put(folder, "_incomplete-b/other", b"")
    job = decode(_job_seeds()[0], Job)
    describe(continued(Attempt(str(folder), "b"), job, strictly=True), job)


def _claim_seeds() -> list[bytes]:
    claim = {"attempt": "a", "seal": "0" * 64, "documents": "_incomplete-a/d", "lost": ["b", "c"]}
    return [json.dumps(claim).encode()]


def _read_claim(content: bytes, folder: Path) -> None:
    """A claim that another attempt is to follow: nothing outside of the output may be touched."""
    kind = Kind("run", "seal.json", owned=("latents",), resumable=True)
    _put(folder, f"out/{CLAIM}", content)
    _put(folder, "out/_incomplete-a/job.json", _job_seeds()[0])
    _put(folder, "precious", b"precious")
    attempt = begin(f"{folder}/out", "--output")
    written = write_bytes(child(attempt.folder, "a"), b"some")
    try:
        seal(attempt, kind, {"latents/a": "a"}, {}, b'{"run_id": "x"}', replace=False)
    finally:
        assert (folder / "precious").read_bytes() == b"precious"
    assert file_facts(f"{folder}/out/latents/a") == written


def _settings() -> Any:
    from beam_job.train.fit import Settings

    return Settings(1, 1, 0.1, 0, 0.0, 0.0, 0.0)


def _checkpoint_seeds() -> list[bytes]:
    epoch = {"epoch": 1, "training_loss": 0.1, "validation_loss": 0.1}
    history = [{**epoch, "validation_psnr": 10.0, "dead": 0}]
    described = {"settings": asdict(_settings()), "fingerprint": "0", "history": history}
    content = io.BytesIO()
    arrays = {f"{kind}/0": np.ones((3, 2), np.float32) for kind in ("weights", "optimizer", "best")}
    np.savez(content, described=np.array(json.dumps(described)), **arrays)
    return [content.getvalue()]


def _read_checkpoint(content: bytes, folder: Path) -> None:
    from beam_job.train.model import begun

    begun(str(_put(folder, "checkpoint.npz", content)), _settings(), "0")


_NETWORKS = {
    "encoder.keras": b"an encoder",
    "decoder.keras": b"a decoder",
    "encoder-int8.tflite": (PRETRAINED / "encoder-int8.tflite").read_bytes()[:9000],
}


_READ_OF_CARD = ("format", "latent_size", "parameters", "data", "files", "quantization")


def _card_seeds() -> list[bytes]:
    card = json.loads((PRETRAINED / "model.json").read_bytes())
    for name, content in _NETWORKS.items():
        card["files"][name]["sha256"] = hashlib.sha256(content).hexdigest()
    return [json.dumps({name: card[name] for name in _READ_OF_CARD}).encode()]


def _put_model(folder: Path) -> None:
    for name, content in _NETWORKS.items():
        _put(folder, name, content)
    _put(folder, "model.json", _card_seeds_once()[0])


_card_seeds_once = lru_cache(_card_seeds)


def _read_card(content: bytes, folder: Path) -> None:
    _put_model(folder)
    _put(folder, "model.json", content)
    model = find_model(str(folder))
    for bits in range(4, 9):
        quantization = model.quantization(bits)
        if quantization is not None and len(quantization.scale) == 32:
            quantization.quantize(np.ones((2, 32), np.float32))


@lru_cache(maxsize=1)
def _keras_seeds() -> list[bytes]:
    from tests.support.keras_files import random_network, saved
    from transforms.models.autoencoder import import_keras

    layers = import_keras().layers
    encoder = random_network(
        layers.Conv2D(2, 3, strides=2, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(3, activation="relu"),
        shape=(28, 28, 1),
    )
    decoder = random_network(
        layers.Dense(14 * 14 * 2, activation="relu"),
        layers.Reshape((14, 14, 2)),
        layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid"),
        shape=(3,),
    )
    return [saved(encoder), saved(decoder)]


def _read_keras(content: bytes, folder: Path) -> None:
    from transforms.models import ncnn_engine

    path = _put(folder, "encoder.keras", content)
    checked = keras_content("m", str(path), hashlib.sha256(content).hexdigest())
    try:
        network = ncnn_engine.network(read_layers(checked))
        network.compute(np.zeros((1, *network.input_shape), np.float32))
    except UnknownNetworkError as error:  # Told as an InputError, or TensorFlow is tried.
        raise InputError(str(error)) from error


def _read_tflite(content: bytes, folder: Path) -> None:
    """A LiteRT network beside a card that names another: whoever alters one alters the card too."""
    _put_model(folder)
    _put(folder, "encoder-int8.tflite", content)
    find_model(str(folder))


def _forms(*groups: str) -> list[bytes]:
    """The forms of some groups that are one file, as tests/support/forms.py makes them."""
    found = []
    for form in forms.FORMS:
        if form.group in groups and not form.refused:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, form.make(Path(folder)))
                if path.is_file():
                    found.append(path.read_bytes())
    return found


def _packed_seeds() -> list[bytes]:
    contents = [idx_images(IMAGES), _npy(IMAGES)]
    return [pack(each) for pack in (lzma.compress, forms.zstd) for each in contents]


def _picture_seeds() -> list[bytes]:
    kinds = ("WEBP", "BMP", "TIFF", "GIF")
    wide = _encoded(IMAGES[0].astype(np.uint16) * 257, "TIFF")
    clear = _encoded(np.dstack([IMAGES[0]] * 4), "WEBP", lossless=True)
    return [*(_encoded(IMAGES[0], kind) for kind in kinds), wide, clear]


def _decode_fitted(content: bytes, _: Path) -> None:
    decode_image(content, fit=True)


READERS: dict[str, Reader] = {
    "idx": Reader(lambda: [idx_images(IMAGES), idx_images(IMAGES[:1])], _read_images, share=5),
    "gzip": Reader(lambda: [_gzip(idx_images(IMAGES))], _read_gzip, mutated_gzip, 1.05),
    "npy": Reader(
        lambda: [_npy(IMAGES), _npy(IMAGES.reshape(COUNT, 784)), _npy(np.array([{}]))],
        _read_images,
        share=5,
    ),
    "labels": Reader(
        lambda: [idx_labels(LABELS), _npy(LABELS), _npy(LABELS.astype(">i8"))],
        _read_labels,
        share=5,
    ),
    "labels-gzip": Reader(lambda: [_gzip(idx_labels(LABELS))], _read_labels, mutated_gzip, 1.05),
    "parquet": Reader(_staged_seeds, _read_images, share=1.05),
    "hugging-face": Reader(_hugging_face_seeds, _read_images, _mutated_hugging_face, 1.05),
    "npz": Reader(lambda: _forms(".npz"), _read_images, mutated_zip({".npy": mutated_bytes}), 1.05),
    "matlab": Reader(lambda: _forms(".mat"), _read_images, share=1.05),
    "zip": Reader(lambda: _forms("zip"), _read_images, mutated_zip({}), 1.05),
    "csv": Reader(lambda: _forms("CSV"), _read_images, share=1.05),
    "tfrecord": Reader(lambda: _forms("TFRecord"), _read_images, share=1.05),
    "columns": Reader(lambda: _forms("Parquet"), _read_images, share=1.05),
    "packed": Reader(_packed_seeds, _read_images, share=1.05),
    "pictures": Reader(_picture_seeds, _decode_fitted, share=3),
    "png": Reader(_png_seeds, _decode, mutated_png, 5),
    "jpeg": Reader(_jpeg_seeds, _decode, share=6),
    "archive": Reader(lambda: [_archive({})], _read_archive, mutated_zip({}), 2),
    "mat": Reader(_mat_seeds, _read_mat, share=0.1, contained=True),
    "manifest": _of_run(MANIFEST, mutated_json, 1.05),
    "sizes": _of_run(SIZES, mutated_json, 1.05),
    "rejects": _of_run(REJECTS, _mutated_lines, 1.05),
    "latents": _of_run(LATENTS, mutated_bytes, 1.05),
    "dataset": Reader(_dataset_seeds, _read_dataset, mutated_json, 4),
    "note": Reader(_note_seeds, _read_note, mutated_json, 5),
    "job": Reader(_job_seeds, _read_job, mutated_json, 3),
    "claim": Reader(_claim_seeds, _read_claim, mutated_json, 1.05),
    "checkpoint": Reader(
        _checkpoint_seeds, _read_checkpoint, mutated_zip({".npy": mutated_bytes}), 2
    ),
    "card": Reader(_card_seeds, _read_card, mutated_json, 1.05),
    "keras": Reader(
        _keras_seeds,
        _read_keras,
        mutated_zip({".json": mutated_json, ".h5": mutated_bytes}),
        1.05,
    ),
    "tflite": Reader(lambda: [_NETWORKS["encoder-int8.tflite"]], _read_tflite, share=1.05),
}
