import gzip
import os
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nist import idx_images
from tests.transforms.test_images import IMAGES, png
from transforms.errors import InputError
from transforms.images import NO_LABEL, ImageBatch, Segment, Shard, ShardKey, Stretch
from transforms.inputs import parts
from transforms.inputs.dataset import Dataset, ImageFile, cut_shards, cut_stretches
from transforms.inputs.files import stretches_of
from transforms.inputs.read import read_shard, read_stretch
from transforms.inputs.readers import raw
from transforms.inputs.readers.raw import RawLayout
from transforms.storage.files import FoundFile, read_range

ROW_GROUP_ROWS = 7


def staged_table(images: np.ndarray, first_image_id: int) -> pa.Table:
    count = len(images)
    return pa.table(
        {
            "image_id": pa.array(range(first_image_id, first_image_id + count), pa.int64()),
            "label": pa.array([n % 10 for n in range(count)], pa.uint8()),
            "image": pa.array([image.tobytes() for image in images], pa.binary(784)),
        }
    )


def segment_in(folder: Path, kind: str, start: int, stop: int) -> Segment:
    """IMAGES[start:stop] in a file of one kind; labels are image_id % 10."""
    images, count = IMAGES[start:stop], stop - start
    path = folder / f"{kind}-{start}-{stop}"
    labels = bytes((start + n) % 10 for n in range(count))
    if kind == "raw":
        path.write_bytes(b"head" + images.tobytes())
        return Segment(str(path), "raw", count, 0, start, layout=RawLayout(4, count), labels=labels)
    if kind == "transposed":
        path.write_bytes(images.transpose(0, 2, 1).tobytes())
        return Segment(str(path), "raw", count, 0, start, transposed=True, labels=labels)
    if kind == "staged":
        table = staged_table(images, start).set_column(1, "label", pa.array(labels, pa.uint8()))
    else:
        table = pa.table(
            {
                "image": [{"bytes": png(image), "path": None} for image in images],
                "label": pa.array(labels, pa.int64()),
            }
        )
    pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS)
    return Segment(str(path), "parquet", count, 0, start)


def image_file(folder: Path, kind: str, start: int, stop: int) -> ImageFile:
    segment = segment_in(folder, kind, start, stop)
    whole, left = divmod(segment.rows, ROW_GROUP_ROWS)
    row_groups = [ROW_GROUP_ROWS] * whole + [left] * (left > 0)
    return ImageFile("train", segment, tuple(row_groups) if segment.format == "parquet" else ())


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 59), max_size=4, unique=True).map(sorted),
    kinds=st.lists(st.sampled_from(["raw", "transposed", "staged", "png"]), min_size=5, max_size=5),
    shard_size=st.integers(1, 70),
    batch_size=st.integers(1, 70),
)
def test_every_image_is_read_once_whatever_the_files_shards_and_batches(
    tmp_path_factory: pytest.TempPathFactory, cuts, kinds, shard_size, batch_size
):
    folder = tmp_path_factory.mktemp("segments")
    edges = [0, *cuts, 60]
    files = tuple(
        image_file(folder, kind, start, stop)
        for kind, start, stop in zip(kinds, edges[:-1], edges[1:], strict=False)
    )
    dataset = Dataset("d", files, {}, ())
    shards = cut_shards(dataset, shard_size)
    assert [shard.key.rows for shard in shards[:-1]] == [shard_size] * (len(shards) - 1)
    read: dict[ShardKey, list[ImageBatch]] = {shard.key: [] for shard in shards}
    for stretch in cut_stretches(dataset, shard_size):
        for batch, rejects in read_stretch(stretch, batch_size):
            assert rejects == batch.rejects == ()
            read[batch.shard].append(batch)
    assert list(read) == [shard.key for shard in shards]
    batches = [batch for of_shard in read.values() for batch in of_shard]
    for batch in batches:
        assert 0 < len(batch) <= batch_size
        np.testing.assert_array_equal(batch.pixels, IMAGES[batch.image_ids].reshape(-1, 784))
        np.testing.assert_array_equal(batch.labels, batch.image_ids % 10)
    assert np.concatenate([batch.image_ids for batch in batches]).tolist() == list(range(60))
    for shard in shards:
        assert sum(batch.rows for batch in read[shard.key]) == shard.key.rows
        first = shard.segments[0].first_image_id
        images = IMAGES[first : first + shard.key.rows].reshape(-1, 784)
        assert [batch.sha256 for batch in read[shard.key][:-1]] == [""] * (len(read[shard.key]) - 1)
        assert read[shard.key][-1].sha256 == sha256_of(first, images)
        alone = [batch for batch, _ in read_shard(shard, batch_size)]
        assert alone[-1].sha256 == read[shard.key][-1].sha256


