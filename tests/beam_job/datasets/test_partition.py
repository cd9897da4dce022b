from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_job.datasets.partition import Images, joined_images, load_images, partition
from transforms.errors import InputError
from transforms.images import NO_LABEL
from transforms.inputs.files import files_dataset


def images(**splits: int) -> Images:
    """So many images of each split; every pixel of one says which it is."""
    names = np.repeat(list(splits), list(splits.values()))
    ids = np.concatenate([np.arange(count) for count in splits.values()])
    pixels = np.arange(len(ids)).astype(np.uint8)[:, None].repeat(784, axis=1)
    return Images(names, ids, (ids % 5).astype(np.int16), pixels)


def named(part: Images) -> list[tuple[str, int]]:
    return list(zip(part.splits.tolist(), part.image_ids.tolist(), strict=True))


def test_test_is_held_out_where_train_is_beside_it():
    parts = partition(images(train=40, test=15))
    assert named(parts.held_out) == [("test", n) for n in range(15)]
    assert named(parts.validation) == [("train", n) for n in (8, 18, 28, 38)]
    assert named(parts.training) == [("train", n) for n in range(40) if n % 10 != 8]
    assert "held out: the split test;" in parts.rule
    assert "validation: of the others those with image_id % 10 == 8" in parts.rule


@pytest.mark.parametrize("split", ["all", "train", "test"])
def test_a_tenth_of_a_split_that_is_alone_is_held_out(split):
    parts = partition(images(**{split: 32}))
    assert named(parts.held_out) == [(split, 9), (split, 19), (split, 29)]
    assert named(parts.validation) == [(split, 8), (split, 18), (split, 28)]
    assert named(parts.training) == [(split, n) for n in range(32) if n % 10 not in (8, 9)]
    assert "held out: image_id % 10 == 9;" in parts.rule


def test_a_tenth_of_each_split_is_held_out_where_they_are_not_train_and_test():
    parts = partition(images(all=20, train=10))
    assert named(parts.held_out) == [("all", 9), ("all", 19), ("train", 9)]
    assert named(parts.validation) == [("all", 8), ("all", 18), ("train", 8)]


@given(st.dictionaries(st.sampled_from(["train", "test", "all"]), st.integers(10, 45), min_size=1))
def test_every_image_is_in_one_part_with_its_own_pixels_and_label(splits):
    given_images = images(**splits)
    parts = partition(given_images)
    together = joined_images([parts.training, parts.validation, parts.held_out])
    assert sorted(named(together)) == sorted(named(given_images))
    assert len(set(named(together))) == len(given_images)
    by_name = dict(zip(named(given_images), given_images.pixels[:, 0], strict=True))
    assert [by_name[name] for name in named(together)] == together.pixels[:, 400].tolist()
    np.testing.assert_array_equal(together.labels, together.image_ids % 5)


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"all": 9}, r"9 images are too few to split \(8 training, 1 validation, 0 held out\)"),
        (
            {"all": 1},
            r"1 images? (is|are) too few to split \(1 training, 0 validation, 0 held out\)",
        ),
        (
            {"train": 8, "test": 90},
            r"98 images are too few to split \(8 training, 0 validation, 90",
        ),
    ],
)
def test_too_few_are_refused(splits, said):
    with pytest.raises(InputError, match=said) as error:
        partition(images(**splits))
    assert "give 10 or more in each split" in str(error.value)


def test_ten_are_enough():
    parts = partition(images(all=10))
    assert [len(part) for part in (parts.training, parts.validation, parts.held_out)] == [8, 1, 1]


def test_all_images_of_files_are_loaded(tmp_path, random_images):
    np.save(tmp_path / "x-train.npy", random_images[:30])
    np.save(tmp_path / "x-test.npy", random_images[30:])
    loaded = load_images(files_dataset(f"{tmp_path}/*.npy", None, "auto"))
    assert named(loaded) == [("train", n) for n in range(30)] + [("test", n) for n in range(10)]
    np.testing.assert_array_equal(loaded.pixels, random_images.reshape(-1, 784))
    assert set(loaded.labels.tolist()) == {NO_LABEL}
    assert loaded.fingerprint == sha256(random_images.tobytes()).hexdigest()
    assert loaded.take(np.arange(40)[::-1]).fingerprint != loaded.fingerprint


def test_an_image_that_cannot_be_read_is_refused(tmp_path):
    column = [{"bytes": b"no picture", "path": ""}]
    pq.write_table(pa.table({"image": column}), tmp_path / "x.parquet")
    dataset = files_dataset(f"{tmp_path}/x.parquet", None, "auto")
    with pytest.raises(
        InputError, match="row 0: is not one of PNG, JPEG, WEBP, BMP, TIFF, GIF: mend that image"
    ):
        load_images(dataset)
