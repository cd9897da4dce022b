"""Readers with faults, which the harness has to find: the input with an `x` in it sets them off."""

import os
import signal
import time
import warnings
from pathlib import Path

from tests.campaigns.mutations import Reader
from transforms.errors import InputError

_kept: list[bytearray] = []


def _raises(_: Path) -> None:
    raise KeyError("a name")


def _refuses(_: Path) -> None:
    raise InputError("is none")


def _hangs(_: Path) -> None:
    time.sleep(60)


def _dies(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _eats(_: Path) -> None:
    _kept.append(bytearray(b"x") * (1200 << 20))


def _warns(_: Path) -> None:
    warnings.warn("beware", stacklevel=1)


def _rambles(_: Path) -> None:
    raise InputError("x" * 3000)


def _trespasses(folder: Path) -> None:
    (folder.parent / "other").write_bytes(b"")


def _planted(fault, **settings) -> Reader:
    def read(content: bytes, folder: Path) -> None:
        if b"x" in content:
            fault(folder)

    return Reader(
        lambda: [b"a valid input"], read, lambda r, _: r.choice((b"a", b"b", b"x")), **settings
    )


READERS = {
    "raises": _planted(_raises),
    "refuses": _planted(_refuses),
    "hangs": _planted(_hangs),
    "dies": _planted(_dies),
    "dies apart": _planted(_dies, contained=True),
    "eats": _planted(_eats),
    "warns": _planted(_warns),
    "rambles": _planted(_rambles),
    "trespasses": _planted(_trespasses),
}
