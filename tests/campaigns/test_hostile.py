"""Inputs that were made to do harm, each with the line that it gets."""

import contextlib
import gzip
import hashlib
import io
import json
import re
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_job.__main__ import run
from beam_job.compress.pipeline import _FindFinished
from beam_job.datasets.catalog import staged_dataset
from beam_job.datasets.staging import with_packed_staged
from beam_job.outputs.attempt import Attempt, Kind, abandon, begin
from beam_job.outputs.resume import continued
from beam_job.outputs.run_directory import complete_run
from beam_job.outputs.seal import seal
from beam_job.verify.read_back import read_back
from tests.campaigns import readers
from tests.conftest import compress, tree
from tests.support.nist import idx_images
from transforms.errors import FileSystemError, InputError
from transforms.images import Shard, ShardKey, Stretch
from transforms.inputs.dataset import cut_shards
from transforms.inputs.files import files_dataset
from transforms.inputs.labels import read_labels
from transforms.inputs.read import read_shard
from transforms.inputs.readers.decode import decode_image
from transforms.models.keras_file import keras_content
from transforms.shard_files import note_path, shard_path
from transforms.storage.files import find_files, read_bytes

IMAGES = np.random.default_rng(7).integers(0, 256, (6, 28, 28), np.uint8)
MANY = struct.pack(">IIII", 0x803, 2**32 - 1, 28, 28)


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def npy(header: str, data: bytes = b"") -> bytes:
    packed = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(packed)) + packed + data


def described(shape: str, kind: str = "'|u1'") -> str:
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}"


def hugging_face(values: list[bytes], **settings: object) -> bytes:
    cells = [{"bytes": value, "path": None} for value in values]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    content = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), content, **settings)
    return content.getvalue()


def rejects_of(path: Path) -> list[str]:
    dataset = files_dataset(str(path), None, "auto")
    shards = cut_shards(dataset, 16384)
    return [each.reason for shard in shards for _, out in read_shard(shard, 1024) for each in out]


def peak_growth(code: str) -> int:
    """By how many bytes the peak memory of a process grows while it runs the code."""
    measure = (
        "import resource\n"
        "from tests.campaigns import test_hostile as t\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"{code}\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", measure], capture_output=True, text=True, check=True, timeout=300
    )
    return int(done.stdout.split()[-1])


# Sizes that lie, and bombs.


def test_a_gzip_of_2_to_the_32_images_is_refused_by_its_header(tmp_path):
    path = put(tmp_path, "f", gzip.compress(MANY + bytes(784)))
    with pytest.raises(
        InputError, match=r"4,294,967,295 images .* --max_unpacked_bytes=17179869184"
    ):
        files_dataset(str(path), None, "auto")


@pytest.mark.parametrize(("most", "refused"), [(6 * 784, False), (6 * 784 - 1, True)])
def test_max_unpacked_bytes_is_what_a_compressed_file_may_unpack_to(most, refused, tmp_path, capfd):
    put(tmp_path, "f.gz", gzip.compress(idx_images(IMAGES)))
    put(tmp_path, "f.parquet", readers.READERS["parquet"].seeds()[0])
    for name in ("f.gz", "f.parquet"):
        flags = [f"--input={tmp_path}/{name}", f"--output={tmp_path}/out-{name}", "--plan"]
        assert run(["compress", *flags, f"--max_unpacked_bytes={most}"]) == 2 * refused
        if refused:
            (line,) = capfd.readouterr().err.strip().splitlines()
            assert "more than --max_unpacked_bytes=4703: raise that if it is right" in line


def test_what_follows_the_images_of_a_gzip_is_not_unpacked(tmp_path):
    bomb = gzip.compress(bytes(1 << 24)) * 40  # 640 MB in 650 KB.
    path = put(tmp_path, "f", gzip.compress(idx_images(IMAGES)) + bomb)
    dataset = files_dataset(str(path), None, "auto")
    with pytest.raises(InputError, match="too long: more follows 6 images"):
        with_packed_staged(dataset, str(tmp_path / "staged"))


