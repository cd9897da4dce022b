"""The flags of `verify`."""

import argparse
from dataclasses import dataclass
from typing import Any

from beam_job.datasets.selection import ImageOptions
from beam_job.exit_status import DONE, FAILED, INTERRUPTED, WRONG
from beam_job.flags import (
    Command,
    add_common_flags,
    add_file_flags,
    add_run_flags,
    add_staging_flags,
    count,
    path,
    take_images,
)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """The options of `verify`. against: the images that the run was made of, if they are available.

    max_images: how many of them are encoded again at most.
    """

    input: str
    against: ImageOptions | None
    model: str | None
    max_images: int
    json: bool
    quiet: bool
    debug: bool


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    add_run_flags(parser, "DIR_OR_FILE")
    against = parser.add_argument_group("the images, to encode again")
    against.add_argument(
        "--against",
        type=path,
        action="append",
        metavar="FILE_OR_DATASET",
        help="the images that the run was made of: a dataset's name, or files as compress "
        "--input takes them",
    )
    add_file_flags(against, "--against")
    against.add_argument(
        "--max_images",
        type=count(1),
        default=500,
        metavar="N",
        help="how many are encoded again at most, about, evenly spread (default: %(default)s)",
    )
    add_staging_flags(parser)
    add_common_flags(parser).add_argument(
        "--json", action="store_true", help="what was found, as JSON on standard output"
    )


def options_of(settings: dict[str, Any]) -> VerifyOptions:
    """The options of these flags; raises UsageError where they contradict each other."""
    against = take_images("verify", "against", settings)
    return VerifyOptions(**settings, against=against)


VERIFY = Command(
    "verify",
    "beam_job.verify.command",
    summary="read a run back, and say whether it is whole",
    description="Compares every file and every row of a run directory with its manifest, and, "
    "where the images are at hand, latents with what the encoder gives.",
    epilog=f"Exit status: {DONE} the run is whole, {FAILED} it is not, {WRONG} wrong use or "
    f"input, or there is no complete run, {INTERRUPTED} interrupted.",
    add_flags=add_flags,
    options_of=options_of,
)
