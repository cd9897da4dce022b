"""Draws the report of a run again: `python -m beam_job report out/sample`."""

import argparse
from dataclasses import dataclass
from typing import Any

from beam_job.console import say
from beam_job.exit_status import DONE, STATUSES
from beam_job.flags import Command, add_common_flags, add_run_model, path


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """The run whose report is drawn again, and the model that decodes."""

    input: str
    model: str | None
    quiet: bool
    debug: bool


def run(options: ReportOptions, _: object) -> int:
    """Draws the report of the run that the options name, and shows where it is."""
    from beam_job.outputs.run_directory import REPORT as REPORT_FILE
    from beam_job.outputs.run_directory import complete_run
    from beam_job.outputs.run_model import model_of_run
    from beam_job.reports.run_report import draw_report
    from beam_job.stores import check_file_system
    from transforms.storage.files import child

    for flag in ("input", "model"):
        check_file_system(flag, getattr(options, flag))
    compressed = complete_run(options.input)
    decodes = compressed.manifest.model.decoder_sha256 is not None
    model = model_of_run(compressed, options.model, decodes=True).name if decodes else None
    draw_report(options.input, compressed.manifest.run_id, model, None)
    if not options.quiet:
        say(child(options.input, REPORT_FILE))
    return DONE


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    group = parser.add_argument_group("which run")
    run = group.add_mutually_exclusive_group(required=True)
    what = "a run directory that compress wrote"
    run.add_argument("run_dir", nargs="?", type=path, metavar="RUN_DIR", help=what)
    run.add_argument("--input", type=path, metavar="RUN_DIR", help="the same, as a flag")
    add_run_model(group, "DIR")
    add_common_flags(parser)


def options_of(settings: dict[str, Any]) -> ReportOptions:
    """The options of these flags."""
    run_dir = settings.pop("run_dir")
    return ReportOptions(**{**settings, "input": run_dir or settings["input"]})


REPORT = Command(
    "report",
    "beam_job.report",
    summary="draw a run's report.html again",
    description="Draws report.html of a run directory again, from the files of the run.",
    epilog=f"{STATUSES}.",
    add_flags=add_flags,
    options_of=options_of,
)
