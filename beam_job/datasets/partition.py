"""A whole dataset in memory, and which of its images a model may be trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from transforms.errors import InputError
from transforms.inputs.dataset import Dataset, cut_stretches
from transforms.inputs.read import read_stretch
from transforms.settings import BATCH_SIZE, SHARD_SIZE

ONE_IN = 10
HELD_OUT_REMAINDER = 9
VALIDATION_REMAINDER = 8


@dataclass(frozen=True)
class Images:
    """Images in memory, in order of split and image_id.

    splits: names (n,). image_ids: int64 (n,). labels: int32 (n,), NO_LABEL where there is none.
    pixels: uint8 (n, 784), upright.
    """

    splits: np.ndarray
    image_ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "Images":
        """Some of the images, by position or mask."""
        return Images(self.splits[rows], self.image_ids[rows], self.labels[rows], self.pixels[rows])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the pixels, in order."""
        return sha256(np.ascontiguousarray(self.pixels).data).hexdigest()


def load_images(dataset: Dataset) -> Images:
    """Reads all images of a dataset. Raises InputError for one that cannot be read."""
    parts = []
    for stretch in cut_stretches(dataset, SHARD_SIZE):
        for batch, rejects in read_stretch(stretch, BATCH_SIZE):
            if rejects:
                first = rejects[0]
                raise InputError(
                    f"{first.path} row {first.row}: {first.reason}: mend that image, or leave it "
                    "out"
                )
            names = np.full(len(batch), batch.shard.split)
            parts.append(Images(names, batch.image_ids, batch.labels, batch.pixels))
    return joined_images(parts)


def joined_images(parts: Sequence[Images]) -> Images:
    """All images of the parts, one after the other."""
    return Images(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("splits", "image_ids", "labels", "pixels")
        )
    )


@dataclass(frozen=True)
class Partition:
    """What is trained on, what chooses the weights, and what neither ever sees. rule: in words."""

    training: Images
    validation: Images
    held_out: Images
    rule: str


def partition(images: Images) -> Partition:
    """Holds out the test split where there is a train split too, else every tenth image.

    An image that equals a held-out one is in neither of the others, and one that equals an image
    of validation is not in training: EMNIST's splits share images. Raises InputError where that
    leaves a part empty.
    """
    held_out, rule = _held_out(images)
    validation = ~held_out & (images.image_ids % ONE_IN == VALIDATION_REMAINDER)
    validation[validation] = is_unseen(images.pixels[validation], images.pixels[held_out])
    training = ~held_out & (images.image_ids % ONE_IN != VALIDATION_REMAINDER)
    chosen = held_out | validation
    training[training] = is_unseen(images.pixels[training], images.pixels[chosen])
    parts = {
        "training": images.take(training),
        "validation": images.take(validation),
        "held_out": images.take(held_out),
    }
    if not all(len(part) for part in parts.values()):
        counts = ", ".join(f"{len(part)} {name.replace('_', ' ')}" for name, part in parts.items())
        raise InputError(
            f"{len(images)} images are too few to split ({counts}): give {ONE_IN} or more in each "
            "split"
        )
    return Partition(
        **parts,
        rule=f"held out: {rule}; validation: of the others those with "
        f"image_id % {ONE_IN} == {VALIDATION_REMAINDER}; images equal to one of these are left out",
    )


def is_unseen(pixels: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Which images, uint8 (n, 784), equal none of those seen, uint8 (m, 784): bool (n,)."""
    contents = {image.tobytes() for image in seen}
    return np.array([image.tobytes() not in contents for image in pixels], bool)


def _held_out(images: Images) -> tuple[np.ndarray, str]:
    if {"train", "test"} <= set(images.splits.tolist()):
        return images.splits == "test", "the split test"
    tenth = images.image_ids % ONE_IN == HELD_OUT_REMAINDER
    return tenth, f"image_id % {ONE_IN} == {HELD_OUT_REMAINDER}"


def by_split(images: Images) -> dict[str, Images]:
    """The images of each split, in the order of the splits."""
    return {
        split: images.take(images.splits == split)
        for split in dict.fromkeys(images.splits.tolist())
    }


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained on, and how its card says so.

    training: uint8 (n, 784), what is fitted. validation: uint8 (m, 784), what chooses the weights.
    held_out: by a name for each kind; neither. described: for the card, JSON values.
    classes: the class of each held-out image in the order of held_out, or nothing.
    """

    training: np.ndarray
    validation: np.ndarray
    held_out: Mapping[str, np.ndarray]
    described: dict[str, Any]
    classes: Sequence[str] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the images to fit, then those of validation."""
        digest = sha256(np.ascontiguousarray(self.training).data)
        digest.update(np.ascontiguousarray(self.validation).data)
        return digest.hexdigest()
