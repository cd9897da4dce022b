"""What a command takes from start to end: time, CPU and memory, with all that it starts.

`python -m benchmarks.measure COMMAND ...` prints it as JSON (needs psutil, and Linux).
"""

import contextlib
import ctypes
import json
import resource
import signal
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
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_PDEATHSIG = 1
# A look takes milliseconds of a core from an engine whose threads wait for each other.
_POLL_SECONDS = 0.25
_MEMORY_SHARE = 0.02  # Of one core, to read the memory of all processes: it takes long.
_GRACE_SECONDS = 10
_KILOBYTE = 1024


class Measurement(NamedTuple):
    """What one command took, with its descendants.

    wall_seconds: until the command itself ended. peak_bytes: exact for a process without
    descendants; else the larger of that of its largest process and of the sampled sum of PSS over
    all of them. processes: most of them seen at once. killed: how many went on for so long after
    the command's end that they had to be killed.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    processes: int
    killed: int


def measure(command: Sequence[str]) -> Measurement:
    """Runs a command to its end; if it fails, exits with its stderr.

    A small process of its own watches the command: Linux takes the peak memory of who starts a
    process as the least of that process's own, and daemons that a command leaves behind are given
    to their nearest ancestor that asks for them, so that they can be counted and ended.
    """
    watch = [sys.executable, "-m", "benchmarks.measure", *command]
    done = subprocess.run(watch, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return Measurement(**json.loads(done.stdout))


def main(command: Sequence[str]) -> None:
    """Runs a command and prints its measurement; if it fails, shows its stderr and exits."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # So that it cleans up.
    _adopt_orphans()
    with tempfile.TemporaryFile() as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
        samples = _Samples()
        try:
            exit_status = process.wait()
            wall_seconds = time.perf_counter() - started
        finally:
            killed = _end_descendants()
            samples.stop()
        if exit_status:
            stderr.seek(0)
            print(stderr.read().decode(errors="replace"), file=sys.stderr)
            sys.exit(f"exit status {exit_status} from: {' '.join(command)}")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The kernel leaves out a process that nobody waited for; samples miss the last moments.
    cpu_seconds = max(usage.ru_utime + usage.ru_stime, samples.cpu_seconds)
    peak_bytes = max(usage.ru_maxrss * _KILOBYTE, samples.peak_bytes)
    taken = Measurement(wall_seconds, cpu_seconds, peak_bytes, samples.processes, killed)
    print(json.dumps(taken._asdict()))


def _adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    # Where the benchmark is killed, this process ends too, and with it what it measures.
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def _end_descendants() -> int:
    """Waits a while for whatever still runs, then kills it; how many were killed."""
    patience_ends = time.monotonic() + _GRACE_SECONDS
    killed = set()
    while left := psutil.Process().children(recursive=True):
        if time.monotonic() > patience_ends:
            killed.update(left)
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        psutil.wait_procs(left, timeout=1)
    return len(killed)


class _Samples(threading.Thread):
    """Looks at this process's descendants again and again until it is stopped.

    PSS, since RSS would count once a process what processes share. It is read only where there are
    several; for one alone, ru_maxrss says it exactly.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.processes = 1
        self.peak_bytes = 0
        self._next_memory = 0.0
        self._cpu_seconds: dict[psutil.Process, float] = {}
        self._ended = threading.Event()
        self.start()

    @property
    def cpu_seconds(self) -> float:
        return sum(self._cpu_seconds.values())

    def run(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            descendants = psutil.Process().children(recursive=True)
            self.processes = max(self.processes, len(descendants))
            self._cpu_seconds.update(_cpu_seconds(descendants))
            if len(descendants) > 1 and time.perf_counter() > self._next_memory:
                self._add_up_memory(descendants)

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _add_up_memory(self, processes: Sequence[psutil.Process]) -> None:
        started = time.perf_counter()
        self.peak_bytes = max(self.peak_bytes, sum(map(_pss_bytes, processes)))
        ended = time.perf_counter()
        self._next_memory = ended + (ended - started) / _MEMORY_SHARE


def _cpu_seconds(processes: Sequence[psutil.Process]) -> dict[psutil.Process, float]:
    """What each has used so far; without those that ended since they were listed."""
    used = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used[process] = times.user + times.system
    return used


def _pss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # It ended since the tree was listed.
        return 0


if __name__ == "__main__":
    main(sys.argv[1:])
