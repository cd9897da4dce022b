from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from beam_job.datasets.partition import Partition, load_images, partition
from beam_job.datasets.sample import sample_splits
from beam_job.evaluate.unseen import is_unseen
from transforms.inputs.dataset import Dataset
from transforms.inputs.files import files_dataset


def trained_card(parts: Partition) -> dict:
    """The card of a model that `train` fitted to what it takes of the same images."""
    pixels = parts.training.pixels.tobytes() + parts.validation.pixels.tobytes()
    data = {"fingerprint": sha256(pixels).hexdigest(), "sources": [], "split": parts.rule}
    return {"data": data, "initial_model": None}


def files_card(folder: Path, names: dict[str, str], split: str) -> dict:
    """The card of a model that was trained on files, and on other images besides."""
    sources = [
        {"path": name, "split": part, "sha256": sha256((folder / name).read_bytes()).hexdigest()}
        for name, part in names.items()
    ]
    return {"data": {"fingerprint": "of more", "sources": sources, "split": split}}


@pytest.fixture
def digits(tmp_path) -> Path:
    """A folder of two files of images, with a number of images that 10 does not divide."""
    pixels, _ = sample_splits()["train"]
    for number, name in enumerate(("a.npy", "b.npy")):
        np.save(tmp_path / name, np.asarray(pixels[number * 45 : number * 45 + 45], np.uint8))
    return tmp_path


def opened(pattern: Path) -> tuple[Dataset, Partition]:
    dataset = files_dataset(str(pattern), None, "auto")
    return dataset, partition(load_images(dataset))


EACH = "of each file: held out: image_id % 10 == 9; validation: others"
TOGETHER = EACH.removeprefix("of each file: ")


def test_images_beside_those_that_a_model_was_trained_on_are_unseen(digits):
    dataset, parts = opened(digits / "a.npy")
    _, other_parts = opened(digits / "b.npy")
    card, other = trained_card(parts), trained_card(other_parts)
    assert is_unseen(card, dataset, parts)
    assert is_unseen({**card, "initial_model": card}, dataset, parts)
    assert not is_unseen(other, dataset, parts)
    assert not is_unseen({**card, "initial_model": other}, dataset, parts)
    assert not is_unseen({**card, "initial_model": {**card, "data": None}}, dataset, parts)
    assert not is_unseen({}, dataset, parts)
    assert not is_unseen(None, dataset, parts)


@pytest.mark.parametrize(
    ("evaluated", "trained", "split", "unseen"),
    [
        ("a.npy", {"a.npy": "all", "b.npy": "all"}, EACH, True),
        ("b.npy", {"a.npy": "all", "b.npy": "all"}, EACH, True),
        ("b.npy", {"a.npy": "all"}, EACH, False),
        ("a.npy", {"a.npy": "all"}, "held out: the split test; validation: others", False),
        # Where image_ids run on from a.npy to b.npy, the 45 before b.npy's move what is held out.
        ("*.npy", {"a.npy": "all", "b.npy": "all"}, EACH, False),
        ("a.npy", {"a.npy": "all", "b.npy": "all"}, TOGETHER, True),
        ("b.npy", {"a.npy": "all", "b.npy": "all"}, TOGETHER, False),
    ],
)
def test_images_that_were_held_out_of_the_same_files_are_unseen(
    evaluated, trained, split, unseen, digits
):
    dataset, parts = opened(digits / evaluated)
    assert is_unseen(files_card(digits, trained, split), dataset, parts) is unseen


def test_a_split_that_was_held_out_is_unseen_under_the_same_name(digits):
    for name, renamed in (("a.npy", "train.npy"), ("b.npy", "test.npy")):
        (digits / name).rename(digits / renamed)
    dataset, parts = opened(digits / "*.npy")
    names = {"train.npy": "train", "test.npy": "test"}
    assert is_unseen(files_card(digits, names, parts.rule), dataset, parts)
    swapped = {"train.npy": "test", "test.npy": "train"}
    assert not is_unseen(files_card(digits, swapped, parts.rule), dataset, parts)
