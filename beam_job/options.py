"""Every flag of every command, parsed and checked before anything is built.

Flags are plain argparse and become a frozen dataclass; only what is left over goes to Beam. That
keeps `--help` from importing Beam, and lets `--labels` mean labels of images here although Beam
has a `--labels` of its own (for Google Cloud, where `--label` says the same).
"""

import argparse
import difflib
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from beam_job import __version__
from transforms import defaults
from transforms.printable import is_unicode
from transforms.quiet import no_collection

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

EMNIST_NAMES = ("balanced", "byclass", "bymerge", "letters", "digits", "mnist")
DATASET_NAMES = ("sample", *EMNIST_NAMES)
PIPELINE_COMMANDS = ("compress", "reconstruct")
ENGINES = ("tensorflow", "ncnn", "litert")
PRECISIONS = ("float32", "int8")
LATENT_DTYPES = ("float32", "float16", "int8")
MIN_BITS, MAX_BITS = 4, 8
ORIENTATIONS = ("auto", "upright", "transposed")

DEFAULT_BATCH_SIZE = defaults.BATCH_SIZE
DEFAULT_SHARD_SIZE = defaults.SHARD_SIZE
DEFAULT_MAX_UNPACKED_BYTES = defaults.MAX_UNPACKED_BYTES
"""Ten times byclass, EMNIST's largest (8,142,550 images), takes 6.4 GB."""
ARCHIVE_URL = "https://biometrics.nist.gov/cs_links/EMNIST/matlab.zip"

LOCAL_RUNNER = "FnApiRunner"
"""Beam's local runner in Python; DirectRunner tries to download Prism first.

One process, whose engine has all cores: each of several workers would import Beam and load a model
again, which took more time and more CPU (benchmarks/PROCESSES.md). So _check_running_mode refuses
them.
"""

DONE, FAILED, WRONG, WITH_REJECTS, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses; __main__ says what each means."""

_S3_VARIABLES = {
    "s3_access_key_id": "AWS_ACCESS_KEY_ID",
    "s3_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "s3_session_token": "AWS_SESSION_TOKEN",
    "s3_endpoint_url": "AWS_ENDPOINT_URL",
    "s3_region_name": "AWS_DEFAULT_REGION",
}
_RUNNERS_WITH_FLAGS_OF_THEIR_OWN = ("flink", "spark", "portable", "prism")


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which images. Paths are local, s3:// or gs://."""

    dataset: str | None
    input: str | None
    labels: str | None
    orientation: str
    max_unpacked_bytes: int
    data_dir: str
    archive_url: str
    quiet: bool
    debug: bool


@dataclass(frozen=True, kw_only=True)
class CompressOptions(ImageOptions):
    """What `compress` was told."""

    output: str
    model: str | None
    engine: str | None
    precision: str
    latent_dtype: str
    latent_bits: int
    batch_size: int
    shard_size: int
    max_rejects: int
    overwrite: bool
    resume: bool
    plan: bool
    no_wait: bool


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """What `stage` was told."""

    dataset: str
    data_dir: str
    archive_url: str
    shard_size: int
    batch_size: int
    resume: bool
    quiet: bool
    debug: bool


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ImageOptions):
    """What `train` was told."""

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
    overwrite: bool


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions:
    """What `reconstruct` was told. originals: where they are, if they are at hand."""

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


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ImageOptions):
    """What `evaluate` was told. max_images: how many held-out images are measured at most."""

    output: str
    model: str | None
    max_images: int
    overwrite: bool


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What `verify` was told. against: the images that the run was made of, if they are at hand.

    max_images: how many of them are encoded again at most.
    """

    input: str
    against: ImageOptions | None
    model: str | None
    max_images: int
    json: bool
    quiet: bool
    debug: bool


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What `report` was told: the run whose report is drawn again, and the model that decodes."""

    input: str
    model: str | None
    quiet: bool
    debug: bool


Options = (
    CompressOptions
    | StageOptions
    | TrainOptions
    | ReconstructOptions
    | EvaluateOptions
    | VerifyOptions
    | ReportOptions
)


