"""Draws the report of a run again: `python -m beam_job report --input=out/sample`."""

from beam_job.lines import say
from beam_job.options import DONE, ReportOptions
from beam_job.report_drawing import draw_report
from beam_job.run_directory import REPORT, complete_run
from beam_job.run_model import model_of_run
from beam_job.stores import check_file_system
from transforms.storage.files import child


def run(options: ReportOptions) -> int:
    """Draws the report of the run that the options name, and shows where it is."""
    for flag in ("input", "model"):
        check_file_system(flag, getattr(options, flag))
    compressed = complete_run(options.input)
    decodes = compressed.manifest["model"]["decoder_sha256"] is not None
    model = model_of_run(compressed, options.model, decodes=True).name if decodes else None
    draw_report(options.input, compressed.manifest["run_id"], model, None)
    if not options.quiet:
        say(child(options.input, REPORT))
    return DONE