def sha256_of(first: int, images: np.ndarray) -> str:
    digest = sha256()
    for image_id, pixels in enumerate(images, start=first):
        digest.update(struct.pack("<qh", image_id, image_id % 10) + pixels.tobytes())
    return digest.hexdigest()


def test_shards_may_be_left_out_of_a_stretch(tmp_path: Path):
    dataset = Dataset("d", (image_file(tmp_path, "staged", 0, 60),), {}, ())
    shards = cut_shards(dataset, 9)
    some = Stretch((shards[0], shards[2], shards[3], shards[6]))
    image_ids = np.concatenate([batch.image_ids for batch, _ in read_stretch(some, 4)])
    assert image_ids.tolist() == [*range(9), *range(18, 36), *range(54, 60)]


def test_a_missing_label_is_none(tmp_path: Path):
    table = staged_table(IMAGES[:3], 0).set_column(1, "label", pa.array([4, None, 6], pa.uint8()))
    pq.write_table(table, tmp_path / "f")
    segment = Segment(str(tmp_path / "f"), "parquet", 3, 0, 0)
    dataset = Dataset("d", (ImageFile("all", segment),), {}, ())
    ((batch, _),) = read_shard(cut_shards(dataset, 10)[0], 10)
    assert batch.labels.tolist() == [4, NO_LABEL, 6]


def test_a_bad_image_among_many_is_rejected_and_the_rest_keep_their_ids(tmp_path: Path):
    contents = [png(image) for image in IMAGES[:6]]
    contents[1] = b"no picture"
    contents[4] = png(np.zeros((28, 27), np.uint8))
    table = pa.table({"image": [{"bytes": content, "path": None} for content in contents]})
    pq.write_table(table, tmp_path / "f")
    dataset = Dataset(
        "d", (ImageFile("all", Segment(str(tmp_path / "f"), "parquet", 6, 0, 0)),), {}, ()
    )
    read = list(read_shard(cut_shards(dataset, 10)[0], 4))
    assert [batch.rows for batch, _ in read] == [4, 2]
    assert [batch.image_ids.tolist() for batch, _ in read] == [[0, 2, 3], [5]]
    np.testing.assert_array_equal(read[1][0].pixels, IMAGES[5:6].reshape(1, 784))
    rejects = [reject for _, some in read for reject in some]
    assert [(reject.image_id, reject.row) for reject in rejects] == [(1, 1), (4, 4)]
    assert rejects[0].reason == "is not one of PNG, JPEG, WEBP, BMP, TIFF, GIF"
    assert rejects[1].reason == "is 27x28, not 28x28"


def test_the_labels_of_a_segment_made_by_hand_are_read(tmp_path: Path):
    pq.write_table(staged_table(IMAGES[:3], 0), tmp_path / "f")
    ((batch, _),) = read_shard(by_hand(tmp_path / "f", 3), 10)
    assert batch.labels.tolist() == [0, 1, 2]
    pq.write_table(staged_table(IMAGES[:3], 0).drop_columns("label"), tmp_path / "f")
    ((batch, _),) = read_shard(by_hand(tmp_path / "f", 3), 10)
    assert batch.labels.tolist() == [NO_LABEL] * 3


def by_hand(path: Path, rows: int, key_rows: int | None = None) -> Shard:
    segment = Segment(str(path), "parquet", rows, first_row=0, first_image_id=0)
    return Shard(ShardKey("all", 0, 1, key_rows or rows), (segment,))


@pytest.mark.parametrize("key_rows", [2, 4])
def test_a_shard_of_other_rows_than_its_key_says_is_refused(tmp_path: Path, key_rows):
    pq.write_table(staged_table(IMAGES[:3], 0), tmp_path / "f")
    said = f"its segments have 3 rows and its key says {key_rows}: correct the shard"
    with pytest.raises(InputError, match=said):
        next(read_shard(by_hand(tmp_path / "f", 3, key_rows), 8))


def test_a_file_that_is_gone_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="gone or damaged since the job was planned"):
        list(read_shard(by_hand(tmp_path / "f", 3), 8))


def input_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.{kind}"
    if kind == "npy":
        np.save(path, IMAGES)
    else:
        pq.write_table(staged_table(IMAGES, 0), path, row_group_size=10)
    return path


