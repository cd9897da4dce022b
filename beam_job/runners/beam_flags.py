"""Beam's own flags: the options that they make, and what is refused among them."""

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beam_job.suggestions import nearest
from transforms.errors import UsageError
from transforms.quiet import no_collection

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

LOCAL_RUNNER = "FnApiRunner"
"""Beam's local runner in Python; DirectRunner tries to download Prism first.

One process, whose engine has all cores: each of several workers would import Beam and load a model
again, which took more time and more CPU (benchmarks/PROCESSES.md). So check_running_mode refuses
them.
"""
_S3_VARIABLES = {
    "s3_access_key_id": "AWS_ACCESS_KEY_ID",
    "s3_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "s3_session_token": "AWS_SESSION_TOKEN",
    "s3_endpoint_url": "AWS_ENDPOINT_URL",
    "s3_region_name": "AWS_DEFAULT_REGION",
}
_RUNNERS = (
    LOCAL_RUNNER,
    "DirectRunner",
    "SwitchingDirectRunner",
    "PrismRunner",
    "FlinkRunner",
    "SparkRunner",
    "PortableRunner",
    "DataflowRunner",
)
"""Those that work, of the ones that Beam names."""
_RUNNERS_WITH_FLAGS_OF_THEIR_OWN = ("flink", "spark", "portable", "prism")


@dataclass(frozen=True)
class BeamFlags:
    """The flags that a command line leaves for Beam.

    own: the names of the command's own flags, one of which may be meant. command: how
    the command is called.
    """

    flags: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    command: str = ""

    @cached_property
    def options(self) -> "PipelineOptions":
        """Beam's options; the local runner unless one is named.

        Raises UsageError for a flag that neither we nor Beam know. Runners that take flags of their
        own (Flink, Spark, ...) judge those themselves.
        """
        with no_collection():
            from apache_beam.options.pipeline_options import (
                PipelineOptions,
                SetupOptions,
                StandardOptions,
            )
        _check(self)
        options = PipelineOptions(list(self.flags))
        if options.view_as(StandardOptions).runner is None:
            options.view_as(StandardOptions).runner = LOCAL_RUNNER
        # __main__ is a thin front; Dataflow would pickle it by default.
        options.view_as(SetupOptions).save_main_session = False
        return options


def set_up_stores(flags: BeamFlags) -> None:
    """Lets this process reach S3 as flags of Beam's say, if any do: they go before the environment.

    Raises UsageError as BeamFlags.options does. Workers elsewhere have to have it in theirs.
    """
    given = flags.options.get_all_options(drop_default=True) if flags.flags else {}
    for name in (name for name in given if name.startswith("s3_")):
        if name not in _S3_VARIABLES:
            raise UsageError(
                f"--{name} is a flag of Beam's own S3, which is not used: leave it out"
            )
        os.environ[_S3_VARIABLES[name]] = str(given[name])


def check_given_once(argv: Iterable[str], values: Mapping[str, Any]) -> None:
    """Raises UsageError for a flag that is given twice where only the last one would count.

    values: what a parser made of the flags; those of which all count are lists.
    """
    times = Counter(argument.partition("=")[0] for argument in argv)
    for flag, count in times.items():
        value = values.get(flag.removeprefix("--"))
        if count > 1 and value is not None and not isinstance(value, (list, bool)):
            raise UsageError(f"{flag} is given twice, and only one would count: give it once")


def check_running_mode(beam_flags: Sequence[str]) -> None:
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


def unknown_flag(flag: str, command: str, known: Iterable[str]) -> UsageError:
    """The error of a flag that nobody knows. known: the flags of which one may be meant."""
    name = flag.partition("=")[0]
    return UsageError(f"there is no flag {name}{nearest(name, known)}; see `{command} --help`")


def _check(flags: BeamFlags) -> None:
    parser = _beam_parser()
    try:
        known, unknown = parser.parse_known_args(flags.flags)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error} (a flag of Beam's): correct it") from error
    check_given_once(flags.flags, vars(known))
    runner = (known.runner or LOCAL_RUNNER).lower()
    for argument in unknown:
        flag = argument.partition("=")[0]
        if not flag.startswith("-") and Path(argument).exists():
            raise UsageError(f"{argument} stands alone: give files by --input, a glob in quotes")
        if nearest(flag, flags.own):
            raise unknown_flag(flag, flags.command, flags.own)
        if not runner.startswith(_RUNNERS_WITH_FLAGS_OF_THEIR_OWN):
            names = re.findall(r"--\w[\w-]*", parser.format_usage())
            raise unknown_flag(flag, flags.command, names)
    runners = {name.lower() for name in _RUNNERS}
    if "." not in runner and not {runner, f"{runner}runner"} & runners:
        raise UsageError(
            f"there is no runner {known.runner}{nearest(known.runner, _RUNNERS)} for this program: "
            f"give one of {', '.join(_RUNNERS)}"
        )
    if known.performance_runtime_type_check:
        raise UsageError(
            "--performance_runtime_type_check: Beam mistakes the outputs of a step for each other "
            "there: leave it out"
        )


def _beam_parser() -> argparse.ArgumentParser:
    """A parser of every flag that Beam declares, as Beam hands it to whoever adds flags."""
    from apache_beam.options.pipeline_options import PipelineOptions

    handed: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=handed.append)
    handed[0].exit_on_error = False
    return handed[0]
