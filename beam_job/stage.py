"""Brings a dataset to where all workers can read it, as sharded Parquet.

`python -m beam_job stage --dataset=sample --data_dir=DIR`
"""

import argparse
from typing import Any

from beam_job.console import say
from beam_job.datasets.selection import StageOptions
from beam_job.exit_status import DONE, STATUSES
from beam_job.flags import (
    DATASET_HELP,
    Command,
    add_batch_size,
    add_common_flags,
    add_resume,
    add_shard_size,
    add_staging_flags,
    check_staged_somewhere,
    dataset,
)


def run(options: StageOptions, _: object) -> int:
    """Stages the dataset unless it is there, and says where it is."""
    from beam_job.datasets.catalog import staged_folder
    from beam_job.datasets.staging import ensure_staged
    from beam_job.stores import check_file_system

    check_file_system("data_dir", options.data_dir)
    staged = ensure_staged(options.dataset, options)
    if not options.quiet:
        counts = ", ".join(f"{rows:,} {split}" for split, rows in staged.rows.items())
        say(f"{options.dataset}: {counts} images in {len(staged.files)} files")
        say(staged_folder(options.data_dir, options.dataset))
    return DONE


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--dataset", required=True, type=dataset, metavar="NAME", help=DATASET_HELP)
    staging = add_staging_flags(parser)
    add_shard_size(staging)
    add_batch_size(staging, "images a row group of staged Parquet")
    add_resume(staging, "a staging")
    add_common_flags(parser)


def _options_of(settings: dict[str, Any]) -> StageOptions:
    check_staged_somewhere(settings)
    return StageOptions(**settings)


STAGE = Command(
    "stage",
    "beam_job.stage",
    summary="bring a dataset to --data_dir as sharded Parquet",
    description="Brings a dataset to where all workers can read it, as sharded Parquet. "
    "compress does this by itself where it is missing.",
    epilog=f"{STATUSES}.",
    add_flags=add_flags,
    options_of=_options_of,
)
