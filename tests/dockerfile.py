"""Reading the Dockerfile."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy/Dockerfile"


class Step(NamedTuple):
    """One instruction: `COPY`, `--from=build /opt/venv /opt/venv`."""

    instruction: str
    argument: str


class Stage(NamedTuple):
    """What begins with a FROM. name: that behind AS, or empty."""

    image: str
    name: str
    steps: list[Step]


def stages() -> list[Stage]:
    """The stages of the Dockerfile, in order."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    found: list[Stage] = []
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        step = Step(*line.split(maxsplit=1))
        if step.instruction == "FROM":
            image, _, name = step.argument.partition(" AS ")
            found.append(Stage(image, name, []))
        else:
            found[-1].steps.append(step)
    return found
