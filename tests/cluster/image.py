"""The Dockerfile carried out where there is no container engine: in folders that chroot enters.

Debian's own Python 3.11 stands in for the base image, python:3.11-slim-bookworm, which is the same
Debian. What is copied from images that cannot be had here is left out.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.dockerfile import ROOT, Stage, Step, stages

BASE = "python:3.11-slim-bookworm"
PACKAGES = ("python3.11", "python3.11-venv", "ca-certificates")
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
OF_THE_NETWORK = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
"""How this machine reaches the package index: as the host's files, for the time of building."""


class Image:
    """A stage as it is built. root: its file system. environment: what its processes see."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": PATH}
        self.folder = "/"
        self.user = "root"
        self.entrypoint: list[str] = []
        self.left_out: list[str] = []
        self._variables: dict[str, str] = {}

    def run(
        self, command: Sequence[str], **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command as a container of the image would, as the image's user."""
        return subprocess.run(
            self.command(command),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, command: Sequence[str]) -> list[str]:
        """A command of the image as one of the host, which has to be given the environment."""
        inside = f"cd {shlex.quote(self.folder)} && exec {shlex.join(command)}"
        return ["chroot", f"--userspec={self.user}", str(self.root), "/bin/sh", "-c", inside]

    def carry_out(self, step: Step, built: dict[str, "Image"]) -> None:
        """One instruction. built: the stages before this one."""
        argument = re.sub(r"\$\{?(\w+)\}?", self._value, step.argument)
        match step.instruction:
            case "RUN":
                self._run(step.argument)
            case "COPY":
                self._copy(argument.split(), built)
            case "ENV":
                self.environment |= dict(pair.split("=", 1) for pair in shlex.split(argument))
            case "ARG":
                self._variables |= dict([argument.split("=", 1)])
            case "USER":
                self.user = f"{argument}:{argument}"
            case "WORKDIR":
                self.folder = argument
                self._inside(argument).mkdir(parents=True, exist_ok=True)
            case "ENTRYPOINT":
                self.entrypoint = re.findall(r'"(.*?)"', argument)
            case instruction:
                raise AssertionError(f"{instruction}: not known here")

    def _value(self, variable: re.Match[str]) -> str:
        return {**self.environment, **self._variables}[variable[1]]

    def _run(self, script: str) -> None:
        index = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        index.pop("PIP_FIND_LINKS", None)  # A folder of the host's.
        done = self.run(["/bin/sh", "-c", script], **index)
        assert done.returncode == 0, f"RUN {script}\n{done.stdout}{done.stderr}"

    def _copy(self, words: list[str], built: dict[str, "Image"]) -> None:
        *sources, destination = [word for word in words if not word.startswith("--")]
        origin = ROOT
        if words[0].startswith("--from="):
            name = words[0].removeprefix("--from=")
            if name not in built:
                self.left_out += [f"{name} {source}" for source in sources]
                return
            origin = built[name].root
        target = self._inside(destination)
        for source in sources:
            here = origin / source.lstrip("/")
            if here.is_dir():
                shutil.copytree(here, target, symlinks=True, dirs_exist_ok=True)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(here, target)

    def _inside(self, path: str) -> Path:
        return self.root / os.path.join(self.folder, path).lstrip("/")  # noqa: PTH118


def build(folder: Path) -> Image:
    """Carries out the Dockerfile below an empty folder; the last stage."""
    base = folder / "base"
    _make_base(base)
    built: dict[str, Image] = {}
    for number, stage in enumerate(stages()):
        if stage.image == BASE:
            built[stage.name] = _build_stage(stage, base, folder / str(number), built)
    image = built[""]
    shutil.rmtree(built["build"].root)
    return image


def _build_stage(stage: Stage, base: Path, root: Path, built: dict[str, Image]) -> Image:
    subprocess.run(["cp", "--archive", base, root], check=True)
    image = Image(root)
    for step in stage.steps:
        image.carry_out(step, built)
    return image


def _make_base(root: Path) -> None:
    included = f"--include={','.join(PACKAGES)}"
    subprocess.run(
        ["debootstrap", "--variant=minbase", included, "bookworm", root],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
    for path in OF_THE_NETWORK:
        if Path(path).exists():
            (root / path.lstrip("/")).unlink(missing_ok=True)
            shutil.copy(path, root / path.lstrip("/"))
