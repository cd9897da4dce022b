"""Makes the weights that come with the package: `make pretrained`.

    EMNIST_DATA=... python -m recipes.pretrained --output=transforms/pretrained

They are fitted to real EMNIST: the official byclass test file, all 62 classes, and images of other
splits. A tenth of the byclass test file is held out, and another tenth chooses the weights; every
training image that equals one of those is taken out. An interrupted run continues where it was.
"""

import argparse
import os
import string
from pathlib import Path

import numpy as np

from beam_job.console import say
from beam_job.datasets.partition import (
    Images,
    TrainingData,
    is_unseen,
    load_images,
    partition,
)
from beam_job.outputs.attempt import abandon, begin
from beam_job.reports.pictures import sheet
from beam_job.train.card import card_table
from beam_job.train.fit import BFLOAT16, Settings
from beam_job.train.model import Conduct, train
from transforms.inputs.files import files_dataset
from transforms.models.arrays import decoded_pixels, latents_of
from transforms.models.autoencoder import load_decoder, load_encoder
from transforms.models.directory import Model, find_model
from transforms.models.tensorflow_engine import compute_function
from transforms.storage.files import file_facts

BYCLASS = "emnist-byclass-test-images-idx3-ubyte.gz"
DIGITS = "emnist-mnist-test-images-idx3-ubyte.gz"
MORE = "real-emnist-more-images-idx3-ubyte.xz"
SETTINGS = Settings(
    epochs=10,
    batch_size=256,
    learning_rate=0.01,
    seed=0,
    latent_noise=0.04,
    compactness=0.01,
    augmentation=1.0,
    compute_dtype=BFLOAT16,
)
CLASSES = string.digits + string.ascii_uppercase + string.ascii_lowercase
"""Of byclass, by label."""
GROUPS = {"digits": range(10), "capitals": range(10, 36), "lower case": range(36, 62)}
"""Of the labels of byclass."""
PICTURE = Path(__file__).parents[1] / "docs/held-out.png"
PICTURE_BITS = 5
PICTURE_IMAGES = 22
"""Of each group."""


def main() -> None:
    """Trains, and writes the model directory and the README's picture."""
    parser = argparse.ArgumentParser(description="Makes the weights that come with the package.")
    default = os.environ.get("EMNIST_DATA")
    parser.add_argument("--data", metavar="FOLDER", default=default, required=default is None)
    parser.add_argument("--output", metavar="DIR", required=True)
    arguments = parser.parse_args()
    attempt = begin(arguments.output, "--output")
    try:
        data = training_data(Path(arguments.data))
        card = train(attempt, data, SETTINGS, Conduct(overwrite=True, resume=True, quiet=False))
    finally:
        abandon(attempt)
    say(*card_table(card))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture(data, find_model(arguments.output)))


def training_data(folder: Path) -> TrainingData:
    """The images to fit, those of validation, and the held-out ones by group."""
    parts = partition(_loaded(folder / BYCLASS))
    training = parts.training.pixels
    for others in (_loaded(folder / MORE, "upright"), _loaded(folder / DIGITS)):
        seen = np.concatenate([parts.validation.pixels, parts.held_out.pixels, training])
        training = np.concatenate([training, others.pixels[is_unseen(others.pixels, seen)]])
    held_out = parts.held_out
    groups = {name: np.isin(held_out.labels, labels) for name, labels in GROUPS.items()}
    return TrainingData(
        training=training,
        validation=parts.validation.pixels,
        held_out={name: held_out.pixels[rows] for name, rows in groups.items()},
        classes=[
            CLASSES[label] for rows in groups.values() for label in held_out.labels[rows].tolist()
        ],
        described={
            "name": "EMNIST: byclass test, and images of its other splits",
            "note": "Of EMNIST's 814,255 images, these are what was available. No training image "
            "equals a held-out or a validation image; the same writer may be on both sides.",
            "sources": [
                {"path": name, "sha256": file_facts(str(folder / name)).sha256}
                for name in (BYCLASS, MORE, DIGITS)
            ],
            "split": f"of {BYCLASS}: {parts.rule}; all others: training",
        },
    )


def _loaded(path: Path, orientation: str = "auto") -> Images:
    return load_images(files_dataset(str(path), None, orientation))


def picture(data: TrainingData, model: Model) -> bytes:
    """For the README: held-out images, what comes back of them from few bits, the difference."""
    quantization = model.quantization(PICTURE_BITS)
    if quantization is None:
        raise ValueError(model.name)
    originals = np.concatenate([pixels[:PICTURE_IMAGES] for pixels in data.held_out.values()])
    latents = latents_of(compute_function(load_encoder(model)), originals)
    stored = quantization.dequantize(quantization.quantize(latents))
    return sheet(originals, decoded_pixels(compute_function(load_decoder(model)), stored))


if __name__ == "__main__":
    main()
