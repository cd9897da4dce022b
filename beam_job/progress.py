"""How far the job is, while a local runner works.

The graph's last step for a batch appends eight bytes to a file, the images that it has encoded;
a thread in the launcher reads how many there are. That works with threads and with processes,
which Beam's metrics, known only at the end, do not.
"""

import logging
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

_LOG = logging.getLogger(__name__)
_RECORD = struct.Struct("<q")
_POLL_SECONDS = 0.2
_LOG_SECONDS = 15


def tick(path: str, images: int) -> None:
    """Notes that `images` more are done; safe from any thread or process of this machine.

    Where there is no room for the note, what is shown falls behind; nothing else goes by it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        with suppress(OSError):
            os.write(descriptor, _RECORD.pack(images))
    finally:
        os.close(descriptor)


class Progress:
    """Shows images done, rate and time left: a live line on a terminal, else lines now and then.

    `path` is where tick() is to write while the block runs.
    """

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total = total
        self._quiet = quiet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        descriptor, self.path = tempfile.mkstemp(prefix="emnist-progress-")
        os.close(descriptor)
        self._started = time.monotonic()
        if not self._quiet:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if not self._quiet:
            self._thread.join()
        Path(self.path).unlink()

    def _watch(self) -> None:
        watch = self._watch_live if sys.stderr.isatty() else self._watch_logging
        with Path(self.path).open("rb") as file:
            watch(lambda: sum(value for (value,) in _RECORD.iter_unpack(_whole(file.read()))))

    def _watch_live(self, newly_done: Callable[[], int]) -> None:
        with tqdm(total=self._total, unit=" images", desc="encoding", smoothing=0.1) as bar:
            while not self._stop.wait(_POLL_SECONDS):
                bar.update(newly_done())
            bar.update(newly_done())

    def _watch_logging(self, newly_done: Callable[[], int]) -> None:
        done = 0
        while not self._stop.wait(_LOG_SECONDS):
            done += newly_done()
            seconds = time.monotonic() - self._started
            left = seconds / done * (self._total - done) if done else float("nan")
            _LOG.info(
                "%s of %s images, %.0f a second, %.0f s left",
                f"{done:,}",
                f"{self._total:,}",
                done / seconds,
                left,
            )


def _whole(content: bytes) -> bytes:
    """O_APPEND writes of eight bytes arrive whole, so this cuts nothing on a local disk."""
    return content[: len(content) // _RECORD.size * _RECORD.size]
