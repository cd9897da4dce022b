import errno
import gzip
import os
import struct
import threading
import time
from collections import Counter
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tests.support.error_inputs import npy, parquet, staged
from tests.support.nist import idx_images, idx_labels
from tests.transforms.inputs.test_read import staged_table
from transforms import ReadImages, ReadImagesFrom, Stretch
from transforms.errors import InputError
from transforms.images import PIXELS
from transforms.inputs import labels, matching, parts
from transforms.inputs.files import files_dataset, stretches_of
from transforms.inputs.readers import raw
from transforms.storage.files import REQUESTS_AT_ONCE, FoundFile


def test_nists_files_are_turned_upright_and_their_labels_found(tmp_path, random_images):
    stored = random_images.transpose(0, 2, 1)
    images = tmp_path / "emnist-letters-train-images-idx3-ubyte"
    images.write_bytes(idx_images(stored))
    labels = tmp_path / "emnist-letters-train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx_labels(np.arange(40) % 26 + 1)))
    dataset = files_dataset(str(images), None, "auto")
    assert dataset.rows == {"train": 40}
    assert dataset.files[0].segment.transposed
    assert dataset.files[0].segment.labels == bytes(n % 26 + 1 for n in range(40))
    assert dataset.characters[26] == "Z"
    assert {source.path for source in dataset.sources} == {str(images), str(labels)}
    assert not files_dataset(str(images), None, "upright").files[0].segment.transposed


def test_a_gzip_is_known_by_its_content(tmp_path: Path, random_images):
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(idx_images(random_images)))
    dataset = files_dataset(str(path), None, "auto")
    assert dataset.files[0].segment.packing == ("gzip",)
    assert dataset.rows == {"all": 40}


def test_files_of_a_split_follow_each_other_by_name(tmp_path: Path, random_images):
    np.save(tmp_path / "b-train.npy", random_images[:10])
    np.save(tmp_path / "a-train.npy", random_images[10:])
    np.save(tmp_path / "c-test.npy", random_images[:3].reshape(3, 784))
    dataset = files_dataset(str(tmp_path / "*.npy"), None, "auto")
    assert dataset.rows == {"train": 40, "test": 3}
    assert [file.segment.first_image_id for file in dataset.files] == [0, 30, 0]


def test_what_a_listing_shows_goes_with_each_file(tmp_path: Path, random_images):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx_images(random_images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_labels(np.arange(40)))
    dataset = files_dataset(str(path), None, "auto")
    segment = dataset.files[0].segment
    assert segment.found == FoundFile(str(path), path.stat().st_size, segment.version)
    assert [source.bytes for source in dataset.sources] == [path.stat().st_size, 48]
    assert dataset.sources[0].version == segment.version
    os.utime(path, ns=(1, 1))
    assert files_dataset(str(path), None, "auto").files[0].segment.version != segment.version


def test_labels_in_a_folder_with_a_pattern_in_its_name_are_found(tmp_path: Path, random_images):
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_images(random_images)))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_labels(np.arange(40)))
    (file,) = files_dataset(f"{folder}/train-images-idx3-ubyte.gz", None, "auto").files
    assert file.segment.labels == bytes(range(40))


def test_an_npy_with_a_long_header_is_read(tmp_path: Path):
    images = np.arange(200 * PIXELS, dtype=np.int64).astype(np.uint8).reshape(200, PIXELS)
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (200, 784), }".ljust(8000) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + images.tobytes()
    (tmp_path / "f").write_bytes(content)
    (file,) = files_dataset(str(tmp_path / "f"), None, "auto").files
    assert (file.segment.rows, file.segment.layout.offset) == (200, 8011)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([0, 1], [1, 2], "begins with image_id 1 of split all, and a file before it goes up to 1"),
        ([0, 5], [3, 6], "begins with image_id 3 of split all, and a file before it goes up to 5"),
        ([0, 5], [2, 3], "begins with image_id 2 of split all, and a file before it goes up to 5"),
        ([4, 5], [0, 1], "begins with image_id 0 of split all, and a file before it goes up to 5"),
    ],
)
def test_image_ids_of_files_that_overlap_are_refused(tmp_path: Path, first, second, said):
    (tmp_path / "a").write_bytes(staged(first))
    (tmp_path / "b").write_bytes(staged(second))
    with pytest.raises(InputError, match=f"{tmp_path}/b: {said}: give each image once, in order"):
        files_dataset(f"{tmp_path}/*", None, "auto")


