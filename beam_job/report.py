"""Draws the report of a run again: `python -m beam_job report --input=out/sample`."""

import argparse
from dataclasses import dataclass

from beam_job.console import say
from beam_job.exit_status import DONE, STATUSES
from beam_job.flags import Command, add_common_flags, add_run_flags


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
    add_run_flags(parser, "DIR")
    add_common_flags(parser)


REPORT = Command(
    "report",
    "beam_job.report",
    summary="draw a run's report.html again",
    description="Draws report.html of a run directory again, from what the run holds.",
    epilog=f"{STATUSES}.",
    add_flags=add_flags,
    options_of=lambda settings: ReportOptions(**settings),
)
