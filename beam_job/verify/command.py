"""Reads a run back and says whether it is whole.

`python -m beam_job verify --input=out/sample --against=sample`

Every file is compared with the manifest, and every row with what the manifest promises of it. With
the images at hand some of them, or all, are encoded again and compared with their latents.
"""

import json

from beam_job.console import say, tell
from beam_job.datasets.staging import known_dataset
from beam_job.exit_status import DONE, FAILED
from beam_job.outputs.run_directory import (
    CompleteRun,
    complete_run,
)
from beam_job.stores import check_file_system
from beam_job.verify.encode_again import compare_again
from beam_job.verify.options import VerifyOptions
from beam_job.verify.read_back import Verified, read_back

_SHOWN_PROBLEMS = 20


def run(options: VerifyOptions, _: object) -> int:
    """Verifies the run that the options name, and shows what was found; 0 if it is whole."""
    for flag in ("input", "model"):
        check_file_system(flag, getattr(options, flag))
    compressed = complete_run(options.input)
    if options.against is not None:
        known_dataset(options.against)
    verified = read_back(compressed)
    if options.against is not None and not verified.problems:
        compare_again(compressed, options, options.against, verified)
    _show(compressed, options, verified)
    return FAILED if verified.problems else DONE


def _show(compressed: CompleteRun, options: VerifyOptions, verified: Verified) -> None:
    if options.json:
        described = {
            "input": compressed.folder,
            "run_id": compressed.manifest.run_id,
            "whole": not verified.problems,
            "files": verified.files,
            "bytes": verified.bytes,
            "images": verified.images,
            "compared": verified.compared,
            "problems": [problem._asdict() for problem in verified.problems],
            "notes": verified.notes,
        }
        say(*json.dumps(described, indent=2).split("\n"))
        return
    for problem in verified.problems[:_SHOWN_PROBLEMS]:
        say(f"{problem.path} {problem.problem}")
    if len(verified.problems) > _SHOWN_PROBLEMS:
        say(f"... and {len(verified.problems) - _SHOWN_PROBLEMS:,} problems more: --json has all")
    if not options.quiet:
        tell(*(f"note: {note}" for note in verified.notes[:_SHOWN_PROBLEMS]))
    if verified.problems:
        say(f"{compressed.folder} is NOT whole: compress again")
    elif not options.quiet:
        images = " and ".join(
            f"{rows:,} images of {name}" for name, rows in verified.images.items()
        )
        again = f"; {verified.compared:,} encoded again" if options.against else ""
        say(
            f"{compressed.folder} is whole: {verified.files} files, {verified.bytes:,} bytes, "
            f"{images}{again}"
        )
