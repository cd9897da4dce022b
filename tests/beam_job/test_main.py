"""The process around a command: what ends it."""

import errno
import signal

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