@pytest.mark.parametrize("kind", ["npy", "parquet"])
@pytest.mark.parametrize("batches_before", [0, 1, 6])
def test_a_file_that_is_written_to_while_it_is_read_is_an_error(
    tmp_path: Path, kind, batches_before
):
    path = input_file(tmp_path, kind)
    (stretch,) = stretches_of(str(path))
    batches = read_stretch(stretch, 10)
    for _ in range(batches_before):
        next(batches)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match=f"{path}: was written to while the job read it, so not"):
        list(batches)


@pytest.mark.parametrize("batches_before", [0, 1, 6])
def test_a_gzip_that_is_written_to_is_an_error(tmp_path: Path, batches_before):
    path = tmp_path / "f"
    path.write_bytes(gzip.compress(idx_images(IMAGES)))
    (stretch,) = stretches_of(str(path))
    batches = read_stretch(stretch, 10)
    for _ in range(batches_before):
        next(batches)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="was written to while the job read it"):
        list(batches)


class BytesRead:
    """How many bytes are read of files, and in how many reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = self.reads = 0
        for module in (parts, raw):
            monkeypatch.setattr(module, "read_range", self._read_range)

    def _read_range(self, found: FoundFile, start: int, end: int) -> bytes:
        content = read_range(found, start, end)
        self.bytes += len(content)
        self.reads += end > start
        return content


MANY = np.random.default_rng(2).integers(0, 256, (6000, 784), np.uint8)


@pytest.mark.parametrize("row_group", [0, 100, 1000, 6000])
@pytest.mark.parametrize("shard_size", [7, 200, 300, 1000, 16384])
def test_little_of_an_input_is_read_twice(tmp_path: Path, monkeypatch, row_group, shard_size):
    """row_group: rows of one; 0 for a raw file."""
    path = tmp_path / "f"
    if row_group:
        image = pa.array([image.tobytes() for image in MANY], pa.binary(784))
        pq.write_table(pa.table({"image": image}), path, row_group_size=row_group)
    else:
        path.write_bytes(idx_images(MANY.reshape(-1, 28, 28)))
    counted = BytesRead(monkeypatch)
    cut = stretches_of(str(path), shard_size)
    assert counted.reads <= 9  # A header or footer, and 8 places to look at.
    pixels = [batch.pixels for stretch in cut for batch, _ in read_stretch(stretch, 1024)]
    np.testing.assert_array_equal(np.concatenate(pixels), MANY)
    # What is looked at before: 256 rows, or the dictionary and the page that have them.
    looked_at = 2 << 20 if row_group else 256 * 784
    assert counted.bytes <= 1.05 * path.stat().st_size + looked_at


def test_memory_is_bounded_by_batches_not_by_row_groups(tmp_path: Path):
    """One row group of 157 MB; read in a process of its own, whose most memory is what counts."""
    path = tmp_path / "f"
    pixels = np.zeros(200_000 * 784, np.uint8)
    image = pa.Array.from_buffers(pa.binary(784), 200_000, [None, pa.py_buffer(pixels)])
    pq.write_table(
        pa.table({"image": image}),
        path,
        compression="none",
        use_dictionary=False,
        row_group_size=200_000,
    )
    code = (
        "import resource, sys\n"
        "from transforms.inputs.files import stretches_of\n"
        "from transforms.inputs.read import read_stretch\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "before = most()\n"
        "(stretch,) = stretches_of(sys.argv[1], 1024)\n"
        "assert sum(len(batch) for batch, _ in read_stretch(stretch, 1024)) == 200_000\n"
        "print(most() - before)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100


def test_a_parquet_file_that_shrank_is_an_error(tmp_path: Path):
    table = pa.table({"image_id": [0, 1], "image": pa.array([bytes(784)] * 2, pa.binary(784))})
    pq.write_table(table, tmp_path / "f")
    segment = Segment(str(tmp_path / "f"), "parquet", 3, first_row=0, first_image_id=0)
    with pytest.raises(InputError, match="has fewer rows than when the job was planned"):
        list(read_shard(Shard(ShardKey("all", 0, 1, 3), (segment,)), 8))


def test_a_raw_file_that_shrank_is_an_error(tmp_path: Path):
    segment = segment_in(tmp_path, "raw", 0, 10)
    dataset = Dataset("d", (ImageFile("all", segment),), {}, ())
    Path(segment.path).write_bytes(b"head" + b"\0" * 784 * 9)
    with pytest.raises(InputError, match="shorter than it was"):
        list(read_shard(cut_shards(dataset, 10)[0], 4))