class UsageError(Exception):
    """The command line is wrong; the message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def parse(argv: Sequence[str]) -> tuple[Options, list[str]]:
    """The command's options, and the flags that are left for Beam.

    Raises UsageError for a flag or value that is wrong, SystemExit(0) after `--help`.
    """
    parser = _command_parser()
    if not argv:
        parser.print_help()
        raise SystemExit(WRONG)
    if argv[0].startswith("--") and argv[0] not in ("--help", "--version"):
        raise UsageError(f"{argv[0]} comes before the command: put flags behind it")
    namespace, beam_flags = parser.parse_known_args(argv)
    settings = vars(namespace)
    command = settings.pop("command")
    if command not in PIPELINE_COMMANDS and beam_flags:
        raise UsageError(f"there is no flag {beam_flags[0]}; see `{_program()} {command} --help`")
    _check_running_mode(beam_flags)
    if command in _PLAIN:
        return _PLAIN[command](**settings), beam_flags
    if command == "reconstruct":
        return _reconstruct_options(settings), beam_flags
    if command == "verify":
        images = _images_at_hand(command, "against", settings)
        return VerifyOptions(**settings, against=images), beam_flags
    _check_images(command, settings)
    if command == "train":
        return TrainOptions(**settings), beam_flags
    if command == "evaluate":
        return EvaluateOptions(**settings), beam_flags
    return _compress_options(settings), beam_flags


_PLAIN: dict[str, Callable[..., Options]] = {"report": ReportOptions, "stage": StageOptions}
"""The commands whose flags need no second look."""


def _check_running_mode(beam_flags: Sequence[str]) -> None:
    """Raises UsageError for worker processes on this machine, which take longer than none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--direct_running_mode", nargs="?")
    known, _ = parser.parse_known_args(beam_flags)
    if known.direct_running_mode == "multi_processing":
        raise UsageError(
            "--direct_running_mode=multi_processing: each worker process imports Beam and loads "
            "the model again, which took 1.2 to 1.5 times as long, and one process uses all cores "
            "already: leave it out"
        )


def _check_images(command: str, settings: dict[str, Any]) -> None:
    if (settings["dataset"] is None) == (settings["input"] is None):
        raise UsageError(
            "give either --dataset=NAME or --input=FILE_OR_GLOB, one of the two; "
            f"see `{_program()} {command} --help`"
        )
    for name in ("labels", "orientation"):
        if settings["dataset"] is not None and settings[name] not in (None, "auto"):
            raise UsageError(f"--{name} goes with --input: leave it out, a --dataset knows its own")


def _compress_options(settings: dict[str, Any]) -> CompressOptions:
    engine, precision = settings["engine"], settings["precision"]
    if precision == "int8" and engine not in (None, "litert"):
        raise UsageError(f"--precision=int8 goes with --engine=litert: {engine} has float32 alone")
    if engine == "litert" and precision == "float32":
        raise UsageError("--engine=litert goes with --precision=int8: in float32 ncnn is faster")
    bits = settings["latent_bits"]
    if bits is not None and settings["latent_dtype"] != "int8":
        raise UsageError("--latent_bits goes with --latent_dtype=int8: other types keep all bits")
    return CompressOptions(**{**settings, "latent_bits": MAX_BITS if bits is None else bits})


def _reconstruct_options(settings: dict[str, Any]) -> ReconstructOptions:
    images = _images_at_hand("reconstruct", "originals", settings)
    return ReconstructOptions(**settings, originals=images)


def _images_at_hand(command: str, flag: str, settings: dict[str, Any]) -> ImageOptions | None:
    """The images that a run was made of, taken out of the settings: a dataset's name, or files."""
    named = settings.pop(flag)
    where = {
        name: settings.pop(name)
        for name in ("labels", "orientation", "max_unpacked_bytes", "archive_url", "data_dir")
    }
    if named is None:
        if where["labels"] is not None or where["orientation"] != "auto":
            raise UsageError(
                f"--labels and --orientation go with --{flag}=FILE_OR_GLOB: give it too"
            )
        return None
    is_dataset = named in DATASET_NAMES
    images = {
        "dataset": named if is_dataset else None,
        "input": None if is_dataset else named,
        **where,
    }
    _check_images(command, images)
    said = {name: settings[name] for name in ("quiet", "debug")}
    return ImageOptions(**images, **said)


def _program() -> str:
    """How the command was started, for the user to do it again."""
    installed = "emnist-latents"
    return installed if Path(sys.argv[0]).name == installed else "python -m beam_job"


