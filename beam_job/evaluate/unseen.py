"""Whether the card of a model shows that it was not trained on the images that are held out."""

from collections.abc import Mapping
from typing import Any

import msgspec

from beam_job.datasets.partition import ONE_IN, Partition, TrainingData
from transforms.inputs.dataset import Dataset, Source
from transforms.storage.files import file_facts


class _TrainedOn(msgspec.Struct):
    """A file of a training."""

    split: str | None
    sha256: str | None


class _Data(msgspec.Struct):
    fingerprint: str
    split: str = ""
    sources: list[_TrainedOn] = []


class _Card(msgspec.Struct):
    """What a card says of the data; initial_model: the card that the training started from."""

    data: _Data
    initial_model: "_Card | None" = None


def is_unseen(card: Mapping[str, Any] | None, dataset: Dataset, parts: Partition) -> bool:
    """Whether a model's card shows that it was not trained on the held-out images.

    It does if the model, and every model that its training started from, was trained on what
    `parts` has for training and validation, or on files among which are all of this dataset, with
    the same images held out. dataset: as it was opened, its gzips not staged.
    """
    fingerprint = TrainingData(parts.training.pixels, parts.validation.pixels, {}, {}).fingerprint
    try:
        known = msgspec.convert(card, _Card | None)
    except msgspec.ValidationError:  # Another program wrote the card.
        return False
    if known is None:
        return False
    while known is not None:
        same_data = known.data.fingerprint == fingerprint
        if not same_data and not _held_out_alike(known.data, dataset, parts):
            return False
        known = known.initial_model
    return True


def _held_out_alike(data: _Data, dataset: Dataset, parts: Partition) -> bool:
    """Whether each file of images was part of a training that held out the same of its images.

    A staged dataset's images are not in its source, an archive of many datasets.
    """
    rule = parts.rule.partition("; validation")[0]
    sources = {source.path: source for source in dataset.sources}
    first_ids: dict[str, int] = {}
    for file in dataset.files:
        first_ids.setdefault(file.segment.path, file.segment.first_image_id)
    return (
        rule in data.split
        and first_ids.keys() <= sources.keys()
        and all(
            _held_out_alike_of(sources[path], first_id, data, by_image_id="image_id" in rule)
            for path, first_id in first_ids.items()
        )
    )


def _held_out_alike_of(
    source: Source, first_image_id: int, data: _Data, *, by_image_id: bool
) -> bool:
    """The same for one file, whose images had the same split and image_ids there as here."""
    digest = source.sha256 or file_facts(source.path).sha256
    found = [trained_on for trained_on in data.sources if trained_on.sha256 == digest]
    if not by_image_id:
        return bool(found) and all(trained_on.split == source.split for trained_on in found)
    # In a split of several files image_ids run on, so that only those of the first are known.
    firsts: dict[str | None, _TrainedOn] = {}
    for trained_on in data.sources:
        firsts.setdefault(trained_on.split, trained_on)
    from_0 = data.split.startswith("of each file: ")
    return (
        bool(found)
        and first_image_id % ONE_IN == 0
        and all(from_0 or firsts[trained_on.split] is trained_on for trained_on in found)
    )
