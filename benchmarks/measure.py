"""What a process takes from start to end: time, CPU and memory."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

_ROOT = Path(__file__).parent.parent
_POLL_SECONDS = 0.02
_KILOBYTE = 1024


class Measurement(NamedTuple):
    """What one process took, with its descendants.

    peak_bytes: exact for a process without descendants; else the larger of that of its largest
    process and of the sampled sum of PSS over the tree. processes: most of them seen at once.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    processes: int


def measure(command: Sequence[str]) -> Measurement:
    """Runs a command to its end; if it fails, shows its stderr and exits.

    Linux takes the caller's own peak memory as the least of its child's, so that has to be small.
    """
    with tempfile.TemporaryFile() as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, cwd=_ROOT)
        tree = _Tree(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.perf_counter() - started
        tree.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            stderr.seek(0)
            print(stderr.read().decode(errors="replace"), file=sys.stderr)
            sys.exit(f"exit status {process.returncode} from: {' '.join(command)}")
    return Measurement(
        wall_seconds,
        usage.ru_utime + usage.ru_stime,
        max(usage.ru_maxrss * _KILOBYTE, tree.peak_pss_bytes),
        tree.processes,
    )


class _Tree(threading.Thread):
    """Samples a process tree until it is stopped.

    PSS, since RSS would count once a process what a fork shares with its parent. It takes 2 ms to
    read, so it is read only where there are descendants; without, ru_maxrss says it exactly.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.processes = 1
        self.peak_pss_bytes = 0
        self._root = psutil.Process(pid)
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            try:
                descendants = self._root.children(recursive=True)
            except psutil.NoSuchProcess:
                return
            if descendants:
                self.processes = max(self.processes, 1 + len(descendants))
                pss_bytes = sum(map(_pss_bytes, [self._root, *descendants]))
                self.peak_pss_bytes = max(self.peak_pss_bytes, pss_bytes)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _pss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:  # It ended since the tree was listed.
        return 0
