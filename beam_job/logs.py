"""What is said on stderr: our own lines, and no more of Beam's than a person needs."""

import contextlib
import io
import logging
import sys
import threading
from typing import TextIO

from transforms.printable import printable_lines


def set_up_logging(*, debug: bool) -> None:
    """Our own lines and others' warnings; with `debug`, all that Beam has to say.

    Call it before Beam is imported, which warns of optional packages while it is. Imports neither
    Beam nor anything that does.
    """
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(_Printable())
    logging.basicConfig(handlers=[stderr])
    logging.getLogger("beam_job").setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.INFO if debug else logging.WARNING)
    if debug:
        return
    threading.excepthook = _tell_unless_hung_up
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_for_a_person)


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def _is_for_a_person(record: logging.LogRecord) -> bool:
    """Drops what Beam says through the root logger, and the traceback of what we raise ourselves.

    The first is of optional packages that are not installed (Google Cloud's, PyTorch); the second
    arrives as an exception too, and is told once, in one line.
    """
    from_beam = "apache_beam" in record.pathname
    optional_packages = record.name == "root" and record.levelno < logging.ERROR
    relabelled = record.levelno < logging.WARNING  # By Beam, after the logger let it through.
    servers = record.funcName == "log_stdout" or str(record.msg).startswith("Really ")  # "starting"
    # A worker process says the same on its own stderr; a failed job's message is its exception's.
    relayed = record.msg == "Worker: %s" or record.module == "portable_runner"
    told = record.getMessage()
    traceback = record.exc_info is not None or "Traceback" in told
    raised = told.startswith(
        ("HTTP error while", "Error in _start_upload")
    )  # By what S3 is used by.
    unfit = optional_packages or relabelled or servers or relayed or traceback or raised
    return not (from_beam and unfit)


def _tell_unless_hung_up(thread: threading.ExceptHookArgs) -> None:
    """Drops the tracebacks of Beam's threads that lose their stream from a runner, or a worker.

    Runners hang up at the end of a job in ways of their own: Flink cancels (CANCELLED), Prism
    forgets the worker first where a job fails (UNKNOWN). What became of the job, the runner says.
    """
    if not any(kind.__module__.startswith("grpc") for kind in thread.exc_type.__mro__):
        threading.__excepthook__(thread)


class _WithoutTracebacks(io.TextIOBase):
    """A stream that tracebacks, printed whole, don't get through."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        ends_dropped = self._dropped and text == "\n"
        self._dropped = text.startswith("Traceback (most recent call last):")
        if not (self._dropped or ends_dropped):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def printed_tracebacks_held_back() -> contextlib.AbstractContextManager:
    """Keeps out of sight what Beam's workers in this process print of an error.

    It arrives here as an exception too, and is told once, in one line; with `debug`, both are said.
    """
    if logging.getLogger().isEnabledFor(logging.INFO):
        return contextlib.nullcontext()
    return contextlib.redirect_stderr(_WithoutTracebacks(sys.stderr))
