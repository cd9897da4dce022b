"""The command line: `python -m beam_job COMMAND`, also installed as `emnist-latents`.

Exit status:

0    done
1    the run failed; of `verify`: it is not whole
2    wrong use or input: a flag, a file, a model, an output; nothing was done
3    done, and complete, with rejects: of `compress` with --max_rejects=N, where some images, and no
     more than N, could not be read; with --no_wait nobody is there to see, and it is 0
130  interrupted, by Ctrl-C or SIGTERM

Every error is one line on stderr, `error: ...`, and nothing is on stdout then.
"""

import gc
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

from beam_job import options
from beam_job.lines import tell
from beam_job.logs import set_up_logging
from beam_job.options import DONE, FAILED, INTERRUPTED, WITH_REJECTS, WRONG
from transforms.quiet import no_collection

NOT_PUBLISHED = "nothing was published"
"""What an interrupted command says that had not begun to write."""
_PATIENCE_SECONDS = 3.0
_patience = {"ends": 0.0}
"""Until when, in monotonic seconds, another interrupt says nothing new."""


def main() -> None:
    """Runs the command line and exits with its status."""
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
    except options.UsageError as error:
        caught, status, line = error, WRONG, str(error)
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
    settings, beam_flags = options.parse(argv)
    # Imported late: --help and a wrong flag need neither Beam nor NumPy. What is imported stays, so
    # looking for garbage in it is a waste; see no_collection.
    with no_collection():
        command = _command(settings)
    return command(settings, beam_flags)


def _command(settings: options.Options) -> Callable[[Any, list[str]], int]:
    """What runs a command; only what it needs is imported."""
    if isinstance(settings, (options.TrainOptions, options.EvaluateOptions)):
        from beam_job.preflight import check_evaluation, check_training

        if isinstance(settings, options.TrainOptions):
            check_training(settings)
        else:
            check_evaluation(settings)
        from transforms.autoencoder import import_keras

        import_keras()  # Quietly, before the modules that are made of it.
    run_command = import_module(_MODULES[type(settings)]).run
    if isinstance(settings, (options.CompressOptions, options.ReconstructOptions)):
        return run_command  # type: ignore[no-any-return]
    return lambda settings, _: run_command(settings)


_MODULES = {
    options.CompressOptions: "beam_job.compress",
    options.EvaluateOptions: "beam_job.evaluate",
    options.ReconstructOptions: "beam_job.reconstruct",
    options.ReportOptions: "beam_job.report_command",
    options.StageOptions: "beam_job.stage",
    options.TrainOptions: "beam_job.train",
    options.VerifyOptions: "beam_job.verify",
}


def _told(error: Exception) -> tuple[int, str]:
    """Exit status and line of an error: WRONG where the user has to change something."""
    from transforms.errors import InputError, JobError
    from transforms.storage.errors import FileSystemError

    if isinstance(error, JobError):
        return WRONG if isinstance(error, InputError) else FAILED, str(error)
    said = " ".join(str(error).split())  # Libraries say things in several lines.
    if isinstance(error, FileSystemError):
        return WRONG, f"{said}: give paths that exist, on a file system that is set up"
    if isinstance(error, OSError) and error.filename is not None:
        return FAILED, (
            f"{error.filename} could not be read ({error.strerror}): it went away while the "
            "command was at work; run it again"
        )
    return FAILED, (
        f"unexpected {type(error).__name__}: {said}; run it again with --debug and report it"
    )


if __name__ == "__main__":
    main()
