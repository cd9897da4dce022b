"""The flags of `evaluate`."""

import argparse
from dataclasses import dataclass
from typing import Any

from beam_job.datasets.selection import ImageOptions
from beam_job.exit_status import STATUSES
from beam_job.flags import (
    Command,
    add_common_flags,
    add_image_flags,
    add_output,
    add_staging_flags,
    check_images,
    count,
    path,
)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ImageOptions):
    """The options of `evaluate`. max_images: how many held-out images are measured at most."""

    output: str
    model: str | None
    max_images: int
    overwrite: bool


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    add_image_flags(parser.add_argument_group("what to measure on (one of --dataset and --input)"))
    parser.add_argument(
        "--model",
        type=path,
        metavar="DIR",
        help="a model directory that train wrote; default: the model that comes with the package",
    )
    parser.add_argument(
        "--max_images",
        type=count(1),
        default=2000,
        metavar="N",
        help="how many held-out images are measured at most, evenly spread (default: %(default)s)",
    )
    add_output(
        parser.add_argument_group("what comes out"),
        "the folder to write (required)",
        "an evaluation",
    )
    add_staging_flags(parser)
    add_common_flags(parser)


def options_of(settings: dict[str, Any]) -> EvaluateOptions:
    """The options of these flags; raises UsageError where they contradict each other."""
    check_images("evaluate", settings)
    return EvaluateOptions(**settings)


EVALUATE = Command(
    "evaluate",
    "beam_job.evaluate.command",
    summary="measure a model's rate and distortion next to real codecs",
    description="Measures size, quality by class, entropy and classification on held-out images, "
    "next to PNG, WebP, AVIF, JPEG XL, JPEG, gzip, zstd and PCA. Images are held out as by train.",
    epilog=f"{STATUSES}.",
    add_flags=add_flags,
    options_of=options_of,
)
