import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

from beam_job import progress
from beam_job.progress import Progress, tick
from tests.conftest import RUNNER


def test_a_terminal_shows_a_live_line(tmp_path: Path, idx_file: Path):
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    argv = ["compress", f"--input={idx_file}", f"--output={tmp_path}/out", f"--runner={RUNNER}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "beam_job", *argv], stderr=terminal, stdout=subprocess.DEVNULL
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(controller, 4096)
        except OSError:  # The other end is closed.
            break
    os.close(controller)
    assert process.wait() == 0
    last = shown.decode().split("\r")
    assert any("encoding: 100%" in line and "40/40" in line for line in last), shown
    assert b"oneDNN" not in shown, "TensorFlow's notes stay out of sight"
    assert b"cuda" not in shown


def test_without_a_terminal_lines_come_now_and_then(caplog, monkeypatch):
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.05)
    with caplog.at_level(logging.INFO, "beam_job"), Progress(1_000, quiet=False) as shown:
        threads = [threading.Thread(target=tick, args=(shown.path, 25)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while "500 of 1,000 images" not in caplog.text:
            shown._stop.wait(0.01)
    assert "a second" in caplog.text
    assert "left" in caplog.text
    assert not Path(shown.path).exists()


def test_quiet_says_nothing(capfd, caplog, monkeypatch):
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.01)
    with Progress(10, quiet=True) as shown:
        tick(shown.path, 10)
    assert not Path(shown.path).exists()
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