def _command_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_program(),
        description="Turns EMNIST into a small Parquet dataset of latent vectors, on Apache Beam.",
        epilog=f"{_STATUSES}; of compress also {_REJECTS_STATUS}.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"emnist-latents {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    compress = commands.add_parser(
        "compress",
        help="encode images to latents in Parquet, and count the bytes",
        description="Encodes a dataset, or files of images, to latents in Parquet, and counts the "
        "bytes before and after.",
        epilog="All of Beam's own flags are taken too: --runner=FlinkRunner, "
        "--parallelism=2, ... Without --runner the "
        f"job runs in this process, on Beam's {LOCAL_RUNNER}. {_STATUSES}, {_REJECTS_STATUS}.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    _add_compress_flags(compress)
    reconstruct = commands.add_parser(
        "reconstruct",
        help="decode a run's latents to images, and measure them against the originals",
        description="Decodes the latents of a run directory to images, in the columns of staged "
        "ones, and measures what was lost where the originals are at hand.",
        epilog=f"Beam's own flags are taken as compress takes them. {_STATUSES}.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    _add_reconstruct_flags(reconstruct)
    train = commands.add_parser(
        "train",
        help="fit encoder and decoder to a dataset",
        description="Fits encoder and decoder to a dataset, and writes a model directory for "
        "--model. The test split is held out where there is a train split beside it, else every "
        "tenth image.",
        epilog=f"{_STATUSES}.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    _add_train_flags(train)
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model's rate and distortion beside real codecs",
        description="Measures rate and distortion on images that are held out as `train` holds "
        "them out, beside PNG, WebP, AVIF, JPEG XL, JPEG, gzip, zstd and PCA.",
        epilog=f"{_STATUSES}.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    _add_evaluate_flags(evaluate)
    verify = commands.add_parser(
        "verify",
        help="read a run back, and say whether it is whole",
        description="Compares every file and every row of a run directory with its manifest, and, "
        "where the images are at hand, latents with what the encoder gives.",
        epilog=f"Exit status: {DONE} the run is whole, {FAILED} it is not, {WRONG} wrong use or "
        f"input, or there is no complete run, {INTERRUPTED} interrupted.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    _add_verify_flags(verify)
    report = commands.add_parser(
        "report",
        help="draw a run's report.html again",
        description="Draws report.html of a run directory again, from what the run holds.",
        epilog=f"{_STATUSES}.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    _add_run_flags(report, "DIR")
    _add_common_flags(report)
    stage = commands.add_parser(
        "stage",
        help="bring a dataset to --data_dir as sharded Parquet",
        description="Brings a dataset to where all workers can read it, as sharded Parquet. "
        "compress does this by itself where it is missing.",
        epilog=f"{_STATUSES}.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    stage.add_argument("--dataset", required=True, type=_dataset, metavar="NAME", help=_DATASET)
    staging = _add_staging_flags(stage)
    _add_shard_size(staging)
    _add_batch_size(staging, "images a row group of staged Parquet")
    _add_resume(staging, "a staging")
    _add_common_flags(stage)
    return parser


_STATUSES = (
    f"Exit status: {DONE} done, {FAILED} the run failed, {WRONG} wrong use or input, "
    f"{INTERRUPTED} interrupted"
)
_REJECTS_STATUS = f"{WITH_REJECTS} done with rejects, no more than --max_rejects"


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


_DATASET = (
    "a dataset by name: sample (1,797 digits, needs no download), or EMNIST's "
    + ", ".join(EMNIST_NAMES)
    + " (the archive is downloaded once, about 0.7 GB)"
)


def _add_compress_flags(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("what to compress (one of --dataset and --input)")
    _add_image_flags(source)
    source.add_argument(
        "--max_rejects",
        type=_count(0),
        default=0,
        metavar="N",
        help="how many images that cannot be read are set aside in rejects/ before the run fails "
        "(default: 0)",
    )
    result = parser.add_argument_group("what comes out")
    _add_output(result, "the run directory to write (required)", "a run")
    _add_resume(result, "a run")
    result.add_argument(
        "--plan",
        action="store_true",
        help="say what would be done (shards, bytes, files, model), and do nothing",
    )
    encoder = parser.add_argument_group("the encoder, and how its latents are stored")
    encoder.add_argument(
        "--model",
        type=_path,
        metavar="DIR_OR_FILE",
        help="a model directory that train wrote, or a .keras file that maps (28, 28, 1) to (N,); "
        "default: the model that comes with the package",
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
        type=_count(MIN_BITS, MAX_BITS),
        metavar="N",
        help=f"with int8: {MIN_BITS} to {MAX_BITS}; fewer levels make smaller files "
        f"(default: {MAX_BITS})",
    )
    staging = _add_staging_flags(parser)
    _add_shard_size(staging)
    _add_batch_size(staging, "images that go through the encoder in one call")
    _add_no_wait(parser)
    _add_common_flags(parser)


def _add_reconstruct_flags(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("what to decode")
    source.add_argument(
        "--input",
        type=_path,
        required=True,
        metavar="RUN_DIR",
        help="a run directory that compress wrote (required)",
    )
    source.add_argument(
        "--model",
        type=_path,
        metavar="DIR",
        help="the model directory that made the latents; default: the one that the run names, "
        "if it is on this machine",
    )
    source.add_argument(
        "--engine",
        choices=ENGINES[:2],
        help="what computes the decoder; default: ncnn where it is installed, else tensorflow",
    )
    _add_batch_size(source, "latents that go through the decoder in one call")
    originals = parser.add_argument_group("the originals, to measure against")
    originals.add_argument(
        "--originals",
        type=_path,
        metavar="FILE_OR_DATASET",
        help="the images that the run was made of: a dataset's name, or files as compress "
        "--input takes them",
    )
    _add_file_flags(originals, "--originals")
    _add_output(
        parser.add_argument_group("what comes out"), "the folder to write (required)", "what"
    )
    _add_staging_flags(parser)
    _add_no_wait(parser)
    _add_common_flags(parser)


def _add_train_flags(parser: argparse.ArgumentParser) -> None:
    _add_image_flags(parser.add_argument_group("what to train on (one of --dataset and --input)"))
    result = parser.add_argument_group("what comes out")
    _add_output(
        result,
        "the model directory to write (required)",
        "a model, or a training that was interrupted,",
    )
    _add_resume(result, "a training")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--initial_model",
        type=_path,
        metavar="DIR",
        help="a model directory whose weights to start from, or pretrained for the one that comes "
        "with the package; default: random weights",
    )
    how.add_argument(
        "--epochs",
        type=_count(1),
        default=50,
        metavar="N",
        help="passes over the images (default: %(default)s)",
    )
    _add_batch_size(how, "images a step", 128)
    how.add_argument(
        "--learning_rate",
        type=_number(0.0, 1.0),
        default=0.01,
        metavar="X",
        help="at its peak; it warms up, and falls along a cosine (default: %(default)s)",
    )
    how.add_argument(
        "--latent_noise",
        type=_number(-1e-9, 1.0),
        default=0.04,
        metavar="X",
        help="noise on the latents in training, as a share of their range, so that they bear "
        "--latent_bits (default: %(default)s)",
    )
    how.add_argument(
        "--compactness",
        type=_number(-1e-9, 10.0),
        default=0.01,
        metavar="X",
        help="penalty on latents that lie far out, for the same end (default: %(default)s)",
    )
    how.add_argument(
        "--augmentation",
        type=_number(-1e-9, 2.0),
        default=0.7,
        metavar="X",
        help="slant, size, place and stroke width of images vary by this, 1 for as much as "
        "handwriting does (default: %(default)s)",
    )
    how.add_argument(
        "--seed",
        type=_count(0),
        default=0,
        metavar="N",
        help="of everything that is drawn at random (default: %(default)s)",
    )
    _add_staging_flags(parser)
    _add_common_flags(parser)


def _add_evaluate_flags(parser: argparse.ArgumentParser) -> None:
    _add_image_flags(parser.add_argument_group("what to measure on (one of --dataset and --input)"))
    parser.add_argument(
        "--model",
        type=_path,
        metavar="DIR",
        help="a model directory that train wrote; default: the model that comes with the package",
    )
    parser.add_argument(
        "--max_images",
        type=_count(1),
        default=2000,
        metavar="N",
        help="how many held-out images are measured at most, evenly spread (default: %(default)s)",
    )
    _add_output(
        parser.add_argument_group("what comes out"), "the folder to write (required)", "what"
    )
    _add_staging_flags(parser)
    _add_common_flags(parser)


def _add_run_flags(parser: argparse.ArgumentParser, model: str) -> None:
    parser.add_argument(
        "--input",
        type=_path,
        required=True,
        metavar="RUN_DIR",
        help="a run directory that compress wrote (required)",
    )
    parser.add_argument(
        "--model",
        type=_path,
        metavar=model,
        help="the model that made the latents; default: the one that the run names, if it is on "
        "this machine",
    )


def _add_verify_flags(parser: argparse.ArgumentParser) -> None:
    _add_run_flags(parser, "DIR_OR_FILE")
    against = parser.add_argument_group("the images, to encode again")
    against.add_argument(
        "--against",
        type=_path,
        metavar="FILE_OR_DATASET",
        help="the images that the run was made of: a dataset's name, or files as compress "
        "--input takes them",
    )
    _add_file_flags(against, "--against")
    against.add_argument(
        "--max_images",
        type=_count(1),
        default=500,
        metavar="N",
        help="how many are encoded again at most, about, evenly spread (default: %(default)s)",
    )
    _add_staging_flags(parser)
    _add_common_flags(parser).add_argument(
        "--json", action="store_true", help="what was found, as JSON on standard output"
    )


class _Group(Protocol):
    """What flags are added to: a parser, or a group of its flags."""

    def add_argument(self, *names: str, **settings: Any) -> Any: ...


def _add_image_flags(group: _Group) -> None:
    group.add_argument("--dataset", type=_dataset, metavar="NAME", help=_DATASET)
    group.add_argument(
        "--input",
        type=_path,
        metavar="FILE_OR_GLOB",
        help="a file, or a quoted glob of files, of 28x28 uint8 images: IDX (raw or gzip), .npy, "
        "staged Parquet, or Parquet of PNG or JPEG as Hugging Face has it; what a file is, is read "
        "from its content",
    )
    _add_file_flags(group, "--input")


def _add_file_flags(group: _Group, files: str) -> None:
    group.add_argument(
        "--labels",
        type=_path,
        metavar="FILE_OR_GLOB",
        help=f"labels (IDX or .npy) of the {files} files, in the same order; default: those next "
        "to an IDX file by NIST's naming (...-labels-idx1-ubyte), else none",
    )
    group.add_argument(
        "--orientation",
        choices=ORIENTATIONS,
        default="auto",
        help=f"how the {files} images lie; auto: transposed for IDX files called emnist-*, as "
        "NIST's are, else upright (default: auto)",
    )
    group.add_argument(
        "--max_unpacked_bytes",
        type=_count(1),
        default=DEFAULT_MAX_UNPACKED_BYTES,
        metavar="N",
        help=f"what one compressed file of the {files} files may unpack to; one that says more, or "
        "holds more than it says, is refused (default: %(default)s)",
    )


def _add_output(group: _Group, what: str, replaced: str) -> None:
    group.add_argument("--output", type=_folder, required=True, metavar="DIR", help=what)
    group.add_argument(
        "--overwrite", action="store_true", help=f"replace {replaced} that is in --output, whole"
    )


def _add_resume(group: _Group, what: str) -> None:
    group.add_argument(
        "--resume",
        action="store_true",
        help=f"go on with {what} of the same flags that was interrupted, if there is one; one of "
        "other flags is refused, by name of what differs",
    )


def _add_staging_flags(parser: argparse.ArgumentParser) -> _Group:
    staging = parser.add_argument_group("how the work is cut, and where datasets are kept")
    staging.add_argument(
        "--data_dir",
        type=_folder,
        default=_default_data_dir(),
        metavar="DIR",
        help="where --dataset is staged as Parquet, once (default: %(default)s)",
    )
    staging.add_argument(
        "--archive_url",
        default=ARCHIVE_URL,
        metavar="URL",
        help="where EMNIST's matlab.zip is fetched from if the Keras cache lacks it (default: "
        "%(default)s)",
    )
    return staging


def _add_shard_size(group: _Group) -> None:
    group.add_argument(
        "--shard_size",
        type=_count(1),
        default=DEFAULT_SHARD_SIZE,
        metavar="N",
        help="images a shard; a shard is the unit of parallel work and becomes one file (default: "
        "%(default)s)",
    )


def _add_batch_size(group: _Group, what: str, default: int = DEFAULT_BATCH_SIZE) -> None:
    group.add_argument(
        "--batch_size",
        type=_count(1),
        default=default,
        metavar="N",
        help=f"{what} (default: %(default)s)",
    )


def _add_no_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument_group("where it runs (besides Beam's own flags)").add_argument(
        "--no_wait",
        action="store_true",
        help="hand the job to a runner that stays (Dataflow, a job service), and leave: the job "
        "itself publishes what it made",
    )


def _add_common_flags(parser: argparse.ArgumentParser) -> _Group:
    talk = parser.add_argument_group("what is said")
    talk.add_argument(
        "--quiet", action="store_true", help="no progress, summary or notes; errors only"
    )
    talk.add_argument(
        "--debug", action="store_true", help="Beam's log lines, and the traceback of an error"
    )
    return talk


def _dataset(name: str) -> str:
    if name not in DATASET_NAMES:
        raise argparse.ArgumentTypeError(
            f"there is no dataset {name!r}: give one of {', '.join(DATASET_NAMES)}"
        )
    return name


def _path(text: str) -> str:
    """An argparse type: a path; `~` is expanded, which no shell does behind an equals sign."""
    if not text:
        raise argparse.ArgumentTypeError("is empty: give a path")
    if not is_unicode(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no Unicode text: rename it")
    return os.path.expanduser(text)  # noqa: PTH111  # Path would change gs://.


def _folder(text: str) -> str:
    """An argparse type: a folder to write to."""
    if set(text) & set("*?["):
        # Readers' globs below such a name would match other files, or none.
        raise argparse.ArgumentTypeError(f"{text!r} has one of * ? [ in it: give another folder")
    return _path(text)


def _count(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number of at least `least`, and at most `most`."""
    expected = f"of at least {least}" if most is None else f"from {least} to {most}"

    def parsed(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= (most or int(text)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {expected}")
        return int(text)

    return parsed


def _number(above: float, most: float) -> Callable[[str], float]:
    """An argparse type: a number above `above`, at most `most`."""

    def parsed(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not above < value <= most:
            least = "from 0 to" if above < 0 else f"above {above:g}, at most"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {least} {most:g}")
        return value

    return parsed


def _default_data_dir() -> str:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return str(Path(cache, "emnist-latents"))


def beam_options(flags: Sequence[str]) -> "PipelineOptions":
    """Beam's options from the flags that are not ours; the local runner unless one is named.

    Raises UsageError for a flag that neither we nor Beam know. Runners that take flags of their
    own (Flink, Spark, ...) judge those themselves.
    """
    from apache_beam.options.pipeline_options import (
        PipelineOptions,
        SetupOptions,
        StandardOptions,
    )

    _check_beam_flags(flags)
    options = PipelineOptions(list(flags))
    if options.view_as(StandardOptions).runner is None:
        options.view_as(StandardOptions).runner = LOCAL_RUNNER
    # __main__ is a thin front; Dataflow would pickle it by default.
    options.view_as(SetupOptions).save_main_session = False
    return options


def set_up_stores(flags: Sequence[str]) -> None:
    """Lets this process reach S3 as flags of Beam's say, if any do: they go before the environment.

    Raises UsageError as beam_options does. Workers elsewhere have to have it in theirs.
    """
    if flags:
        with no_collection():
            import apache_beam  # noqa: F401
        given = beam_options(flags).get_all_options(drop_default=True)
        for name in (name for name in given if name.startswith("s3_")):
            if name not in _S3_VARIABLES:
                raise UsageError(
                    f"--{name} is a flag of Beam's own S3, which is not used: leave it out"
                )
            os.environ[_S3_VARIABLES[name]] = str(given[name])


def _check_beam_flags(flags: Sequence[str]) -> None:
    from apache_beam.options.pipeline_options import StandardOptions

    parser = _beam_parser()
    try:
        known, unknown = parser.parse_known_args(flags)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error} (a flag of Beam's): correct it") from error
    runner = (known.runner or LOCAL_RUNNER).lower()
    ours = argparse.ArgumentParser(conflict_handler="resolve")
    _add_compress_flags(ours)
    _add_reconstruct_flags(ours)
    for argument in unknown:
        flag = argument.partition("=")[0]
        close = difflib.get_close_matches(flag, _flag_names(ours), n=1, cutoff=0.75)
        if not flag.startswith("-") and Path(argument).exists():
            raise UsageError(f"{argument} stands alone: give files by --input, a glob in quotes")
        if close or not runner.startswith(_RUNNERS_WITH_FLAGS_OF_THEIR_OWN):
            close += difflib.get_close_matches(flag, _flag_names(parser), n=1, cutoff=0.75)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"there is no flag {flag}{hint}; see `{_program()} compress --help`")
    names = {name.lower() for name in StandardOptions.KNOWN_RUNNER_NAMES}
    if "." not in runner and not {runner, f"{runner}runner"} & names:
        raise UsageError(
            f"there is no runner {known.runner}: give one of "
            + ", ".join(StandardOptions.KNOWN_RUNNER_NAMES)
        )


def _flag_names(parser: argparse.ArgumentParser) -> list[str]:
    return re.findall(r"--\w[\w-]*", parser.format_usage())


def _beam_parser() -> argparse.ArgumentParser:
    """A parser of every flag that Beam declares, as Beam hands it to whoever adds flags."""
    from apache_beam.options.pipeline_options import PipelineOptions

    handed: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=handed.append)
    handed[0].exit_on_error = False
    return handed[0]