def write_label_bomb(folder: str) -> None:
    labels = struct.pack(">II", 0x801, 6) + bytes(6)
    put(Path(folder), "labels", gzip.compress(labels) + gzip.compress(bytes(1 << 24)) * 40)


def test_labels_are_read_no_further_than_there_are_images(tmp_path):
    write_label_bomb(str(tmp_path))
    with pytest.raises(InputError, match="holds more labels than the 6 images"):
        read_labels(*find_files(f"{tmp_path}/labels"), 6)
    code = f"""
try: t.read_labels(*t.find_files({f"{tmp_path}/labels"!r}), 6)
except t.InputError: pass
"""
    assert peak_growth(code) < 32 << 20


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy(described("(4294967296,)", "'<i8'")), "take 34,359,738,368 bytes and there are 0"),
        (npy(described("(-6,)")), "array of shape"),
        (npy("(" * 900), "header"),
        (npy("'''"), "header"),
        (npy(described("(6,)", "'|O'"), b"x" * 48), "whole numbers"),
        (b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b"x" * 99, "header"),
    ],
    ids=["many", "negative", "nested", "open", "pickled", "long"],
)
def test_headers_of_npy_that_lie(content, said, tmp_path):
    path = put(tmp_path, "labels", content)
    with pytest.raises(InputError, match=said) as caught:
        read_labels(*find_files(str(path)), 6)
    assert len(str(caught.value)) < 1000
    images = put(tmp_path, "images.npy", content)
    with pytest.raises(InputError, match=r"images\.npy: "):
        files_dataset(str(images), None, "auto")


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width: int, height: int, *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(29 * 28)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


def test_a_png_of_10_billion_pixels_is_refused_by_its_header(recwarn):
    assert decode_image(png(28, 28)).sum() == 0
    with pytest.raises(InputError, match=r"100000|exceeds limit"):
        decode_image(png(100_000, 100_000))
    with pytest.raises(InputError, match="is 10000x10000, not 28x28"):
        decode_image(png(10_000, 10_000))
    assert [w for w in recwarn.list if "DecompressionBomb" not in str(w.category)] == []


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_what_is_said_beside_the_pixels_is_not_unpacked_without_end(kind):
    before = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
    bomb = chunk(kind, before + zlib.compress(bytes(256 << 20)))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(InputError):
        decode_image(png(28, 28, bomb))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    assert grown * 1024 < 64 << 20


def test_an_image_of_megabytes_is_a_reject(tmp_path):
    good = png(28, 28)
    large = png(28, 28, chunk(b"tEXt", b"a\0" + bytes(16 << 20)))
    path = put(tmp_path, "f", hugging_face([good, large, good]))
    (reason,) = rejects_of(path)
    assert reason == f"takes {len(large):,} bytes, and 16,777,216 are the most"


def write_repeated(folder: str) -> None:
    """A value of 2 MB that 1,024 rows refer to: 2 GB where each row has its own."""
    values = pa.DictionaryArray.from_arrays(np.zeros(1024, np.int32), [bytes(2 << 20)])
    table = pa.table({"image": pa.StructArray.from_arrays([values], ["bytes"])})
    limit = {"dictionary_pagesize_limit": 64 << 20}
    pq.write_table(table, Path(folder, "f"), compression="zstd", store_schema=False, **limit)


def test_a_value_that_all_rows_refer_to_is_not_repeated_in_memory(tmp_path):
    write_repeated(str(tmp_path))
    assert (tmp_path / "f").stat().st_size < 1 << 20
    code = f"assert len(t.rejects_of(t.Path({str(tmp_path / 'f')!r}))) == 1024"
    assert peak_growth(code) < 1 << 30


def test_a_row_group_of_gigabytes_is_refused_by_the_metadata(tmp_path):
    rows = 1_500_000
    images = pa.array([bytes(784)], pa.binary(784)).take(pa.array(np.zeros(rows, np.int64)))
    path = tmp_path / "f"
    pq.write_table(pa.table({"image": images}), path, row_group_size=rows, use_dictionary=False)
    with pytest.raises(InputError, match="write it in smaller row groups"):
        files_dataset(str(path), None, "auto")


