"""Worker processes of Beam's local runner that are lost, or lose their launcher."""

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.torture import campaign
from tests.torture.campaign import WORKERS, Running


@pytest.fixture
def running(tmp_path: Path, random_images: np.ndarray) -> Running:
    """A compression whose workers have been started, and not called back yet."""
    np.save(tmp_path / "images.npy", random_images)
    running = Running(tmp_path, ["compress", "--input=images.npy", "--output=out", *WORKERS])
    running.wait_until(lambda: len(running.worker_processes()) == 2)
    return running


def test_a_lost_worker_fails_the_run_in_one_line(running, tmp_path):
    os.kill(running.worker_processes()[0].pid, signal.SIGKILL)
    ended = running.ended()
    assert ended.status == 1
    assert ended.said == (
        "error: a worker process ended before its work was done, because it was killed or had too "
        "little memory: run it again, with a smaller --direct_num_workers if memory is short\n"
    )
    assert running.left_processes() == []
    assert not (tmp_path / "out").exists()


def test_workers_end_with_their_launcher(running, monkeypatch):
    workers = running.worker_processes()
    os.kill(running.process.pid, signal.SIGKILL)
    assert running.ended().status == -signal.SIGKILL
    monkeypatch.setattr(campaign, "END_SECONDS", 60)
    assert running.left_processes() == []
    assert not any(
        worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers
    )
