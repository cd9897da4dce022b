"""The commands that deploy/README.md has for copying."""

import re
import shlex

from tests.support.files_of import ROOT

README = (ROOT / "deploy/README.md").read_text("utf-8")


def commands(beginning: str) -> list[list[str]]:
    """The words of every command that begins like that, top to bottom."""
    blocks = re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    given = [line.removeprefix("$ ") for line in lines]
    return [shlex.split(command) for command in given if command.startswith(beginning)]
