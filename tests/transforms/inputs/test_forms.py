"""Every form in which people have images gives these images, or a line that says what to do."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.forms import FORMS, Form
from transforms.errors import InputError
from transforms.images import NO_LABEL, ImageBatch
from transforms.inputs.dataset import Dataset, cut_stretches
from transforms.inputs.files import files_dataset
from transforms.inputs.read import read_stretch


def read(dataset: Dataset) -> list[ImageBatch]:
    found = []
    for stretch in cut_stretches(dataset, 5):
        for batch, rejects in read_stretch(stretch, 3):
            assert not rejects
            found.append(batch)
    return found


def opened(form: Form, folder: Path) -> tuple[Dataset, list[ImageBatch]]:
    path = str(folder / form.make(folder))
    dataset = files_dataset(path, None, "auto", **form.flags)
    return dataset, read(dataset)


@pytest.mark.parametrize(
    "form",
    [form for form in FORMS if not form.refused],
    ids=lambda form: f"{form.group} {form.name}",
)
def test_a_form_gives_the_images_and_their_labels(form: Form, tmp_path: Path):
    dataset, batches = opened(form, tmp_path)
    pixels = np.concatenate([batch.pixels for batch in batches])
    np.testing.assert_array_equal(pixels.reshape(-1, 28, 28), form.images)
    labels = np.concatenate([batch.labels for batch in batches])
    expected = np.full(len(labels), NO_LABEL) if form.labels is None else form.labels
    np.testing.assert_array_equal(labels, expected)
    if form.classes is not None:
        assert dataset.characters == form.classes


@pytest.mark.parametrize(
    "form",
    [form for form in FORMS if form.refused],
    ids=lambda form: f"{form.group} {form.name}",
)
def test_what_cannot_be_read_is_refused_in_a_line(form: Form, tmp_path: Path):
    with pytest.raises(InputError, match=form.refused) as raised:
        opened(form, tmp_path)
    assert "\n" not in str(raised.value)


def test_there_are_forms_enough():
    assert len(FORMS) >= 95
    assert len({(form.group, form.name) for form in FORMS}) == len(FORMS)
