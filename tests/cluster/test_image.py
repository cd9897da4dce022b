"""The image as podman builds it of the Dockerfile; image.py says what stands in for what."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.cluster.google import Cloud
from tests.cluster.image import NAME, Podman
from tests.cluster.launcher import LABELS, launcher_flags
from tests.deploy.readme import commands
from tests.support.files_of import ROOT

pytestmark = pytest.mark.image


def versions(pins: list[str]) -> dict[str, str]:
    """Of NAME==VERSION: versions by name."""
    return {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)}


LOCKED = versions(
    re.findall(r"^[\w.-]+==[^\s;]+", (ROOT / "deploy/requirements.txt").read_text(), re.MULTILINE)
)


def test_it_starts_beams_boot_as_no_root(podman: Podman):
    (about,) = json.loads(podman("image", "inspect", NAME))
    assert about["Config"]["Entrypoint"] == ["/opt/apache/beam/boot"]
    assert about["Config"]["User"] == "10001"
    assert podman.in_image("id", "-u") == "10001\n"


def test_it_is_small(podman: Podman):
    """TensorFlow for GPUs would add 0.6 GB, its headers 0.3 GB."""
    (about,) = json.loads(podman("image", "inspect", NAME))
    assert about["Size"] < 2.8e9
    left = "ls -d /source /wheel /requirements.txt /root/.cache /tmp/* 2> /dev/null || true"
    assert podman.in_image("sh", "-c", left, flags=["--user=0"]) == ""


def test_what_is_in_it_is_what_is_locked(podman: Podman):
    listed = podman.in_image("python", "-m", "pip", "list", "--format=freeze").split()
    installed = versions(listed)
    assert {installed.pop("emnist-latents"), installed.pop("pip")}  # Ours, and the base image's.
    assert installed == LOCKED
    checked = podman.run("run", "--rm", "--entrypoint=pip", NAME, "check")
    (complaint,) = checked.stdout.splitlines()
    assert re.fullmatch(
        r"emnist-latents \S+ requires tensorflow, which is not installed.", complaint
    )


@pytest.mark.parametrize(
    ("engine", "flags"),
    [
        ("ncnn", []),
        ("tensorflow", ["--engine=tensorflow"]),
        ("litert", ["--precision=int8"]),
    ],
)
def test_the_job_runs_in_it_with_every_engine(
    podman: Podman, tmp_path: Path, engine: str, flags: list[str]
):
    tmp_path.chmod(0o777)
    job = ["compress", "--dataset=sample", "--output=/out/run", "--quiet"]
    podman.in_image("emnist-latents", *job, *flags, flags=[f"--volume={tmp_path}:/out"])
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["model"]["engine"] == engine
    assert manifest["versions"]["tensorflow"] == LOCKED["tensorflow-cpu"]
    assert {split: seen["written"] for split, seen in manifest["dataset"]["splits"].items()} == {
        "train": 1500,
        "test": 297,
    }
    assert (tmp_path / "run/manifest.json").stat().st_uid == 10001


def test_its_user_can_write_where_dataflow_has_it_write_and_not_to_the_code(podman: Podman):
    podman.in_image("touch", "/var/log/dataflow/template_launcher/f", "/var/opt/google/f", "/tmp/f")
    code = "/usr/local/lib/python3.11/site-packages/beam_job/f"
    assert podman.run("run", "--rm", "--entrypoint=touch", NAME, code).returncode == 1


def test_the_readmes_commands_build_and_run_it_and_one_that_is_root(podman: Podman):
    image = "registry.example/project/emnist-latents:1"
    for _docker, *words in [*commands("docker build"), *commands("docker run --rm")]:
        podman(*(word.replace("$IMAGE", image) for word in words))
    assert podman("run", "--rm", "--entrypoint=id", f"{image}-root", "-u") == "0\n"


def test_the_template_starts_in_it(podman: Podman, cloud: Cloud):
    (about,) = json.loads(podman("image", "inspect", NAME))
    variables = dict(line.split("=", 1) for line in about["Config"]["Env"])
    main = variables["FLEX_TEMPLATE_PYTHON_PY_FILE"]
    given = [
        "--dataset=sample",
        "--data_dir=gs://bucket/data",
        "--output=gs://bucket/from-image",
        "--engine=ncnn",
        "--sdk_container_image=europe-docker.pkg.dev/project/repository/emnist-latents:1",
    ]
    printed = podman.in_image(
        "python", main, *given, *launcher_flags("image"), LABELS, flags=environment_flags(cloud)
    )
    assert printed.startswith("submitted: gs://bucket/from-image is complete when")
    assert any(path.endswith("/job_object") for path in cloud.read("staging-image"))


def test_its_entrypoint_is_a_worker_pool_where_that_is_asked_for(podman: Podman):
    """In a network of its own, as there is no flag for another port."""
    with running(podman, "pool", "--network=none", NAME, "--worker_pool") as pool:
        connect = "import socket; socket.create_connection(('localhost', 50000))"
        until(lambda: podman.run("exec", "pool", "python", "-c", connect).returncode == 0, pool)


def test_its_boot_starts_the_workers_of_a_pool(podman: Podman, cloud: Cloud):
    """Launcher and workers are containers that share nothing but the bucket."""
    port = free_port()
    start = [
        "--entrypoint=python",
        NAME,
        "-m",
        "apache_beam.runners.worker.worker_pool_main",
        f"--service_port={port}",
        "--container_executable=/opt/apache/beam/boot",
    ]
    job = [
        "compress",
        "--dataset=sample",
        "--data_dir=gs://bucket/data",
        "--output=gs://bucket/from-pool",
        "--runner=PortableRunner",
        "--job_endpoint=embed",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{port}",
    ]
    with running(podman, "pool", *environment_flags(cloud), *start) as pool:
        until(lambda: is_listening(port), pool)
        podman.in_image("emnist-latents", *job, flags=environment_flags(cloud))
    written = cloud.read("from-pool")
    manifest = json.loads(written["from-pool/manifest.json"])
    assert manifest["model"]["engine"] == "tensorflow"
    assert sum(split["written"] for split in manifest["dataset"]["splits"].values()) == 1797


@contextmanager
def running(podman: Podman, name: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """`podman run ARGUMENTS` for as long as the block lasts."""
    command = podman.command("run", "--rm", f"--name={name}", *arguments)
    with subprocess.Popen(command, env=podman.environment) as process:
        try:
            yield process
        finally:
            podman.run("stop", "--time=5", name)


def until(is_so: Callable[[], bool], process: subprocess.Popen) -> None:
    """Waits for something that a process brings about; fails where it ends, or takes a minute."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def environment_flags(cloud: Cloud) -> list[str]:
    """Flags that give a container the environment of a machine of Google's."""
    return [f"--env={name}={value}" for name, value in cloud.environment.items()]
