"""A launcher that loses sight of its job; PortableRunner with Beam's own job service in Python."""

import sys
from pathlib import Path

import pytest

from tests.cluster.processes import end, free_port, is_open, server, start_command, wait_until

pytestmark = pytest.mark.long
_SECONDS = 120


def test_a_launcher_that_loses_its_connection_removes_nothing(tmp_path: Path):
    port = free_port()
    module = "apache_beam.runners.portability.local_job_service_main"
    command = [sys.executable, "-m", module, "-p", str(port)]
    with server(command, tmp_path / "log", lambda: is_open(port)) as service:
        launcher = start_command(
            *("compress", "--dataset=sample", f"--data_dir={tmp_path / 'data'}", "--quiet"),
            *(f"--output={tmp_path / 'out'}", "--shard_size=2", "--batch_size=2"),
            *("--runner=PortableRunner", f"--job_endpoint=localhost:{port}"),
            "--environment_type=LOOPBACK",
        )
        wait_until(lambda: len(notes(tmp_path)) > 2, _SECONDS, "some shards are done", launcher)
        end(service)
        said = launcher.communicate(timeout=_SECONDS)[1]
    assert launcher.returncode == 1, said
    line = said.splitlines()[-1]
    assert line.startswith("error: this process lost sight of the job, which may still be at work")
    assert "--resume continues it after the job has ended" in line
    assert "Traceback" not in said
    assert len(notes(tmp_path)) > 2


def notes(folder: Path) -> list[Path]:
    return list(folder.glob("out/_incomplete-*/notes/*/*.json"))
