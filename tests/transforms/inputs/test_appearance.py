"""What files look like: taken as seen where that is certain, refused where it is not."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from beam_job.datasets.sample import sample_splits
from tests.support.error_inputs import pictures
from tests.support.nist import idx_images
from tests.transforms.test_images import png
from transforms.errors import InputError
from transforms.images import PIXELS, toned, upright
from transforms.inputs.dataset import Dataset, cut_stretches
from transforms.inputs.files import files_dataset
from transforms.inputs.looks import orientation_of
from transforms.inputs.read import read_stretch


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """300 upright digits, light on dark: uint8 (300, 784)."""
    return sample_splits()["train"].images[:300].reshape(-1, PIXELS)


def read(dataset: Dataset) -> np.ndarray:
    stretches = cut_stretches(dataset, 1000)
    return np.concatenate([b.pixels for each in stretches for b, _ in read_stretch(each, 100)])


def saved(tmp_path: Path, images: np.ndarray, name: str = "a.npy") -> str:
    np.save(tmp_path / name, images)
    return str(tmp_path / name)


def note(dataset: Dataset, topic: str) -> str:
    (found,) = (line for line in dataset.notes if line.startswith(f"{topic}: "))
    return found.removeprefix(f"{topic}: ")


def test_images_that_look_as_they_are_taken_are_said_to(tmp_path, digits):
    dataset = files_dataset(saved(tmp_path, digits), None, "auto")
    assert note(dataset, "orientation") == "upright, and they look so"
    assert note(dataset, "pixels") == "0 to 255, light on dark"
    np.testing.assert_array_equal(read(dataset), digits)


@pytest.mark.parametrize("name", ["emnist-mnist-test-images-idx3-ubyte", "my_EMNIST-images.gz"])
def test_nists_files_are_transposed_by_name_and_look_so(tmp_path, digits, name):
    content = idx_images(upright(digits).reshape(-1, 28, 28))
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    dataset = files_dataset(f"{tmp_path}/{name}", None, "auto")
    assert note(dataset, "orientation") == "transposed, and they look so"
    np.testing.assert_array_equal(read(dataset), digits)


@pytest.mark.parametrize(
    ("name", "turned", "said"),
    [
        ("train-images-idx3-ubyte", True, "look transposed, and nothing in its name says so"),
        ("emnist-images-idx3-ubyte", False, "look upright, and by its name, as NIST's files are"),
    ],
)
def test_a_name_and_a_look_that_disagree_are_refused(tmp_path, digits, name, turned, said):
    path = tmp_path / name
    stored = upright(digits) if turned else digits
    path.write_bytes(idx_images(stored.reshape(-1, 28, 28)))
    with pytest.raises(InputError, match=f"{name}: its images {said}.* say --orientation=upright"):
        files_dataset(str(path), None, "auto")
    chosen = "transposed" if turned else "upright"
    dataset = files_dataset(str(path), None, chosen)
    assert note(dataset, "orientation") == f"{chosen}, as --orientation says"
    np.testing.assert_array_equal(read(dataset), digits)


def test_what_is_no_handwriting_is_taken_by_its_name(tmp_path, random_images):
    dataset = files_dataset(saved(tmp_path, random_images), None, "auto")
    said = "upright, as no name says otherwise (not to be told by looking at them)"
    assert note(dataset, "orientation") == said
    assert orientation_of(np.zeros((50, PIXELS), np.uint8)) is None


def test_small_files_are_looked_at_together(tmp_path, digits):
    for number in range(16):
        saved(tmp_path, upright(digits[number * 10 : number * 10 + 10]), f"{number:02}.npy")
    with pytest.raises(InputError, match=r"00\.npy: its images look transposed"):
        files_dataset(str(tmp_path), None, "auto")


def test_many_files_that_differ_are_refused(tmp_path, digits):
    for number in range(32):
        saved(tmp_path, 255 - digits[:3] if number == 8 else digits[:3], f"{number:02}.npy")
    said = "some files are dark on light or have other values than others"
    with pytest.raises(InputError, match=said):
        files_dataset(str(tmp_path), None, "auto")
    assert files_dataset(str(tmp_path), None, "auto", invert="no").rows == {"all": 96}


def test_ink_on_paper_is_inverted_and_said(tmp_path, digits):
    path = saved(tmp_path, 255 - digits)
    dataset = files_dataset(path, None, "auto")
    assert note(dataset, "pixels") == "0 to 255, dark on light: inverted"
    np.testing.assert_array_equal(read(dataset), digits)
    as_they_are = files_dataset(path, None, "upright", invert="no")
    np.testing.assert_array_equal(read(as_they_are), 255 - digits)


def test_some_images_of_ink_on_paper_are_refused(tmp_path, digits):
    mixed = np.concatenate([digits[:80], 255 - digits[80:100]])
    path = saved(tmp_path, mixed)
    with pytest.raises(InputError, match=r"20 of 100 images are dark on light.* say by --invert=y"):
        files_dataset(path, None, "auto")
    np.testing.assert_array_equal(read(files_dataset(path, None, "auto", invert="no")), mixed)


@pytest.mark.parametrize("full", [1, 15, 16])
@pytest.mark.parametrize("inverted", [False, True])
def test_values_that_go_up_to_less_are_brought_to_255(tmp_path, digits, full, inverted):
    few = np.rint(digits / 255 * full).astype(np.uint8)
    dataset = files_dataset(saved(tmp_path, full - few if inverted else few), None, "auto")
    assert note(dataset, "pixels").startswith(f"0 to {full}, brought to 0 to 255, ")
    np.testing.assert_array_equal(read(dataset), np.rint(few * (255 / full)))


def test_values_that_could_be_anything_are_refused(tmp_path, digits):
    path = saved(tmp_path, digits // 4)
    with pytest.raises(InputError, match=r"its brightest pixel is 63 of 255 .* say by --max_pixel"):
        files_dataset(path, None, "auto")
    as_they_are = files_dataset(path, None, "auto", max_pixel=255)
    np.testing.assert_array_equal(read(as_they_are), digits // 4)
    brought = files_dataset(path, None, "auto", max_pixel=63)
    np.testing.assert_array_equal(read(brought), np.rint(digits // 4 * (255 / 63)))


def test_a_larger_value_than_those_looked_at_is_refused(tmp_path):
    images = np.zeros((1000, PIXELS), np.uint8)
    images[:, 300] = 1
    images[999 - 40, 300] = 200
    dataset = files_dataset(saved(tmp_path, images), None, "auto")
    with pytest.raises(InputError, match="has a pixel of 200, and those looked at go up to 1"):
        read(dataset)


def test_blank_images_say_nothing(tmp_path):
    images = np.full((6, PIXELS), 50, np.uint8)
    dataset = files_dataset(saved(tmp_path, images), None, "auto")
    np.testing.assert_array_equal(read(dataset), images)


def test_pictures_in_parquet_are_looked_at(tmp_path, digits):
    import pyarrow as pa
    import pyarrow.parquet as pq

    contents = [png(image.reshape(28, 28)) for image in 255 - upright(digits[:60])]
    pq.write_table(pa.table({"image": pictures(*contents)}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="its images look transposed"):
        files_dataset(f"{tmp_path}/a.parquet", None, "auto")
    dataset = files_dataset(f"{tmp_path}/a.parquet", None, "transposed")
    np.testing.assert_array_equal(read(dataset), digits[:60])


def test_tones_are_those_of_plain_arithmetic():
    values = np.arange(16, dtype=np.uint8)[None]
    np.testing.assert_array_equal(toned(values, 15, inverted=False), values * 17)
    np.testing.assert_array_equal(toned(values, 15, inverted=True), 255 - values * 17)
    np.testing.assert_array_equal(toned(values, 255, inverted=True), 255 - values)


def test_official_files_look_as_nist_stores_them(emnist_data):
    dataset = files_dataset(f"{emnist_data}/emnist-*-test-images-idx3-ubyte.gz", None, "auto")
    assert note(dataset, "orientation") == "transposed, and they look so"
    letters = files_dataset(f"{emnist_data}/az-letters-images-idx3-ubyte.gz", None, "auto")
    assert note(letters, "orientation") == "upright, and they look so"
    assert note(letters, "pixels") == "0 to 255, light on dark"
