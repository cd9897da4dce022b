"""A standalone Flink cluster of three machines: a JobManager, and two TaskManagers with workers."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.request import urlopen

import yaml

from tests.cluster.processes import ROOT, is_open, server, wait_until
from tests.cluster.runners.network import Machine, machine

FLINK_VERSION = ".".join(version("apache-flink-libraries").split(".")[:2])
"""Major and minor, as `--flink_version` has it."""

POOL_PORT = 50000
"""Of the pool of Python workers on each TaskManager's machine."""

_REST_PORT = 8081
_DISTRIBUTION = Path(sysconfig.get_path("purelib")) / "pyflink"
_CONFIGURATION = ROOT / "deploy/flink/config.yaml"


class FlinkCluster:
    """A running cluster; `folder` holds its configuration and logs."""

    def __init__(self, folder: Path, disk: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._disk = disk
        self._stack = stack
        self._settings = yaml.safe_load(_CONFIGURATION.read_text())
        self._task_managers: list[tuple[Machine, subprocess.Popen]] = []
        self._job_manager = stack.enter_context(machine(2, disk))
        self.master = f"{self._job_manager.address}:{_REST_PORT}"
        entry_point = "entrypoint.StandaloneSessionClusterEntrypoint"
        self._start("jobmanager", self._job_manager, entry_point, "GET_JM_RESOURCE_PARAMS")
        for number in range(2):
            self._add_machine(number)

    def _add_machine(self, number: int) -> None:
        made = self._stack.enter_context(machine(3 + number, self._disk))
        module = "apache_beam.runners.worker.worker_pool_main"
        pool = made.command(sys.executable, "-m", module, f"--service_port={POOL_PORT}")
        log = self._folder / f"pool-{number}.log"
        answers = lambda: is_open(POOL_PORT, made.address)  # noqa: E731  # Of this machine.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # It starts `python`.
        self._stack.enter_context(server(pool, log, answers, PATH=path))
        self._task_managers.append((made, self._start_task_manager(number, made)))

    def _start_task_manager(self, number: int, on: Machine) -> subprocess.Popen:
        there = self.count_task_managers()
        process = self._start(
            f"taskmanager-{number}",
            on,
            "taskexecutor.TaskManagerRunner",
            "GET_TM_RESOURCE_PARAMS",
        )
        wait_until(lambda: self.count_task_managers() > there, 60, "a TaskManager more", process)
        return process

    def _start(self, name: str, on: Machine, entry_point: str, memory: str) -> subprocess.Popen:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        addresses = {
            "jobmanager.rpc.address": self._job_manager.address,
            "jobmanager.bind-host": "0.0.0.0",
            "rest.address": self._job_manager.address,
            "rest.bind-address": "0.0.0.0",
            "taskmanager.host": on.address,
            "taskmanager.bind-host": "0.0.0.0",
        }
        (folder / "config.yaml").write_text(yaml.safe_dump({**self._settings, **addresses}))
        shutil.copy(Path(__file__).with_name("log4j.properties"), folder)
        command = on.command(*self._java(folder, entry_point, memory))
        answers = self.answers if name == "jobmanager" else lambda: True
        return self._stack.enter_context(server(command, folder / "log", answers))

    def _java(self, folder: Path, entry_point: str, memory: str) -> list[str]:
        """The command of a part of Flink, as its start scripts build it.

        They aren't among apache-flink-libraries, but what works out the memory for them is.
        """
        tool = ["java", "-cp", f"{_DISTRIBUTION}/bin/bash-java-utils.jar:{_DISTRIBUTION}/lib/*"]
        configuration = ["--configDir", str(folder)]
        worked_out = subprocess.run(
            [*tool, "org.apache.flink.runtime.util.bash.BashJavaUtils", memory, *configuration],
            check=True,
            capture_output=True,
            text=True,
        )
        lines = re.findall(r"^BASH_JAVA_UTILS_EXEC_RESULT:(.*)$", worked_out.stdout, re.MULTILINE)
        for_java, for_flink = (shlex.split(line) for line in lines)
        return [
            "java",
            *self._settings["env.java.opts.all"].split(),
            f"-Dlog4j.configurationFile=file:{folder}/log4j.properties",
            *for_java,
            "-cp",
            f"{_DISTRIBUTION}/lib/*",
            f"org.apache.flink.runtime.{entry_point}",
            *configuration,
            *for_flink,
        ]

    def kill_task_manager(self, number: int) -> None:
        """Ends a TaskManager at once; its machine, and the workers there, stay."""
        _, process = self._task_managers[number]
        process.kill()
        process.wait()

    def replace_task_manager(self, number: int) -> None:
        """Starts a TaskManager again where one was killed."""
        wait_until(lambda: self.count_task_managers() == 1, 60, "the TaskManager is missed")
        on, _ = self._task_managers[number]
        self._task_managers[number] = (on, self._start_task_manager(number, on))

    def get(self, path: str) -> Mapping:
        """What the cluster's REST interface answers."""
        with urlopen(f"http://{self.master}/{path}", timeout=10) as answer:
            found: Mapping = json.load(answer)
            return found

    def answers(self) -> bool:
        try:
            return "flink-version" in self.get("v1/config")
        except OSError:
            return False

    def count_task_managers(self) -> int:
        return len(self.get("taskmanagers")["taskmanagers"])

    def last_job(self) -> Mapping:
        jobs = self.get("jobs/overview")["jobs"]
        return self.get(f"jobs/{max(jobs, key=lambda job: job['start-time'])['jid']}")

    def shuffled_bytes(self) -> int:
        """What the tasks of the last job sent to each other."""
        return sum(vertex["metrics"]["write-bytes"] for vertex in self.last_job()["vertices"])

    def failures_of_last_job(self) -> list[str]:
        """What made the last job start again, by exception."""
        history = self.get(f"jobs/{self.last_job()['jid']}/exceptions")["exceptionHistory"]
        return [entry["exceptionName"] for entry in history["entries"]]


@contextlib.contextmanager
def flink_cluster(folder: Path, disk: Path) -> Iterator[FlinkCluster]:
    """Brings up a cluster, with deploy/flink/config.yaml, in the network of this process.

    folder: for configuration and logs. disk: a folder that is another one on each machine.
    """
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        yield FlinkCluster(folder, disk, stack)
