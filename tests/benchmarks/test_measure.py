import sys
import time

import psutil
import pytest

from benchmarks.measure import measure

pytestmark = pytest.mark.long

MEGABYTE = 1024 * 1024
# Leaves a daemon in a session of its own, which writes its number, fills memory and computes.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        filled = bytearray(os.urandom(1024)) * (200 * 1024)
        while time.process_time() < 1:
            pass
        time.sleep(float(sys.argv[2]))
    os._exit(0)
os.wait()
time.sleep(2.5)
"""


@pytest.mark.parametrize(("seconds", "killed"), [(0.5, 0), (600, 1)])
def test_a_daemon_is_counted_and_ended(tmp_path, seconds, killed):
    number = tmp_path / "number"
    started = time.perf_counter()
    taken = measure([sys.executable, "-c", DAEMON, str(number), str(seconds)])
    assert not psutil.pid_exists(int(number.read_text()))
    assert 2.5 < taken.wall_seconds < time.perf_counter() - started
    assert taken.cpu_seconds >= 1
    assert 200 * MEGABYTE < taken.peak_bytes < 400 * MEGABYTE
    assert taken.killed == killed


def test_the_peak_of_one_process_is_its_own_and_not_the_callers():
    held = bytearray(b"1") * (400 * MEGABYTE)
    taken = measure([sys.executable, "-c", f"bytearray(b'1') * {100 * MEGABYTE}"])
    assert 100 * MEGABYTE < taken.peak_bytes < 200 * MEGABYTE < len(held)
    assert (taken.processes, taken.killed) == (1, 0)


def test_a_command_that_fails_ends_the_benchmark(capfd):
    with pytest.raises(SystemExit):
        measure([sys.executable, "-c", "raise ValueError('the cause')"])
    assert "the cause" in capfd.readouterr().err
