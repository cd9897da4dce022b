"""The flags of `reconstruct`."""

import argparse
from dataclasses import dataclass
from typing import Any

from beam_job.datasets.selection import ImageOptions
from beam_job.exit_status import STATUSES
from beam_job.flags import (
    Command,
    add_batch_size,
    add_common_flags,
    add_file_flags,
    add_no_wait,
    add_output,
    add_staging_flags,
    path,
    take_images,
)
from transforms.settings import ENGINES


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions:
    """The options of `reconstruct`. originals: where they are, if they are available."""

    input: str
    output: str
    model: str | None
    engine: str | None
    originals: ImageOptions | None
    batch_size: int
    overwrite: bool
    no_wait: bool
    quiet: bool
    debug: bool


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    source = parser.add_argument_group("what to decode")
    source.add_argument(
        "--input",
        type=path,
        required=True,
        metavar="RUN_DIR",
        help="a run directory that compress wrote (required)",
    )
    source.add_argument(
        "--model",
        type=path,
        metavar="DIR",
        help="the model directory that made the latents; default: the one that the run names, "
        "if it is on this machine",
    )
    source.add_argument(
        "--engine",
        choices=ENGINES[:2],
        help="what computes the decoder; default: ncnn where it is installed, else tensorflow",
    )
    add_batch_size(source, "latents that go through the decoder in one call")
    originals = parser.add_argument_group("the originals, to measure against")
    originals.add_argument(
        "--originals",
        type=path,
        action="append",
        metavar="FILE_OR_DATASET",
        help="the images that the run was made of: a dataset's name, or files as compress "
        "--input takes them",
    )
    add_file_flags(originals, "--originals")
    add_output(
        parser.add_argument_group("what comes out"), "the folder to write (required)", "what is"
    )
    add_staging_flags(parser)
    add_no_wait(parser)
    add_common_flags(parser)


def options_of(settings: dict[str, Any]) -> ReconstructOptions:
    """The options of these flags; raises UsageError where they contradict each other."""
    originals = take_images("reconstruct", "originals", settings)
    return ReconstructOptions(**settings, originals=originals)


RECONSTRUCT = Command(
    "reconstruct",
    "beam_job.reconstruct.command",
    summary="decode a run's latents to images, and measure them against the originals",
    description="Decodes the latents of a run directory to images, in the columns of staged "
    "ones, and measures what was lost where the originals are at hand.",
    epilog=f"Beam's own flags are taken as compress takes them. {STATUSES}.",
    add_flags=add_flags,
    options_of=options_of,
    is_pipeline=True,
)