def test_image_ids_may_have_gaps(tmp_path: Path):
    (tmp_path / "a").write_bytes(staged([0, 5]))
    (tmp_path / "b").write_bytes(staged([6, 9]))
    found = files_dataset(f"{tmp_path}/*", None, "auto").files
    assert [file.segment.first_image_id for file in found] == [0, 6]


def test_the_last_image_id_of_many_row_groups_is_known(tmp_path: Path):
    table = staged_table(np.zeros((300, 28, 28), np.uint8), 100)
    pq.write_table(table, tmp_path / "a", row_group_size=7)
    (tmp_path / "b").write_bytes(staged([399]))
    with pytest.raises(InputError, match="image_id 399 of split all, and a file before it goes up"):
        files_dataset(f"{tmp_path}/*", None, "auto")


@pytest.mark.parametrize("name", ["pipe", "null"])
def test_what_cannot_be_read_twice_is_refused(tmp_path: Path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    with pytest.raises(InputError, match=f"{name} is not a regular file: give a file that can be"):
        files_dataset(f"{tmp_path}/{name}", None, "auto")


def test_a_file_that_is_written_to_between_two_looks_is_refused(tmp_path: Path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(npy(np.zeros((6, 784), np.uint8)))
    listed = matching.find_files(str(path))
    os.utime(path, ns=(1, 1))
    monkeypatch.setattr(matching, "find_files", lambda _: listed)
    with pytest.raises(InputError, match="f: was written to while the job read it"):
        files_dataset(str(path), None, "auto")
    path.unlink()
    with pytest.raises(InputError, match=r"f: cannot be read \(.*\): put it back, or give another"):
        files_dataset(str(path), None, "auto")


def test_what_may_not_be_looked_at_is_not_said_to_be_missing(tmp_path: Path, monkeypatch):
    with pytest.raises(InputError, match=r"cannot be looked up \(\[.*File name too long"):
        files_dataset(f"{tmp_path}/{'n' * 300}.npy", None, "auto")

    def refuse(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "d").mkdir()
    monkeypatch.setattr(matching.os, "scandir", refuse)
    with pytest.raises(InputError, match=r"d/\*\.npy cannot be looked up \(.*Permission denied"):
        files_dataset(f"{tmp_path}/d/*.npy", None, "auto")


def test_a_link_to_nothing_is_told(tmp_path: Path):
    (tmp_path / "f").symlink_to("nosuch")
    with pytest.raises(InputError, match=r"--input=.*/f cannot be looked up \(.*\): correct"):
        files_dataset(f"{tmp_path}/f", None, "auto")


def test_a_file_and_its_twin_are_one(tmp_path: Path, random_images):
    """As torchvision leaves MNIST/raw, and `gunzip -k` a folder."""
    for split, count in (("train", 30), ("t10k", 10)):
        for name, content in (
            (f"{split}-images-idx3-ubyte", idx_images(random_images[:count])),
            (f"{split}-labels-idx1-ubyte", idx_labels(np.arange(count))),
        ):
            (tmp_path / name).write_bytes(content)
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    dataset = files_dataset(f"{tmp_path}/*", None, "auto")
    assert dataset.rows == {"train": 30, "test": 10}
    assert {file.segment.format for file in dataset.files} == {"raw"}
    assert all(file.segment.labels for file in dataset.files)
    assert any("t10k-images-idx3-ubyte.gz" in note for note in dataset.notes if "left out" in note)


def test_files_folders_and_globs_count_once_each(tmp_path: Path, random_images):
    (tmp_path / "d/sub").mkdir(parents=True)
    np.save(tmp_path / "a.npy", random_images[:1])
    np.save(tmp_path / "d/b.npy", random_images[1:3])
    np.save(tmp_path / "d/sub/c.npy", random_images[3:6])
    (tmp_path / "d/README.md").write_text("no image")
    (tmp_path / "d/.DS_Store").write_text("hidden")
    (tmp_path / "d/link.npy").symlink_to(tmp_path / "a.npy")
    given = [f"{tmp_path}/a.npy", f"{tmp_path}/d", f"{tmp_path}/d/**/*.npy"]
    dataset = files_dataset(given, None, "auto")
    names = [Path(file.segment.path).name for file in dataset.files]
    assert names == ["a.npy", "b.npy", "c.npy"]
    (left_out,) = (note for note in dataset.notes if note.startswith("left out: "))
    assert "README.md (a document)" in left_out


@pytest.mark.parametrize(
    ("images", "labels", "pattern"),
    [
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "*"),
        (
            "train-images-idx3-ubyte/train-images-idx3-ubyte",
            "train-labels-idx1-ubyte/train-labels-idx1-ubyte",
            "*/*",
        ),
        (
            "train-images-idx3-ubyte/train-images-idx3-ubyte",
            "train-labels-idx1-ubyte/train-labels-idx1-ubyte",
            "*images*/*",
        ),
        ("Train-Images-idx3-ubyte", "Train-Labels-idx1-ubyte.gz", "*"),
    ],
)
def test_labels_of_idx_are_found_as_mirrors_and_archives_leave_them(
    tmp_path: Path, random_images, images, labels, pattern
):
    for name, content in (
        (images, idx_images(random_images)),
        (labels, idx_labels(np.arange(40))),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        packed = gzip.compress(content) if name.endswith(".gz") else content
        (tmp_path / name).write_bytes(packed)
    (file,) = files_dataset(f"{tmp_path}/{pattern}", None, "auto").files
    assert (file.split, file.segment.labels) == ("train", bytes(range(40)))


def test_labels_of_npy_are_found_by_name_where_they_are_as_many(tmp_path: Path, random_images):
    np.save(tmp_path / "x_train.npy", random_images)
    np.save(tmp_path / "y_train.npy", np.arange(40))
    np.save(tmp_path / "x_test.npy", random_images[:4])
    np.save(tmp_path / "y_test.npy", np.eye(4))  # One-hot.
    dataset = files_dataset(f"{tmp_path}/x_*.npy", None, "auto")
    labels = {file.split: file.segment.labels for file in dataset.files}
    assert labels == {"train": bytes(range(40)), "test": None}
    assert "labels: none found for 1 file, y_train.npy for x_train.npy" in dataset.notes
    assert files_dataset(f"{tmp_path}/?_train.npy", None, "auto").rows == {"train": 40}


@pytest.mark.parametrize(
    ("labels", "first", "said"),
    [
        (np.arange(40) % 26 + 1, "A", ""),
        (np.arange(40) % 26, "A", "count from 0, so 0 is A"),
        (np.arange(40) % 27, None, "labels 0 of"),
        (np.arange(40) % 26 + 5, "E", "labels 27, 28, 29, 30 of"),
    ],
)
def test_no_letter_is_off_by_one(tmp_path: Path, random_images, labels, first, said):
    (tmp_path / "emnist-letters-train-images-idx3-ubyte").write_bytes(idx_images(random_images))
    (tmp_path / "emnist-letters-train-labels-idx1-ubyte").write_bytes(idx_labels(labels))
    dataset = files_dataset(f"{tmp_path}/*images*", None, "auto")
    assert dataset.characters.get(int(labels[0])) == first
    notes = [note for note in dataset.notes if note.startswith("characters: ")]
    assert len(notes) == bool(said)
    assert said in "".join(notes)


def test_labels_that_are_of_no_images_are_named(tmp_path: Path, random_images):
    (tmp_path / "test-images-idx3-ubyte").write_bytes(idx_images(random_images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_labels(np.arange(9)))
    dataset = files_dataset(f"{tmp_path}/*", None, "auto")
    assert dataset.files[0].segment.labels is None
    assert any("train-labels-idx1-ubyte (labels" in note for note in dataset.notes)


LOOKING = 4 * 16
"""Requests at most to look at images of some files, whatever the number of files."""


class SlowStore:
    """A store of files that all have the same content; an answer takes a while."""

    SECONDS = 0.02

    def __init__(self, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
        self.requests, self.at_once, self.most = Counter[str](), 0, 0
        self._contents = contents
        self._lock = threading.Lock()
        for module in (matching, labels):
            monkeypatch.setattr(module, "find_files", self._find_files)
        for module in (parts, raw):
            monkeypatch.setattr(module, "read_range", self._read_range)

    def _find_files(self, pattern: str) -> list[FoundFile]:
        self._wait("LIST")
        is_next = pattern == "s3://b/in/*" and self.requests["LIST"] > 1
        named = [path for path in self._contents if ("labels-idx1" in path) == is_next]
        return [FoundFile(path, len(self._contents[path]), "1") for path in sorted(named)]

    def _read_range(self, found: FoundFile, start: int, end: int) -> bytes:
        self._wait("GET")
        return self._contents[found.path][start:end]

    def _wait(self, kind: str) -> None:
        with self._lock:
            self.requests[kind] += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(self.SECONDS)
        with self._lock:
            self.at_once -= 1


def pictures_of(rows: int) -> bytes:
    column = pa.array([bytes(range(200)) * 4] * rows, pa.binary())
    return parquet(image=pa.StructArray.from_arrays([column], ["bytes"]))


@pytest.mark.parametrize(
    ("name", "content", "requests", "listings"),
    [
        ("{}.npy", npy(np.zeros((900, 784), np.uint8)), 1, 1),
        ("{}-images-idx3", idx_images(np.zeros((900, 28, 28))), 2, 2),
        ("{}.parquet", pictures_of(9), 1, 1),
        ("{}.parquet", parquet(a=[1], image=[{"bytes": os.urandom(70_000)}]), 2, 1),
    ],
)
def test_a_file_takes_few_requests_and_many_files_wait_at_once(
    monkeypatch, name, content, requests, listings
):
    count = 256
    paths = [f"s3://b/in/{name.format(number)}" for number in range(count)]
    contents = dict.fromkeys(paths, content)
    if "idx" in name:
        given = idx_labels(np.zeros(900))
        contents |= {path.replace("images-idx3", "labels-idx1"): given for path in paths}
    store = SlowStore(monkeypatch, contents)
    dataset = files_dataset("s3://b/in/*", None, "auto")
    assert len(dataset.files) == count
    assert store.requests["LIST"] == listings
    assert requests * count <= store.requests["GET"] <= requests * count + LOOKING
    assert store.most == REQUESTS_AT_ONCE


def test_staged_files_in_a_store_take_no_more_than_four_requests(monkeypatch):
    """Head, footer, the rest of a long one, and the last image_id."""
    images = np.random.default_rng(0).integers(0, 256, (400, 28, 28), np.uint8)
    sink = pa.BufferOutputStream()
    pq.write_table(staged_table(images, 0), sink, row_group_size=10)
    contents = {f"s3://b/in/split={n}/f": sink.getvalue().to_pybytes() for n in range(128)}
    store = SlowStore(monkeypatch, contents)
    files_dataset("s3://b/in/*/f", None, "auto")
    assert store.requests["GET"] <= 4 * len(contents) + LOOKING
    assert store.most == REQUESTS_AT_ONCE


def test_a_pattern_is_read_in_a_pipeline(tmp_path: Path, random_images):
    np.save(tmp_path / "f.npy", random_images)
    np.save(tmp_path / "labels.npy", np.arange(40))
    pattern, given = f"{tmp_path}/f.npy", f"{tmp_path}/labels.npy"
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        batches, rejects = pipeline | ReadImagesFrom(pattern, 7, labels=given, shard_size=16)
        assert_that(
            batches | beam.FlatMap(lambda batch: batch.labels.tolist()), equal_to(range(40))
        )
        assert_that(rejects, equal_to([]), "NoRejects")


def test_shards_are_read_as_stretches_are(tmp_path: Path):
    pq.write_table(staged_table(np.zeros((40, 28, 28), np.uint8), 0), tmp_path / "f")
    (stretch,) = stretches_of(str(tmp_path / "f"), 16)
    assert isinstance(stretch, Stretch)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        shards = pipeline | beam.Create(stretch.shards)
        batches, _ = shards | ReadImages(100)
        assert_that(
            batches | beam.Map(lambda batch: (batch.shard.number, len(batch), len(batch.sha256))),
            equal_to([(0, 16, 64), (1, 16, 64), (2, 8, 64)]),
        )


def test_a_gzip_is_one_stretch(tmp_path: Path, random_images):
    (tmp_path / "f").write_bytes(gzip.compress(idx_images(random_images)))
    (stretch,) = stretches_of(str(tmp_path / "f"), 16)
    assert [shard.key.rows for shard in stretch.shards] == [16, 16, 8]


def test_what_has_to_be_unpacked_has_no_shards(tmp_path: Path):
    (tmp_path / "f").write_bytes(gzip.compress(staged([0, 1])))
    with pytest.raises(InputError, match="f: has to be unpacked before it can be read: unpack it"):
        stretches_of(str(tmp_path / "f"))


def test_parquet_in_a_gzip_is_unpacked_as_long_as_the_dataset_lives(tmp_path: Path):
    (tmp_path / "f").write_bytes(gzip.compress(staged([0, 1])))
    dataset = files_dataset(str(tmp_path / "f"), None, "auto")
    unpacked = Path(dataset.files[0].segment.path)
    assert unpacked.exists()
    assert dataset.rows == {"all": 2}
    del dataset
    assert not unpacked.parent.exists()
