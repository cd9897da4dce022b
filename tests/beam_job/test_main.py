"""The process around a command: what ends it."""

import errno
import signal
import subprocess
import sys

import pytest

from beam_job import __main__ as main_module


def test_a_file_that_went_away_is_told():
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "out/labels.npy")
    status, line = main_module._told(error)
    assert status == 1
    assert line == (
        "out/labels.npy could not be read (No such file or directory): it went away while the "
        "command was at work; run it again"
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR])
def test_a_file_that_cannot_be_used_is_told(number):
    status, line = main_module._told(OSError(number, "why", "out"))
    assert (status, line) == (
        2,
        "out cannot be used (why): give another path, or let it be used",
    )


def test_a_second_interrupt_does_not_cut_short_how_the_first_is_answered(monkeypatch):
    now = 100.0
    monkeypatch.setattr(main_module, "_patience", {"ends": 0.0})
    monkeypatch.setattr(main_module.time, "monotonic", lambda: now)
    with pytest.raises(KeyboardInterrupt):
        main_module._interrupt(signal.SIGTERM, None)
    now += 2.9
    main_module._interrupt(signal.SIGINT, None)
    now += 0.2
    with pytest.raises(KeyboardInterrupt):
        main_module._interrupt(signal.SIGINT, None)


COMPUTING_AT_ITS_END = """
import threading, time
from pathlib import Path
import numpy as np
from beam_job import __main__
from transforms.models import ncnn_engine
from transforms.models.keras_file import read_layers
from transforms.models.directory import find_model

content = Path(find_model(None).encoder).read_bytes()
network = ncnn_engine._loaded(ncnn_engine.translate(read_layers(content)))

def compute():
    while True:
        ncnn_engine._computed(network, np.zeros((1, 28, 28), np.float32))

for _ in range(2):
    threading.Thread(target=compute, daemon=True).start()
time.sleep(0.3)
__main__.run = lambda argv: 130
__main__.main()
"""
"""Interrupted while a worker's thread is in native code, which nothing can wait for."""


def test_an_interrupt_does_not_end_native_code_under_its_hands():
    done = subprocess.run(
        [sys.executable, "-c", COMPUTING_AT_ITS_END], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")
