"""What paths say: as people, NIST, torchvision, Kaggle and Hugging Face call their files."""

import pytest

from transforms.inputs.names import is_of_emnist, kind_of, paired, split_of, subject_of


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("a/emnist-mnist-test-images-idx3-ubyte.gz", "test"),
        ("emnist-balanced-train-images-idx3-ubyte", "train"),
        ("mnist_train.npy", "train"),
        ("data/train-00000-of-00001.parquet", "train"),
        ("data/images/split=train/part-00000-of-00007.parquet", "train"),
        ("runs/split=mine/test.npy", "mine"),
        ("X_TEST2.npy", "test"),
        ("xTrain.npy", "train"),
        ("raw/t10k-images-idx3-ubyte", "test"),
        ("T10K-images.idx3-ubyte", "test"),
        ("val.parquet", "validation"),
        ("validation-00000-of-00001.parquet", "validation"),
        ("Training/a.npy", "train"),
        ("default/test/0000.parquet", "test"),
        ("mnist/train/7/0001.png", "train"),
        ("emnist-letters-train/x.npy", "train"),
        ("data/train_images/a.npy", "train"),
        ("train/test-0000.parquet", "test"),
        # No name says a split, or two are said.
        ("latest.npy", "all"),
        ("contest/pretrained.npy", "all"),
        ("train-test.npy", "all"),
        ("test_run_1/a.npy", "all"),
        ("me/dev/a.npy", "all"),
        ("at10k.npy", "all"),
    ],
)
def test_the_split_is_what_a_path_says(path: str, split: str):
    named = split_of(path)
    assert named.split == split
    assert bool(named.by) == (split != "all")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("emnist-letters-train-images-idx3-ubyte", "letters"),
        ("EMNIST-mnist-test-images-idx3-ubyte", "mnist"),
        ("2024-emnist-byclass-test-images-idx3-ubyte", "byclass"),
        ("my_EMNIST_digits_train.npy", "digits"),
        ("EMNISTLetters-train.idx3-ubyte", "letters"),
        ("emnist/balanced/train-images.idx3-ubyte", "balanced"),
        ("emnist-bymerge/t10k-images-idx3-ubyte", "bymerge"),
        ("EMNIST/raw/test-images-idx3-ubyte", None),
    ],
)
def test_files_of_emnist_are_known_whatever_the_spelling(path: str, kind: str | None):
    assert is_of_emnist(path)
    assert kind_of(path) == kind


@pytest.mark.parametrize(
    "path",
    [
        "train-images-idx3-ubyte",
        "femnist-test.npy",
        "emnist-latents/letters/x.npy",
        "az-letters.npy",
    ],
)
def test_other_files_are_not_of_emnist(path: str):
    assert not is_of_emnist(path)
    assert kind_of(path) is None


def test_images_and_labels_of_the_same_have_the_same_subject():
    for images, labels in [
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("x_train.npy", "y_train.npy"),
        ("t10k-images-idx3-ubyte", "test-labels-idx1-ubyte"),
        ("images.npy", "labels.npy"),
    ]:
        assert subject_of(images) == subject_of(labels)
    assert subject_of("train-images-idx3-ubyte") != subject_of("test-labels-idx1-ubyte")


NUMBERS = sorted(range(1, 13), key=str)


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        # By name, whatever the order.
        (["a_train", "b_test"], ["l_test", "l_train"], [1, 0]),
        (["x/a.npy", "x/b.npy"], ["y/b.npy", "y/a.npy"], [1, 0]),
        (["train-images.idx3-ubyte", "t10k-images.idx3-ubyte"], ["test_y", "train_y"], [1, 0]),
        (["img_1_of_12", "img_12_of_12"], ["l12", "l1"], [1, 0]),
        (["x/train/0", "x/test/0"], ["y/test/0", "y/train/0"], [1, 0]),
        (
            [f"x/img_{n}.npy" for n in NUMBERS],
            [f"y/lab_{n:02}.npy" for n in range(1, 13)],
            [n - 1 for n in NUMBERS],
        ),
        # By order.
        (["emnist"], ["k49"], [0]),
        (["a", "b"], ["p", "q"], [0, 1]),
        (["a", "b"], ["labels1", "labels2"], [0, 1]),
        # They contradict each other, or could.
        (["a_train", "b_test"], ["l_train", "l_val"], None),
        (["a_train", "b_test"], ["p", "q"], None),
        (["img_1", "img_2"], ["lab_2", "lab_3"], None),
        (["a", "b"], ["b", "c"], None),
        (["10", "2"], ["p", "q"], None),
    ],
)
def test_labels_are_paired_by_name(images, labels, expected):
    assert paired(images, labels) == expected
