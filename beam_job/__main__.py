"""The command line: `python -m beam_job COMMAND`, also installed as `emnist-latents`.

The exit statuses are in exit_status. Every error is one line on stderr, `error: ...`, and nothing
is on stdout then.
"""

import gc
import io
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import NoReturn

from beam_job.cli import parse
from beam_job.console import flush, tell
from beam_job.exit_status import DONE, FAILED, INTERRUPTED, WITH_REJECTS, WRONG
from beam_job.logs import set_up_logging
from transforms.errors import UsageError
from transforms.quiet import no_collection

NOT_PUBLISHED = "nothing was published"
"""What an interrupted command says that had not begun to write."""
_PATIENCE_SECONDS = 3.0
_patience = {"ends": 0.0}
"""Until when, in monotonic seconds, another interrupt says nothing new."""


def main() -> None:
    """Runs the command line and exits with its status."""
    _open_closed_streams()
    # Who ends the process by SIGTERM (a batch system, a container's end) gets a clean end too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):  # What a terminal cannot write ends no run.
        sys.stdout.reconfigure(errors="backslashreplace")
    status = run(sys.argv[1:])
    # What is done is done; by now an interrupt would only give it another exit status.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if status not in (DONE, WITH_REJECTS):
        _leave(status)
    # Python's last collection would walk all that Beam and TensorFlow made: 0.7 s for nothing.
    gc.freeze()
    sys.exit(status)


def _open_closed_streams() -> None:
    """Opens what the process was started without: else the next file would be its stdout."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free.
    # Python starts without those that were closed.
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def _leave(status: int) -> NoReturn:
    """Ends the process where threads may still compute.

    Python would end them as they come back from native code, by unwinding it; what is wrapped by
    pybind11, as ncnn is, then ends the process by SIGABRT (its issue 2215).
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # Nobody reads it any more, or it is closed.
            stream.flush()
    os._exit(status)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt; not while the last one is still being answered.

    So tidying up is not cut short by a second Ctrl-C, or by a SIGTERM that comes right behind.
    """
    now = time.monotonic()
    if now > _patience["ends"]:
        _patience["ends"] = now + _PATIENCE_SECONDS
        signal.default_int_handler(number, frame)


def run(argv: list[str]) -> int:
    """Runs one command; every error becomes one line on stderr and an exit status."""
    debug = "--debug" in argv
    set_up_logging(debug=debug)
    caught: Exception
    try:
        return _run(argv)
    except KeyboardInterrupt as interrupt:
        tell("; ".join(["interrupted", *map(str, interrupt.args or [NOT_PUBLISHED])]))
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  # The last line of defence: told in one line.
        caught, (status, line) = error, _told(error)
    if debug:
        tell(*"".join(traceback.format_exception(caught)).rstrip().split("\n"))
    tell(f"error: {line}")
    return status


def _run(argv: list[str]) -> int:
    _check_interpreter()
    command, options, beam_flags = parse(argv)
    _pass_proxies_by()
    # Imported late: --help and a wrong flag need neither Beam nor NumPy. What is imported stays, so
    # looking for garbage in it is a waste; see no_collection.
    with no_collection():
        run_command = import_module(command.module).run
    status: int = run_command(options, beam_flags)
    flush()
    return status


def _check_interpreter() -> None:
    """Raises UsageError where Python cannot run this program, whatever the command."""
    if sys.flags.optimize > 1:
        raise UsageError(
            "python -OO (PYTHONOPTIMIZE=2) takes docstrings away, and Beam and Keras need theirs: "
            "run it without"
        )
    try:
        import fcntl  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            "this program runs on Linux and macOS, and this system has no fcntl: on Windows use "
            "WSL 2, or the container image"
        ) from error


def _pass_proxies_by() -> None:
    """No proxy leads to this machine itself, where a job service may be, or an emulator."""
    for name in ("no_proxy", "NO_PROXY"):
        listed = [os.environ[name]] if os.environ.get(name) else []
        os.environ[name] = ",".join([*listed, "localhost", "127.0.0.1", "::1"])


def _told(error: Exception) -> tuple[int, str]:
    """Exit status and line of an error: WRONG where the user has to change something."""
    from transforms.errors import FileSystemError, InputError, JobError

    if isinstance(error, JobError):
        return WRONG if isinstance(error, InputError) else FAILED, str(error)
    said = " ".join(str(error).split())  # Libraries say things in several lines.
    if isinstance(error, FileSystemError):
        return WRONG, f"{said}: give paths that exist, on a file system that is set up"
    if isinstance(error, OSError) and error.filename is not None:
        if not isinstance(error, FileNotFoundError):
            return WRONG, (
                f"{error.filename} cannot be used ({error.strerror}): give another path, or let it "
                "be used"
            )
        return FAILED, (
            f"{error.filename} could not be read ({error.strerror}): it went away while the "
            "command was at work; run it again"
        )
    return FAILED, (
        f"unexpected {type(error).__name__}: {said}; run it again with --debug and report it"
    )


if __name__ == "__main__":
    main()
