"""The flags of `compress`."""

import argparse
from dataclasses import dataclass
from typing import Any

from beam_job.datasets.selection import ImageOptions
from beam_job.exit_status import REJECTS_STATUS, STATUSES
from beam_job.flags import (
    Command,
    add_batch_size,
    add_common_flags,
    add_image_flags,
    add_no_wait,
    add_output,
    add_resume,
    add_shard_size,
    add_staging_flags,
    check_images,
    count,
    path,
)
from beam_job.runners.beam_flags import LOCAL_RUNNER
from transforms.errors import UsageError
from transforms.settings import (
    COMPATIBLE,
    ENGINES,
    LATENT_DTYPES,
    MAX_BITS,
    MIN_BITS,
    PARQUET_KINDS,
    PRECISIONS,
    SMALL,
)


@dataclass(frozen=True, kw_only=True)
class CompressOptions(ImageOptions):
    """The options of `compress`."""

    output: str
    model: str | None
    engine: str | None
    precision: str
    latent_dtype: str
    latent_bits: int
    parquet: str
    batch_size: int
    shard_size: int
    max_rejects: int
    overwrite: bool
    resume: bool
    plan: bool
    no_wait: bool


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    source = parser.add_argument_group("what to compress (one of --dataset and --input)")
    add_image_flags(source)
    source.add_argument(
        "--max_rejects",
        type=count(0),
        default=0,
        metavar="N",
        help="how many images that cannot be read are set aside in rejects/ before the run fails "
        "(default: 0)",
    )
    result = parser.add_argument_group("what comes out")
    add_output(result, "the run directory to write (required)", "a run")
    add_resume(result, "a run")
    result.add_argument(
        "--plan",
        action="store_true",
        help="say what would be done (shards, bytes, files, model), and do nothing",
    )
    encoder = parser.add_argument_group("the encoder, and how its latents are stored")
    encoder.add_argument(
        "--model",
        type=path,
        metavar="DIR_OR_FILE",
        help="a model directory that train wrote, or a .keras file that maps (28, 28, 1), from 0 "
        "to 1, to (N,); one that begins with a Rescaling from 0 to 255 gets that; default: the "
        "model that comes with the package",
    )
    encoder.add_argument(
        "--engine",
        choices=ENGINES,
        help="what computes the encoder: tensorflow, the reference; ncnn, faster, with the same "
        "latents but for rounding; litert, for int8; default: the fastest that is installed "
        "(pip install 'emnist-latents[fast]')",
    )
    encoder.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="what the encoder computes in; int8 is several times as fast, and loses a little "
        "(default: %(default)s)",
    )
    encoder.add_argument(
        "--latent_dtype",
        choices=LATENT_DTYPES,
        default=LATENT_DTYPES[0],
        help="int8: a byte a value, with a scale and an offset for each dimension, as train "
        "calibrated them (default: %(default)s)",
    )
    encoder.add_argument(
        "--latent_bits",
        type=count(MIN_BITS, MAX_BITS),
        metavar="N",
        help=f"with int8: {MIN_BITS} to {MAX_BITS}; fewer levels make smaller files "
        f"(default: {MAX_BITS})",
    )
    encoder.add_argument(
        "--parquet",
        choices=PARQUET_KINDS,
        default=SMALL,
        help="compatible: only encodings that every reader of Parquet knows, 10%% larger with "
        "float32; docs/reading.md says which readers need it (default: %(default)s)",
    )
    staging = add_staging_flags(parser)
    add_shard_size(staging)
    add_batch_size(staging, "images that go through the encoder in one call")
    add_no_wait(parser)
    add_common_flags(parser)


def options_of(settings: dict[str, Any]) -> CompressOptions:
    """The options of these flags; raises UsageError where they contradict each other."""
    check_images("compress", settings)
    engine, precision = settings["engine"], settings["precision"]
    if precision == "int8" and engine not in (None, "litert"):
        raise UsageError(f"--precision=int8 goes with --engine=litert: {engine} has float32 alone")
    if engine == "litert" and precision == "float32":
        raise UsageError("--engine=litert goes with --precision=int8: in float32 ncnn is faster")
    bits = settings["latent_bits"]
    if bits is not None and settings["latent_dtype"] != "int8":
        raise UsageError("--latent_bits goes with --latent_dtype=int8: other types keep all bits")
    if settings["parquet"] == COMPATIBLE and settings["latent_dtype"] == "float16":
        raise UsageError(
            "--parquet=compatible goes with --latent_dtype=float32 or int8: Spark, BigQuery and "
            "fastparquet read no float16"
        )
    return CompressOptions(**{**settings, "latent_bits": MAX_BITS if bits is None else bits})


COMPRESS = Command(
    "compress",
    "beam_job.compress.command",
    summary="encode images to latents in Parquet, and count the bytes",
    description="Encodes a dataset, or files of images, to latents in Parquet, and counts the "
    "bytes before and after.",
    epilog="All of Beam's own flags are taken too: --runner=FlinkRunner, "
    "--parallelism=2, ... Without --runner the "
    f"job runs in this process, on Beam's {LOCAL_RUNNER}. {STATUSES}, {REJECTS_STATUS}.",
    add_flags=add_flags,
    options_of=options_of,
    is_pipeline=True,
)
