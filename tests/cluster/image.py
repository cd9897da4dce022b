"""The image of deploy/Dockerfile, built and run by podman where no registry is reached.

The images that the Dockerfile starts from have stand-ins of the same names: Debian's own Python,
laid out as python:3.11-slim-bookworm has its, which is the same Debian; Beam's boot, built from its
Go module; for Google's launcher of templates, which is not to be had as source, an empty file.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.files_of import ROOT

DOCKERFILE = ROOT / "deploy/Dockerfile"
NAME = "emnist-latents"
NEEDED = ("podman", "runc", "mmdebstrap", "go")
# How this machine reaches the package index, lent to the build.
LENT = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")


def missing() -> str | None:
    """Why the image can't be built here, if it can't."""
    if os.geteuid() != 0:
        return "builds an image, for which it has to be root"
    absent = [name for name in NEEDED if shutil.which(name) is None]
    return f"builds an image, and there is no {' nor '.join(absent)}" if absent else None


class Podman:
    """A container engine whose images and containers all lie in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Works without systemd, and where even root may not raise limits, as in a sandbox.
        limits = '["nofile=4096:4096", "nproc=4096:4096"]'
        self._settings = folder / "containers.conf"
        self._settings.write_text(
            f'[containers]\nnetns = "host"\ndefault_ulimits = {limits}\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
        )

    def command(self, *arguments: str | Path) -> list[str]:
        """A command of podman's; run it with `environment`."""
        places = [f"--root={self.folder}/images", f"--runroot={self.folder}/run"]
        return ["podman", *places, "--storage-driver=overlay", *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        """What podman's settings are found by."""
        return {**os.environ, "CONTAINERS_CONF": str(self._settings)}

    def __call__(self, *arguments: str | Path) -> str:
        """Runs a command of podman's; what it prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"podman {arguments}\n{done.stdout}{done.stderr}"
        return done.stdout

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs a command of podman's that may fail."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def remove(self) -> None:
        """Ends all containers, and removes all that was built."""
        self("rm", "--all", "--force", "--time=0")
        subprocess.run(["umount", self.folder / "images/overlay"], check=False)  # If it is mounted.
        shutil.rmtree(self.folder)

    def in_image(self, *command: str | Path, flags: Sequence[str] = ()) -> str:
        """Runs a command in a fresh container of the image, as its user; what it prints."""
        entrypoint, *arguments = command
        return self("run", "--rm", *flags, f"--entrypoint={entrypoint}", NAME, *arguments)


def build(podman: Podman) -> None:
    """Builds the stand-ins, and the image of them."""
    images = re.findall(r"^FROM (\S+:\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    beam, template, python = images
    _stand_in(podman, podman.folder / "beam", f"docker.io/{beam}", _beam)
    _stand_in(podman, podman.folder / "template", template, _template)
    _stand_in(podman, podman.folder / "python", f"docker.io/library/{python}", _python)
    build_image(podman, NAME)


def build_image(podman: Podman, tag: str, *flags: str) -> None:
    """Builds the Dockerfile; what was built before is not built again."""
    lent = [f"--volume={path}:{path}:ro" for path in LENT if Path(path).exists()]
    given = ["--quiet", "--network=host", "--pull-never", *lent, *flags]
    podman("build", *given, f"--file={DOCKERFILE}", f"--tag={tag}", ROOT)


def _stand_in(podman: Podman, folder: Path, name: str, fill) -> None:
    folder.mkdir()
    (folder / "Dockerfile").write_text(fill(folder, name))
    podman("build", "--quiet", f"--tag={name}", folder)


def _beam(folder: Path, name: str) -> str:
    version = name.rpartition(":")[2]
    subprocess.run(
        ["go", "install", f"github.com/apache/beam/sdks/v2/python/container@v{version}"],
        env={**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"},
        check=True,
        capture_output=True,
    )
    (folder / "container").rename(folder / "boot")
    for licence in ("LICENSE", "NOTICE"):
        (folder / licence).touch()
    return "FROM scratch\nCOPY boot LICENSE NOTICE /opt/apache/beam/\n"


def _template(folder: Path, _: str) -> str:
    (folder / "python_template_launcher").touch()
    return "FROM scratch\nCOPY python_template_launcher /opt/google/dataflow/\n"


def _python(folder: Path, _: str) -> str:
    packages = "--include=python3.11,python3.11-venv,ca-certificates"
    target = str(folder / "debian.tar")
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", target], check=True
    )
    return "FROM scratch\nADD debian.tar /\nRUN python3.11 -m venv /usr/local\n"
