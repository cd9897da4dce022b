"""The process around a command: what ends it."""

import signal

import pytest

from beam_job import __main__ as main_module


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
