"""The flags of `train`."""

import argparse
import math
from dataclasses import dataclass
from typing import Any

from beam_job.datasets.selection import ImageOptions
from beam_job.exit_status import STATUSES
from beam_job.flags import (
    Command,
    add_batch_size,
    add_common_flags,
    add_image_flags,
    add_output,
    add_resume,
    add_staging_flags,
    check_images,
    count,
    number,
    path,
)

COMPUTE_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ImageOptions):
    """The options of `train`."""

    output: str
    resume: bool
    initial_model: str | None
    epochs: int
    batch_size: int
    learning_rate: float
    latent_noise: float
    compactness: float
    augmentation: float
    seed: int
    compute_dtype: str | None
    max_minutes: float
    overwrite: bool


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    add_image_flags(parser.add_argument_group("what to train on (one of --dataset and --input)"))
    result = parser.add_argument_group("what comes out")
    add_output(
        result,
        "the model directory to write (required)",
        "a model, or a training that was interrupted,",
    )
    add_resume(result, "a training")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--initial_model",
        type=path,
        metavar="DIR",
        help="a model directory whose weights to start from, or pretrained for the one that comes "
        "with the package; default: random weights",
    )
    how.add_argument(
        "--epochs",
        type=count(1),
        default=50,
        metavar="N",
        help="passes over the images (default: %(default)s)",
    )
    add_batch_size(how, "images a step", 256)
    how.add_argument(
        "--learning_rate",
        type=number(0.0, 1.0),
        default=0.01,
        metavar="X",
        help="at its peak; it warms up, and falls along a cosine (default: %(default)s)",
    )
    how.add_argument(
        "--latent_noise",
        type=number(-1e-9, 1.0),
        default=0.04,
        metavar="X",
        help="noise on the latents in training, as a share of their range, so that they bear "
        "--latent_bits (default: %(default)s)",
    )
    how.add_argument(
        "--compactness",
        type=number(-1e-9, 10.0),
        default=0.01,
        metavar="X",
        help="penalty on latents that lie far out, for the same end (default: %(default)s)",
    )
    how.add_argument(
        "--augmentation",
        type=number(-1e-9, 2.0),
        default=0.7,
        metavar="X",
        help="size, place, slant and shape of images vary by this, 1 for as much as "
        "handwriting does (default: %(default)s)",
    )
    how.add_argument(
        "--seed",
        type=count(0),
        default=0,
        metavar="N",
        help="of everything that is drawn at random (default: %(default)s)",
    )
    how.add_argument(
        "--compute_dtype",
        choices=COMPUTE_DTYPES,
        help="the numbers that most layers compute with; bfloat16 is about twice as fast where the "
        "processor has it; default: bfloat16 there, else float32",
    )
    how.add_argument(
        "--max_minutes",
        type=number(0.0, math.inf),
        default=math.inf,
        metavar="N",
        help="start no epoch after N minutes, and write the best weights so far; default: no limit",
    )
    add_staging_flags(parser)
    add_common_flags(parser)


def options_of(settings: dict[str, Any]) -> TrainOptions:
    """The options of these flags; raises UsageError where they contradict each other."""
    check_images("train", settings)
    return TrainOptions(**settings)


TRAIN = Command(
    "train",
    "beam_job.train.command",
    summary="fit encoder and decoder to a dataset",
    description="Fits encoder and decoder to a dataset, and writes a model directory for "
    "--model. The test split is held out where there is a train split beside it, else every "
    "tenth image.",
    epilog=f"{STATUSES}.",
    add_flags=add_flags,
    options_of=options_of,
)
