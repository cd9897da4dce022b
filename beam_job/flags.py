"""The flags that several commands share, the types of their values, and the images they name."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from beam_job.datasets.selection import (
    ARCHIVE_URL,
    DATASET_NAMES,
    EMNIST_NAMES,
    ImageOptions,
)
from beam_job.suggestions import nearest
from transforms.errors import UsageError
from transforms.printable import is_unicode
from transforms.settings import (
    BATCH_SIZE,
    INVERT,
    MAX_UNPACKED_BYTES,
    ORIENTATIONS,
    SHARD_SIZE,
)

FILE_FLAGS = ("labels", "orientation", "invert", "max_pixel", "member", "fit")
"""How files of images are read; a dataset by name knows its own."""
NOT_GIVEN = ((), "auto", None, False)
"""Their values where nobody gives them."""

DATASET_HELP = (
    "a dataset by name: sample (1,797 digits, needs no download), or EMNIST's "
    + ", ".join(EMNIST_NAMES)
    + " (the archive is downloaded once, about 0.7 GB)"
)


class Command(NamedTuple):
    """A command of the program.

    module: what has its `run(options, beam_flags)`, which gives the exit status; imported only when
    the command runs. summary: for the list of commands. add_flags: declares its flags.
    options_of: its options, from the values of its flags. is_pipeline: whether it takes Beam's
    flags too.
    """

    name: str
    module: str
    summary: str
    description: str
    epilog: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    options_of: Callable[[dict[str, Any]], Any]
    is_pipeline: bool = False

    def flag_names(self) -> list[str]:
        """The names of its flags, as one gives them."""
        parser = argparse.ArgumentParser(add_help=False)
        self.add_flags(parser)
        return re.findall(r"--\w[\w-]*", parser.format_usage())


class HelpFormatter(argparse.HelpFormatter):
    """Help of 100 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def check_images(command: str, settings: dict[str, Any]) -> None:
    """Raises UsageError unless one of --dataset and --input is given, with what goes with it."""
    for name in ("input", "labels"):
        settings[name] = tuple(settings[name] or ())
    if (settings["dataset"] is None) == (not settings["input"]):
        raise UsageError(
            "give either --dataset=NAME or --input=FILE_OR_GLOB, one of the two; "
            f"see `{program()} {command} --help`"
        )
    check_staged_somewhere(settings)
    for name in FILE_FLAGS:
        if settings["dataset"] is not None and settings[name] not in NOT_GIVEN:
            raise UsageError(f"--{name} goes with --input: leave it out, a --dataset knows its own")


def check_staged_somewhere(settings: dict[str, Any]) -> None:
    """Raises UsageError where there is no folder to stage a dataset in."""
    settings["data_dir"] = settings["data_dir"] or ""
    if settings["dataset"] is not None and not settings["data_dir"]:
        raise UsageError("this user has no home folder: say by --data_dir where to stage --dataset")


def take_images(command: str, flag: str, settings: dict[str, Any]) -> ImageOptions | None:
    """The images that a run was made of, taken out of the settings: a dataset's name, or files."""
    named = settings.pop(flag)
    where = {
        name: settings.pop(name)
        for name in (*FILE_FLAGS, "max_unpacked_bytes", "archive_url", "data_dir")
    }
    if named is None:
        given = [name for name in FILE_FLAGS if where[name] not in NOT_GIVEN]
        if given:
            raise UsageError(f"--{given[0]} goes with --{flag}=FILE_OR_GLOB: give it too")
        return None
    is_dataset = len(named) == 1 and named[0] in DATASET_NAMES
    images = {
        "dataset": named[0] if is_dataset else None,
        "input": () if is_dataset else named,
        **where,
    }
    check_images(command, images)
    said = {name: settings[name] for name in ("quiet", "debug")}
    return ImageOptions(**images, **said)


class Group(Protocol):
    """What flags are added to: a parser, or a group of its flags."""

    def add_argument(self, *names: str, **settings: Any) -> Any: ...


def add_image_flags(group: Group) -> None:
    """Declares the flags that say which images."""
    group.add_argument("--dataset", type=dataset, metavar="NAME", help=DATASET_HELP)
    group.add_argument(
        "--input",
        type=path,
        action="append",
        metavar="FILE_OR_GLOB",
        help="a file, a folder, or a quoted glob of files, of 28x28 images: IDX, .npy, .npz, .mat, "
        "CSV, Parquet, pictures (PNG, JPEG, ...), in a gzip, xz, zstd or zip or not; what a file "
        "is, is read from its content; may be given several times (docs/inputs.md has all forms)",
    )
    add_file_flags(group, "--input")


