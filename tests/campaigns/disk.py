"""Makes each step of this process on a disk a point of the scheduler, by Python's audit events.

Whatever code asks the operating system below a folder, by whichever function, is seen here.
"""

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.campaigns.scheduler import Scheduler

_BY_PATH = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rmdir", "os.remove")
_BY_PAIR = ("os.rename", "os.link")
_BELOW = ("os.rmdir", "os.remove")
"""What shutil.rmtree asks by the name within a folder that it has open."""

_stat = os.stat
_watch: list[tuple[Scheduler, str]] = []
"""The scheduler and its folder, while there is one: an audit hook cannot be taken away."""


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watch:
        return
    scheduler, folder = _watch[-1]
    if scheduler.current is None:
        return
    if event in _BY_PAIR:
        _point(scheduler, folder, event, os.fspath(args[0]), os.fspath(args[1]))
    elif event in _BY_PATH and isinstance(args[0], (str, os.PathLike)):
        path = os.fspath(args[0])
        if event in _BELOW and isinstance(args[1], int) and args[1] >= 0:
            scheduler.point(event.removeprefix("os."), f".../{path}")
        elif event != "open" or not _is_folder(path):  # A folder is opened to sync it.
            _point(scheduler, folder, event, path)
    elif event == "os.truncate" and isinstance(args[0], int):
        scheduler.point("truncate", "")
    elif event == "fcntl.flock" and args[1] == fcntl.LOCK_EX:
        file = f"/proc/self/fd/{args[0]}"  # It may have been renamed, or removed.
        scheduler.point("flock", str(Path(file).readlink()))
        while not _is_free(file):
            scheduler.wait(lambda: _is_free(file))


def _point(scheduler: Scheduler, folder: str, event: str, *paths: str) -> None:
    if any(path.startswith(folder) for path in paths):
        shown = " -> ".join(path.removeprefix(folder) for path in paths)
        scheduler.point(event.removeprefix("os."), shown)


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(_stat(path).st_mode)
    except OSError:
        return False


def _is_free(path: str) -> bool:
    """Whether nobody holds the lock of a file."""
    watched = _watch.pop()
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
        _watch.append(watched)


sys.addaudithook(_hook)


@contextmanager
def watched(scheduler: Scheduler, folder: str) -> Iterator[None]:
    """Makes steps below a folder points of a scheduler."""

    def pointed(path: Any, *args: Any, **named: Any) -> Any:
        if scheduler.current is not None and isinstance(path, (str, os.PathLike)):
            _point(scheduler, folder, "stat", os.fspath(path))
        return _stat(path, *args, **named)

    watch: tuple[Scheduler, str] = (scheduler, folder)
    _watch.append(watch)
    os.stat = pointed  # type: ignore[assignment]
    try:
        yield
    finally:
        os.stat = _stat
        _watch.remove(watch)
