"""The process around a command: what ends it."""

import shutil
import signal
from typing import Any

import numpy as np
import pytest

from beam_job import __main__ as main_module


def test_a_run_that_is_removed_before_it_is_shown_is_told(
    tmp_path, random_images, monkeypatch, capsys
):
    from beam_job import compress

    shown = compress._show

    def removed_first(*arguments: Any) -> None:
        shutil.rmtree(tmp_path / "out")
        shown(*arguments)

    monkeypatch.setattr(compress, "_show", removed_first)
    np.save(tmp_path / "images.npy", random_images)
    argv = ["compress", f"--input={tmp_path}/images.npy", f"--output={tmp_path}/out"]
    assert main_module.run(argv) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {tmp_path}/out/sizes.json could not be read (No such file or directory): it "
        "went away while the command was at work; run it again"
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