def add_file_flags(group: Group, files: str) -> None:
    """Declares what goes with files of images. files: the flag that names them."""
    group.add_argument(
        "--labels",
        type=path,
        action="append",
        metavar="FILE_OR_GLOB",
        help=f"labels (IDX or .npy) of the {files} files, paired by their names (split, number); "
        "may be given several times; default: those next to the images that are called alike "
        "(train-images and train-labels, x and y), else none",
    )
    group.add_argument(
        "--orientation",
        choices=ORIENTATIONS,
        default="auto",
        help=f"how the {files} images lie; auto: transposed for NIST's files of EMNIST, by "
        "their names, else upright; refused if they look otherwise (default: auto)",
    )
    group.add_argument(
        "--invert",
        choices=INVERT,
        nargs="?",
        const="yes",
        default="auto",
        help="whether ink is dark on light, as on paper, so that it is inverted; auto: as the "
        "images look (default: auto)",
    )
    group.add_argument(
        "--max_pixel",
        type=count(1, 255),
        metavar="N",
        help="the value that stands for white; default: 1, 15, 16 or 255, as the images look",
    )
    group.add_argument(
        "--member",
        metavar="NAME_OR_GLOB",
        help=f"which files in a zip of the {files} files, or which arrays of an .npz or .mat, are "
        "read, such as '*balanced*' (default: all)",
    )
    group.add_argument(
        "--fit",
        action="store_true",
        help=f"bring {files} images of other sizes than 28x28 to EMNIST's geometry, as its paper "
        "does: blur, box of the ink, centre, a margin of 2 pixels (default: refuse them)",
    )
    group.add_argument(
        "--max_unpacked_bytes",
        type=count(1),
        default=MAX_UNPACKED_BYTES,
        metavar="N",
        help=f"what one compressed file of the {files} files may unpack to; one that says more, or "
        "holds more than it says, is refused (default: %(default)s)",
    )


def add_run_flags(parser: argparse.ArgumentParser, model: str) -> None:
    """Declares the run directory and its model. model: the metavar of --model."""
    parser.add_argument(
        "--input",
        type=path,
        required=True,
        metavar="RUN_DIR",
        help="a run directory that compress wrote (required)",
    )
    add_run_model(parser, model)


def add_run_model(group: Group, model: str) -> None:
    """Declares the model of a run. model: the metavar of --model."""
    group.add_argument(
        "--model",
        type=path,
        metavar=model,
        help="the model that made the latents; default: the one that the run names, if it is on "
        "this machine",
    )


def add_output(group: Group, what: str, replaced: str) -> None:
    """Declares --output and --overwrite. replaced: what --overwrite replaces."""
    group.add_argument("--output", type=folder, required=True, metavar="DIR", help=what)
    group.add_argument("--overwrite", action="store_true", help=f"replace {replaced} in --output")


def add_resume(group: Group, what: str) -> None:
    """Declares --resume. what: what is continued."""
    group.add_argument(
        "--resume",
        action="store_true",
        help=f"go on with {what} of the same flags that was interrupted, if there is one; one of "
        "other flags is refused, by name of what differs",
    )


def add_staging_flags(parser: argparse.ArgumentParser) -> Group:
    """Declares where datasets are staged; the group of these flags."""
    staging = parser.add_argument_group("how the work is cut, and where datasets are kept")
    staging.add_argument(
        "--data_dir",
        type=folder,
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


def add_shard_size(group: Group) -> None:
    """Declares --shard_size."""
    group.add_argument(
        "--shard_size",
        type=count(1),
        default=SHARD_SIZE,
        metavar="N",
        help="images a shard; a shard is the unit of parallel work and becomes one file (default: "
        "%(default)s)",
    )


def add_batch_size(group: Group, what: str, default: int = BATCH_SIZE) -> None:
    """Declares --batch_size. what: what a batch is of."""
    group.add_argument(
        "--batch_size",
        type=count(1),
        default=default,
        metavar="N",
        help=f"{what} (default: %(default)s)",
    )


def add_no_wait(parser: argparse.ArgumentParser) -> None:
    """Declares --no_wait."""
    parser.add_argument_group("where it runs (besides Beam's own flags)").add_argument(
        "--no_wait",
        action="store_true",
        help="hand the job to a runner that stays (Dataflow, a job service), and leave: the job "
        "itself publishes what it made",
    )


def add_common_flags(parser: argparse.ArgumentParser) -> Group:
    """Declares --quiet and --debug; the group of these flags."""
    talk = parser.add_argument_group("what is said")
    talk.add_argument(
        "--quiet", action="store_true", help="no progress, summary or notes; errors only"
    )
    talk.add_argument(
        "--debug", action="store_true", help="Beam's log lines, and the traceback of an error"
    )
    return talk


def dataset(name: str) -> str:
    """An argparse type: the name of a dataset."""
    if name not in DATASET_NAMES:
        raise argparse.ArgumentTypeError(
            f"there is no dataset {name!r}{nearest(name, DATASET_NAMES)}: give one of "
            f"{', '.join(DATASET_NAMES)}"
        )
    return name


def path(text: str) -> str:
    """An argparse type: a path; `~` is expanded, which no shell does behind an equals sign."""
    if not text:
        raise argparse.ArgumentTypeError("is empty: give a path")
    if not is_unicode(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no Unicode text: rename it")
    return os.path.expanduser(text)  # noqa: PTH111  # Path would change gs://.


def folder(text: str) -> str:
    """An argparse type: a folder to write to."""
    if set(text) & set("*?["):
        # Readers' globs below such a name would match other files, or none.
        raise argparse.ArgumentTypeError(f"{text!r} has one of * ? [ in it: give another folder")
    return path(text)


def count(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number of at least `least`, and at most `most`."""
    expected = f"of at least {least}" if most is None else f"from {least} to {most}"

    def parsed(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= (most or int(text)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {expected}")
        return int(text)

    return parsed


def number(above: float, most: float) -> Callable[[str], float]:
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


def _default_data_dir() -> str | None:
    """The folder in the user's cache; None where the user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return None if cache.startswith("~") else os.path.join(cache, "emnist-latents")  # noqa: PTH118


def program() -> str:
    """How the command was started, for the user to do it again."""
    installed = "emnist-latents"
    return installed if Path(sys.argv[0]).name == installed else "python -m beam_job"
