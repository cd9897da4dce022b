"""The data of the package's weights: no image that is fitted is held out or chooses the weights."""

from pathlib import Path

import numpy as np

from recipes.pretrained import training_data


def contents(pixels: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in pixels}


def test_no_training_image_equals_a_held_out_or_a_validation_image(emnist_data: Path):
    data = training_data(emnist_data)
    held_out = contents(np.concatenate(list(data.held_out.values())))
    training, validation = contents(data.training), contents(data.validation)
    assert not training & held_out
    assert not training & validation
    assert not validation & held_out
    assert len(training) == len(data.training) == 250_155
    assert (len(data.validation), len(held_out)) == (11_632, 11_632)
    # All 62 classes of the byclass test file, in the order of the groups.
    assert {name: len(pixels) for name, pixels in data.held_out.items()} == {
        "digits": 5_836,
        "capitals": 3_169,
        "lower case": 2_627,
    }
    assert len(set(data.classes)) == 62
    assert "".join(sorted(set(data.classes[:5_836]))) == "0123456789"
