"""What a Dataflow flex template starts: `compress`, handed to Dataflow and left to it.

The template's launcher gives every parameter as --NAME=VALUE, and adds Dataflow's own flags.
"""

import sys
from collections.abc import Sequence

from beam_job.__main__ import run

SWITCHES = {
    f"--{name}={value}": [f"--{name}"] if value == "true" else []
    for name in ("overwrite", "resume")
    for value in ("true", "false")
}
JOB_LABELS = "--labels={"
"""Begins Dataflow's labels of the job; our own --labels are those of images."""


def command_line(launched_with: Sequence[str]) -> list[str]:
    """What the launcher's flags are to `python -m beam_job`."""
    flags = [ours for flag in launched_with for ours in SWITCHES.get(flag, [flag])]
    return ["compress", "--no_wait", *(_with_job_labels(flag) for flag in flags)]


def _with_job_labels(flag: str) -> str:
    """The flag; Dataflow's labels by the other name that Beam has for them."""
    if flag.startswith(JOB_LABELS):
        return "--label={" + flag.removeprefix(JOB_LABELS)
    return flag


if __name__ == "__main__":
    sys.exit(run(command_line(sys.argv[1:])))
