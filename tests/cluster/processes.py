"""Servers in processes of their own: started, waited for, and taken down again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 60
"""Seconds in which a server has to answer."""


@contextlib.contextmanager
def server(
    command: Sequence[str], log: Path, answers: Callable[[], bool], **environment: str
) -> Iterator[subprocess.Popen]:
    """Runs a server with its output in `log` until the block ends; `answers` says that it is up."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        wait_until(answers, STARTS_WITHIN, f"{command[0]} answers; {log} says why not", process)
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen) -> None:
    """Kills a process, and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(
    holds: Callable[[], bool],
    seconds: float,
    what: str,
    process: subprocess.Popen | None = None,
) -> None:
    """Waits until something holds; fails when it doesn't in time, or the process has ended."""
    deadline = time.monotonic() + seconds
    while not holds():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with status {process.returncode} before: {what}")
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens on a port."""
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def start_command(
    *flags: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen:
    """Starts `python -m beam_job` with these flags."""
    return subprocess.Popen(
        [sys.executable, "-m", "beam_job", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )


def run_command(
    *flags: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = 150,
) -> subprocess.CompletedProcess:
    """Runs `python -m beam_job` with these flags to its end."""
    process = start_command(*flags, environment=environment, cwd=cwd)
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        end(process)
    return subprocess.CompletedProcess(flags, process.returncode, out, err)
