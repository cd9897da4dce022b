"""Makes the weights that come with the package: `make pretrained`.

    EMNIST_DATA=... python -m recipes.pretrained --output=transforms/pretrained

They are fitted to the real handwriting that can be had without EMNIST's archive: the official test
digits, and capitals that were made from the same forms another way; and to lower-case letters drawn
from stroke fonts. `train --dataset=balanced` on the full EMNIST is the way to better ones.
"""

import argparse
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from beam_job.console import say
from beam_job.datasets.partition import Partition, TrainingData, load_images, partition
from beam_job.outputs.attempt import abandon, begin
from beam_job.reports.pictures import sheet
from beam_job.train.card import card_table
from beam_job.train.fit import Settings
from beam_job.train.model import train
from recipes.strokes import drawn_letters
from transforms.images import PIXELS, SIDE
from transforms.inputs.files import files_dataset
from transforms.models.arrays import decoded_pixels, latents_of
from transforms.models.autoencoder import load_decoder, load_encoder
from transforms.models.directory import CARD_FILE, Model, find_model
from transforms.models.tensorflow_engine import compute_function
from transforms.storage.files import file_facts

DIGITS = "emnist-mnist-test-images-idx3-ubyte.gz"
LETTERS = "az-letters-images-idx3-ubyte.gz"
FIRST = Settings(
    epochs=64,
    batch_size=128,
    learning_rate=0.01,
    seed=0,
    latent_noise=0.04,
    compactness=0.01,
    augmentation=0.7,
)
# The first gives 24.60 dB on the validation digits, 23.92 on the validation letters. Digits are
# what people have most of, and there is one copy of each against two of each letter: here two.
SECOND = replace(FIRST, epochs=18, learning_rate=0.005, seed=1)
LETTER_SCALE = 1.2
"""The az letters fill about 20 pixels, EMNIST's characters about 24."""
PICTURE = Path(__file__).parents[1] / "docs/held-out.png"
PICTURE_BITS = 5
PICTURE_IMAGES = 32
"""Of each kind."""
DRAWINGS = 20
"""Of each lower-case letter in each stroke font."""


def main() -> None:
    """Trains, and writes the model directory."""
    parser = argparse.ArgumentParser(description="Makes the weights that come with the package.")
    default = os.environ.get("EMNIST_DATA")
    parser.add_argument("--data", metavar="FOLDER", default=default, required=default is None)
    parser.add_argument("--scratch", metavar="DIR", default="out/pretrained")
    parser.add_argument("--output", metavar="DIR", required=True)
    arguments = parser.parse_args()
    folder, first = Path(arguments.data), f"{arguments.scratch}/first"
    data = training_data(folder)
    if not _is_made_of(first, data):
        trained(data, FIRST, first, None)
    data = training_data(folder, digit_copies=2)
    card = trained(data, SECOND, arguments.output, find_model(first))
    say(*card_table(card))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture(data, find_model(arguments.output)))


def _is_made_of(folder: str, data: TrainingData) -> bool:
    """Whether an earlier call has trained the first model, on these images and settings."""
    if not Path(folder, CARD_FILE).exists():
        return False
    card = json.loads(Path(folder, CARD_FILE).read_bytes())
    made_of = card["data"]["fingerprint"], card["settings"]
    return bool(made_of == (data.fingerprint, asdict(FIRST)))


def trained(
    data: TrainingData, settings: Settings, output: str, initial: Model | None
) -> dict[str, Any]:
    """Trains, or goes on with it where it was interrupted; the model's card."""
    attempt = begin(output, "--output")
    try:
        return train(attempt, data, settings, initial, overwrite=True, resume=True, quiet=False)
    finally:
        abandon(attempt)


def picture(data: TrainingData, model: Model) -> bytes:
    """For the README: held-out images, what comes back of them from few bits, the difference."""
    quantization = model.quantization(PICTURE_BITS)
    if quantization is None:
        raise ValueError(model.name)
    originals = np.concatenate([pixels[:PICTURE_IMAGES] for pixels in data.held_out.values()])
    latents = latents_of(compute_function(load_encoder(model)), originals)
    stored = quantization.dequantize(quantization.quantize(latents))
    return sheet(originals, decoded_pixels(compute_function(load_decoder(model)), stored))


def training_data(folder: Path, digit_copies: int = 1) -> TrainingData:
    """The real images but for those held out, the letters also in EMNIST's size, and drawings.

    digit_copies: how often each digit counts.
    """
    digits, letters = (_parts(folder / name) for name in (DIGITS, LETTERS))
    drawings = drawn_letters(DRAWINGS, FIRST.seed)
    return TrainingData(
        training=np.concatenate(
            [
                digits.training.pixels,
                letters.training.pixels,
                enlarged(letters.training.pixels),
                drawings,
                *[digits.training.pixels] * (digit_copies - 1),
            ]
        ),
        validation=np.concatenate([digits.validation.pixels, letters.validation.pixels]),
        held_out={"digits": digits.held_out.pixels, "letters": letters.held_out.pixels},
        described={
            "name": "official EMNIST test digits, az letters, drawn lower-case letters",
            "note": f"Trained on little: {len(digits.training):,} of the 10,000 official EMNIST "
            f"test digits, {len(letters.training):,} of 4,946 capitals of NIST's forms that are "
            "not EMNIST's (upright, in a smaller box; used as they are and in EMNIST's size), "
            f"and {len(drawings):,} lower-case letters drawn from the Hershey stroke fonts; no "
            "real lower-case letter. `train` on the full EMNIST gives better weights.",
            "sources": [
                {"path": name, "sha256": file_facts(str(folder / name)).sha256}
                for name in (DIGITS, LETTERS)
            ],
            "split": f"of each file: {digits.rule}",
        },
    )


def _parts(path: Path) -> Partition:
    return partition(load_images(files_dataset(str(path), None, "auto")))


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """Letters brought to the size of EMNIST's, about the centre: uint8 (n, 784) to the same."""
    side = round(SIDE * LETTER_SCALE)
    edge = (side - SIDE) // 2
    result = np.empty_like(pixels)
    for row, letter in enumerate(pixels.reshape(-1, SIDE, SIDE)):
        large = Image.fromarray(letter).resize((side, side), Image.Resampling.BICUBIC)
        cut = large.crop((edge, edge, edge + SIDE, edge + SIDE))
        result[row] = np.asarray(cut).reshape(PIXELS)
    return result


if __name__ == "__main__":
    main()