def test_no_more_of_a_file_is_read_than_it_may_have(tmp_path):
    path = put(tmp_path, "f", bytes(11))
    assert read_bytes(str(path), 11) == bytes(11)
    with pytest.raises(FileSystemError, match="more than 10 bytes"):
        read_bytes(str(path), 10)
    with pytest.raises(FileSystemError, match="more than 1,000,000 bytes"):
        read_bytes("/dev/zero", 1_000_000)


@pytest.mark.long
@pytest.mark.parametrize("reader", ["parquet", "hugging-face"])
def test_any_byte_of_a_parquet_footer_may_be_wrong(reader, tmp_path):
    content = readers.READERS[reader].seeds()[0 if reader == "hugging-face" else 1]
    (footer,) = struct.unpack("<I", content[-8:-4])
    said = []
    for place in range(len(content) - 8 - footer, len(content)):
        for bit in (0, 3, 6, 7):
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            try:
                readers.READERS[reader].read(bytes(altered), tmp_path)
            except InputError as error:
                said.append(str(error))
    lines = "\n".join(said)
    for words in (
        "rows, and its row groups 6: fetch it again",
        "rows: fetch it again",
        "the most that is read: write it in smaller row groups",
        "cannot be read as Parquet",
    ):
        assert words in lines or reader == "hugging-face"


def test_fewer_rows_than_the_metadata_say(tmp_path):
    table = pa.table({"image": pa.array([bytes(784)] * 4, pa.binary(784))})
    pq.write_table(table, tmp_path / "f", use_dictionary=False, compression="none")
    content = (tmp_path / "f").read_bytes()
    footer = content[-8 - struct.unpack("<I", content[-8:-4])[0] : -8]
    more = footer.replace(b"\x16\x08", b"\x16\x0a")  # i64 fields of 4, zigzag: now of 5.
    assert more != footer
    path = put(tmp_path, "g", content.replace(footer, more))
    with pytest.raises(InputError, match=r"holds fewer rows than its metadata say|gone or damaged"):
        rejects_of(path)


# Documents.

MANIFESTS: list[tuple[str, Callable[[dict], object], str]] = [
    ("files a number", lambda m: m.update(files=3), "got `int` - at `$.files`"),
    ("a list", lambda m: m.update(dataset=[]), "got `array` - at `$.dataset`"),
    ("negative", lambda m: m["files"][0].update(rows=-1), ">= 0 - at `$.rows`"),
    ("not a number", lambda m: m["files"][0].update(bytes=float("nan")), "JSON is malformed"),
    ("true", lambda m: m["files"][0].update(rows=True), "got `bool` - at `$.rows`"),
    ("too many shards", lambda m: m["flags"].update(shard_size=1), "4 shards|6 shards"),
    (
        "2^62 images",
        lambda m: m["dataset"]["splits"]["test"].update(images=2**62),
        "1,537,228,672,809,129,302 shards",
    ),
    ("no shard size", lambda m: m["flags"].update(shard_size=0), "no images"),
    ("up", lambda m: m["files"][0].update(path="latents/../../x"), "latents/../../x"),
    ("absolute", lambda m: m["files"][0].update(path="/etc/passwd"), "/etc/passwd"),
    ("a store", lambda m: m["files"][0].update(path="s3://b/k"), "s3://b/k"),
    ("bits", lambda m: m["model"]["quantization"].update(bits=10**9), "bits|quantization"),
    ("scales", lambda m: m["model"]["quantization"].update(scale=[1], offset=[0]), "1 scales"),
    (
        "a split that climbs",
        lambda m: m["dataset"]["splits"].update({"../../x": m["dataset"]["splits"]["test"]}),
        "the name of a split cannot be the name of a folder",
    ),
]


def put_run(folder: Path, **altered: bytes) -> Path:
    for name, content in {**readers._run(), **altered}.items():
        put(folder, name, content)
    return folder


def test_the_run_that_is_spoilt_below_is_whole(tmp_path):
    assert read_back(complete_run(str(put_run(tmp_path)))).problems == []


