import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beam_job.datasets import Dataset, ImageFile, cut_shards
from transforms.errors import InputError
from transforms.images import (
    NO_LABEL,
    Segment,
    Shard,
    ShardKey,
    decode_image,
    read_shard,
    upright,
)

IMAGES = np.random.default_rng(1).integers(0, 256, (60, 28, 28), np.uint8)


def png(image: np.ndarray, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind)
    return content.getvalue()


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
        return Segment(str(path), "raw", count, 0, start, offset=4, labels=labels)
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
    pq.write_table(table, path, row_group_size=7)
    return Segment(str(path), "parquet", count, 0, start, label_column="label")


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
        ImageFile("train", segment_in(folder, kind, start, stop))
        for kind, start, stop in zip(kinds, edges[:-1], edges[1:], strict=False)
    )
    shards = cut_shards(Dataset("d", files, {}, ()), shard_size)
    assert [shard.key.rows for shard in shards[:-1]] == [shard_size] * (len(shards) - 1)
    image_ids: list[int] = []
    for shard in shards:
        read = [batch for batch, _ in read_shard(shard, batch_size)]
        assert sum(batch.rows for batch in read) == shard.key.rows
        for batch in read:
            assert 0 < len(batch) <= batch_size
            image_ids.extend(batch.image_ids.tolist())
            expected = IMAGES[batch.image_ids].reshape(-1, 784)
            np.testing.assert_array_equal(batch.pixels, expected)
            np.testing.assert_array_equal(batch.labels, batch.image_ids % 10)
    assert image_ids == list(range(60))


def test_upright_turns_what_nist_stores_column_by_column():
    stored = IMAGES.transpose(0, 2, 1).reshape(-1, 784)
    np.testing.assert_array_equal(upright(stored), IMAGES.reshape(-1, 784))


def test_a_missing_label_is_none(tmp_path: Path):
    table = staged_table(IMAGES[:3], 0).set_column(1, "label", pa.array([4, None, 6], pa.uint8()))
    pq.write_table(table, tmp_path / "f")
    segment = Segment(str(tmp_path / "f"), "parquet", 3, 0, 0, label_column="label")
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
    assert rejects[0].reason == "is neither PNG nor JPEG"
    assert rejects[1].reason == "is 27x28, not 28x28"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decode_image_reads_grey_and_colour(kind: str):
    grey = np.full((28, 28), 77, np.uint8)
    for image in (grey, np.stack([grey] * 3, axis=-1)):
        np.testing.assert_array_equal(decode_image(png(image, kind)), grey.reshape(-1))


def test_a_png_of_784_bytes_is_no_bare_pixels():
    content = png(np.full((28, 28), 9, np.uint8))
    np.testing.assert_array_equal(decode_image(content.ljust(784, b"\0")), 9)


def test_what_would_not_look_the_same_in_grey_is_refused():
    deep = Image.fromarray(np.full((28, 28), 40_000, np.uint16))
    clear = Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    for image in (deep, clear):
        content = io.BytesIO()
        image.save(content, "PNG")
        with pytest.raises(InputError, match="is of mode"):
            decode_image(content.getvalue())


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", png(IMAGES[0])[:80]])
def test_decode_image_says_what_is_wrong(content):
    with pytest.raises(InputError):
        decode_image(content)


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
