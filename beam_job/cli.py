"""The command line: which command, and its options. Nothing here imports Beam, NumPy or TensorFlow.

Flags are plain argparse and become a frozen dataclass; only what is left over goes to Beam. That
lets `--labels` mean labels of images here although Beam has a `--labels` of its own (for Google
Cloud, where `--label` says the same).
"""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from beam_job import __version__
from beam_job.compress.options import COMPRESS
from beam_job.console import say
from beam_job.evaluate.options import EVALUATE
from beam_job.exit_status import REJECTS_STATUS, STATUSES, WRONG
from beam_job.flags import Command, HelpFormatter, program
from beam_job.reconstruct.options import RECONSTRUCT
from beam_job.report import REPORT
from beam_job.runners.beam_flags import (
    BeamFlags,
    check_given_once,
    check_running_mode,
    unknown_flag,
)
from beam_job.stage import STAGE
from beam_job.suggestions import nearest
from beam_job.train.options import TRAIN
from beam_job.verify.options import VERIFY
from transforms.errors import UsageError

COMMANDS = {
    command.name: command
    for command in (COMPRESS, RECONSTRUCT, TRAIN, EVALUATE, VERIFY, REPORT, STAGE)
}


class Given(NamedTuple):
    """What a command line asks for."""

    command: Command
    options: Any
    beam_flags: BeamFlags


class _Parser(argparse.ArgumentParser):
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = [flag.partition("=")[0] for flag in args or ()]
        known, others = super().parse_known_args(args, namespace)
        check_given_once(self._given, vars(known))
        return known, others

    def error(self, message: str) -> NoReturn:
        required = re.findall(r"--\w+", message) if "are required" in message else []
        for flag in self._given:
            if nearest(flag, required):
                raise unknown_flag(flag, self.prog, required)
        wrong = re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message)
        close = nearest(wrong[1], re.findall(r"[\w.-]+", wrong[2])) if wrong else ""
        raise UsageError(f"{message}{close}; see `{self.prog} --help`")


def parse(argv: Sequence[str]) -> Given:
    """What a command line asks for.

    Raises UsageError for a flag or value that is wrong, SystemExit(0) after `--help`.
    """
    parser = _parser()
    if not argv:
        say(*_first_page())
        raise SystemExit(WRONG)
    if argv[0].startswith("--") and argv[0] not in ("--help", "--version"):
        raise UsageError(f"{argv[0]} comes before the command: put flags behind it")
    namespace, left = parser.parse_known_args(argv)
    settings = vars(namespace)
    command = COMMANDS[settings.pop("command")]
    called = f"{program()} {command.name}"
    if left and not command.is_pipeline:
        raise unknown_flag(left[0], called, command.flag_names())
    check_running_mode(left)
    own = tuple(command.flag_names()) if left else ()
    return Given(command, command.options_of(settings), BeamFlags(tuple(left), own, called))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program(),
        formatter_class=HelpFormatter,
        description="Turns EMNIST into a small Parquet dataset of latent vectors, on Apache Beam.",
        epilog=f"{STATUSES}; of compress also {REJECTS_STATUS}.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"emnist-latents {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS.values():
        command.add_flags(
            commands.add_parser(
                command.name,
                help=command.summary,
                description=command.description,
                epilog=command.epilog,
                formatter_class=HelpFormatter,
                allow_abbrev=False,
            )
        )
    return parser


def _first_page() -> list[str]:
    """What somebody sees who gives no command."""
    called = program()
    return [
        f"EMNIST latents {__version__}: 28x28 images of handwriting, as a small Parquet dataset",
        "",
        "Try the embedded sample; it takes some seconds, and no download:",
        f"  {called} compress --dataset=sample --output=out/sample",
        "",
        "Compress images of yours:",
        f"  {called} compress --input='images/*.npy' --output=out/mine",
        "",
        "Commands:",
        *(f"  {command.name:12} {command.summary}" for command in COMMANDS.values()),
        "",
        f"`{called} COMMAND --help` lists the flags of a command.",
    ]