@pytest.mark.parametrize(
    ("change", "said"), [m[1:] for m in MANIFESTS], ids=[m[0] for m in MANIFESTS]
)
def test_manifests_that_lie(change, said, tmp_path, capfd):
    manifest = json.loads(readers._run()["manifest.json"])
    change(manifest)
    put_run(tmp_path, **{"manifest.json": json.dumps(manifest).encode()})
    assert run(["verify", f"--input={tmp_path}"]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert any(part in line for part in said.split("|")), line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 1_000_000, "nested too deep|got `array`"),
        (b'{"a":' * 1_000_000, "nested too deep"),
        (b"9" * 5000, "out of range"),
        (b'{"format": "\\ud800"}', "truncated"),
        (b'{"format": "\\ud800 and more"}', "malformed"),
        (b'"' + bytes((64 << 20) + 1), "more than 67,108,864 bytes"),
    ],
    ids=["lists", "objects", "number", "half a character", "half of one in a text", "large"],
)
def test_documents_that_are_none(content, said, tmp_path, capfd):
    put_run(tmp_path, **{"manifest.json": content})
    assert run(["verify", f"--input={tmp_path}"]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert re.search(said, line)
    put(tmp_path, "x/dataset.json", content)
    with pytest.raises(InputError, match=said):
        staged_dataset(str(tmp_path), "x")


def test_a_staged_dataset_names_files_of_its_own_alone(tmp_path):
    whole = json.loads(readers._dataset_seeds()[0])
    for path in ("../x.parquet", "/etc/passwd", "s3://b/k", "images/./x", "images//x"):
        whole["files"][0]["path"] = path
        put(tmp_path, "x/dataset.json", json.dumps(whole).encode())
        with pytest.raises(InputError, match="path is"):
            staged_dataset(str(tmp_path), "x")
    whole["files"][0].update(path="images/x", rows=2**40)
    put(tmp_path, "x/dataset.json", json.dumps(whole).encode())
    with pytest.raises(InputError, match="1,099,511,627,776 images"):
        staged_dataset(str(tmp_path), "x")


@pytest.mark.parametrize(
    ("path", "is_kept"),
    [
        (readers.NOTED, True),
        ("latents/split=test/part-00001-of-00002.0123456789ab.parquet", False),
        ("latents/split=test/../split=test/part-00000-of-00002.parquet", False),
        ("../../x", False),
        ("/etc/passwd", False),
        ("s3://b/k", False),
    ],
)
def test_a_note_is_of_its_shards_own_file_alone(path, is_kept, tmp_path):
    shard = Shard(ShardKey("test", 0, 2, 3), ())
    (seed,) = readers._note_seeds()
    put(
        tmp_path,
        f"_incomplete-a/{note_path(shard_path('latents', shard.key))}",
        seed.replace(readers.NOTED.encode(), path.encode()),
    )
    put(tmp_path, f"_incomplete-a/{readers.NOTED}", readers.NOTED_CONTENT)
    find = _FindFinished(Attempt(str(tmp_path), "a"), readers.LATENT_BYTES)
    assert (list(find.process(Stretch((shard,)))) != [Stretch((shard,))]) == is_kept


@pytest.mark.parametrize("where", ["_claim.json", "manifest.json"])
def test_an_id_that_leads_elsewhere_removes_nothing_there(where, tmp_path, random_images):
    np.save(tmp_path / "images.npy", random_images)
    flags = [f"--input={tmp_path}/images.npy", f"--output={tmp_path}/out", "--quiet"]
    assert compress(*flags) == 0
    put(tmp_path, "precious/file", b"precious")
    put(tmp_path, "out/_incomplete-a/x", b"")
    leads = "a/../../precious"
    document = json.loads((tmp_path / "out" / where).read_bytes())
    document.update({"attempt": leads, "lost": [leads]} if "claim" in where else {"run_id": leads})
    put(tmp_path, f"out/{where}", json.dumps(document).encode())
    assert compress(*flags, "--overwrite") == 0
    assert tree(tmp_path / "precious") == {"file": b"precious"}


@pytest.mark.parametrize("name", ["..", "../precious", "precious", "/", "_incomplete-x/../../p"])
def test_a_claim_that_leads_elsewhere_removes_nothing_there(name, tmp_path):
    kind = Kind("run", "manifest.json", ("latents",))
    attempt = begin(str(tmp_path / "out"), "--output")
    put(tmp_path, "precious/file", b"precious")
    put(tmp_path, "p/file", b"precious")
    put(tmp_path, "out/precious/file", b"precious")
    put(tmp_path, f"out/_incomplete-{attempt.run_id}/x", b"x")
    content = json.dumps({"run_id": attempt.run_id}).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    claim = {"attempt": attempt.run_id, "seal": sha256, "documents": name, "lost": [name]}
    put(tmp_path, "out/_claim.json", json.dumps(claim).encode())
    seal(attempt, kind, {"latents/x": "x"}, {}, content, replace=False)
    for folder in ("precious", "p", "out/precious"):
        assert tree(tmp_path / folder) == {"file": b"precious"}
    assert tree(tmp_path / "out/latents") == {"x": b"x"}


# Networks.


def zipped(**parts: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return content.getvalue()


def refused(content: bytes, said: str, folder: Path) -> None:
    path = put(folder, "m.keras", content)
    with pytest.raises(InputError, match=said):
        keras_content("m", str(path), hashlib.sha256(content).hexdigest())


def test_a_keras_file_whose_parts_are_bombs(tmp_path):
    refused(zipped(**{"config.json": bytes(100 << 20)}), "unpacks to more than", tmp_path)
    deep = b'{"a":' * 100_000
    refused(zipped(**{"config.json": deep, "model.weights.h5": b""}), "nested", tmp_path)


def test_weights_that_are_said_to_take_terabytes(tmp_path):
    import h5py

    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_dataset("layers/dense/vars/0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))
    parts = {"config.json": b"{}", "model.weights.h5": weights.getvalue()}
    refused(zipped(**parts), "said to take 4,398,046,511,104 bytes", tmp_path)


def test_a_class_that_is_no_name_is_told(tmp_path):
    config = json.dumps({"module": ["keras"], "class_name": {"a": 1}}).encode()
    import h5py

    weights = io.BytesIO()
    h5py.File(weights, "w").close()
    parts = {"config.json": config, "model.weights.h5": weights.getvalue()}
    refused(zipped(**parts), "may run code", tmp_path)


# Links where output is written.


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    put(tmp_path, "elsewhere/precious", b"precious")
    put(tmp_path, "elsewhere/latents/precious", b"precious")
    return tmp_path / "elsewhere"


@pytest.mark.parametrize("link", ["latents", "latents/split=all", "rejects"])
def test_a_linked_folder_of_the_output_is_refused(link, elsewhere, tmp_path, random_images, capfd):
    np.save(tmp_path / "images.npy", random_images)
    flags = [f"--input={tmp_path}/images.npy", f"--output={tmp_path}/out", "--overwrite"]
    assert compress(*flags, "--quiet") == 0
    path = tmp_path / "out" / link
    if path.exists():
        path.rename(tmp_path / "moved")
    path.symlink_to(elsewhere)
    capfd.readouterr()
    assert compress(*flags) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert f"{path} is a link" in line
    assert tree(elsewhere) == {"precious": b"precious", "latents/precious": b"precious"}


def test_links_that_look_like_attempts_are_left_alone(elsewhere, tmp_path, random_images):
    np.save(tmp_path / "images.npy", random_images)
    flags = [f"--input={tmp_path}/images.npy", f"--output={tmp_path}/out", "--quiet"]
    job = json.dumps({"created": "x"}).encode()
    put(elsewhere, "job.json", job)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/_incomplete-x").symlink_to(elsewhere)
    before = tree(elsewhere)
    assert compress(*flags, "--overwrite", "--resume") == 0
    assert tree(elsewhere) == before


def test_an_attempt_with_a_linked_folder_is_not_continued(elsewhere, tmp_path):
    put(tmp_path, "out/_incomplete-x/job.json", readers._job_seeds()[0])
    (tmp_path / "out/_incomplete-x/latents").symlink_to(elsewhere)
    own = begin(str(tmp_path / "out"), "--output")
    assert continued(own, json.loads(readers._job_seeds()[0]), strictly=True) == own
    abandon(own)
