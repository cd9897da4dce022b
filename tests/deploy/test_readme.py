"""The commands in deploy/README.md: those of ours are read as they would be when they are run.

`docker` ones are run by tests/cluster/test_image.py; `gcloud` there is none of.
"""

import re

import pytest

from beam_job.cli import parse
from tests.deploy.readme import commands
from tests.deploy.test_template import PARAMETERS, is_taken, matches

IMAGE = "europe-west4-docker.pkg.dev/PROJECT/REPOSITORY/emnist-latents:1"


@pytest.mark.parametrize("command", commands("python -m beam_job"))
def test_our_flags_and_beams_are_there(command: list[str]):
    assert parse(command[3:]).beam_flags.options is not None


def test_the_template_is_started_with_parameters_that_it_has_and_takes():
    (command,) = commands("gcloud dataflow flex-template run")
    given = dict(
        pair.split("=", 1)
        for flag in command
        if flag.startswith("--parameters=")
        for pair in flag.removeprefix("--parameters=").split(",")
    )
    required = {name for name, about in PARAMETERS.items() if not about.get("isOptional")}
    assert required <= set(given) <= set(PARAMETERS)
    for name, value in given.items():
        assert matches(name, value.replace("BUCKET", "a-bucket").replace("$IMAGE", IMAGE)), name


def test_every_example_in_a_parameters_help_is_one_that_it_takes():
    examples = {
        name: example
        for name, about in PARAMETERS.items()
        for example in re.findall(r"Example: (\S+)", about["helpText"])
    }
    assert {"output", "input", "data_dir", "model", "sdk_container_image"} == set(examples)
    assert [name for name, example in examples.items() if not matches(name, example)] == []
    assert [name for name, example in examples.items() if not is_taken(name, example)] == []
