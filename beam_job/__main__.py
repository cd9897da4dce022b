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
from types import FrameType
from typing import Any, NoReturn

from beam_job import options
from beam_job.lines import tell
from beam_job.logs import set_up_logging
from beam_job.options import DONE, FAILED, INTERRUPTED, WITH_REJECTS, WRONG
from transforms.quiet import no_collection

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
        tell("; ".join(["interrupted", _published_or_not(argv), *map(str, interrupt.args)]))
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  # The last line of defence: told in one line.
        caught, (status, line) = error, _told(error)
    if debug:
        tell(*"".join(traceback.format_exception(caught)).rstrip().split("\n"))
    tell(f"error: {line}")
    return status


def _published_or_not(argv: list[str]) -> str:
    publishing = sys.modules.get("beam_job.publishing")  # Without it nothing has been.
    flag = "--data_dir" if argv[:1] == ["stage"] else "--output"
    is_published = publishing is not None and publishing.is_known_published(flag)
    return "what it writes had been published" if is_published else "nothing was published"


def _run(argv: list[str]) -> int:
    settings, beam_flags = options.parse(argv)
    # Imported late: --help and a wrong flag need neither Beam nor NumPy. What is imported stays, so
    # looking for garbage in it is a waste; see no_collection.
    with no_collection():
        command = _command(settings)
    return command(settings, beam_flags)


def _command(settings: options.Options) -> Callable[[Any, list[str]], int]:
    """What runs a command; only what it needs is imported."""
    if isinstance(settings, options.StageOptions):
        from beam_job import stage

        return lambda settings, _: stage.run(settings)
    if isinstance(settings, options.TrainOptions):
        from beam_job.preflight import check_training

        check_training(settings)
        from transforms.autoencoder import import_keras

        import_keras()  # Quietly, before the modules that are made of it.
        from beam_job import train

        return lambda settings, _: train.run(settings)
    if isinstance(settings, options.EvaluateOptions):
        from beam_job.preflight import check_evaluation

        check_evaluation(settings)
        from transforms.autoencoder import import_keras

        import_keras()
        from beam_job import evaluate

        return lambda settings, _: evaluate.run(settings)
    if isinstance(settings, options.ReconstructOptions):
        from beam_job import reconstruct

        return reconstruct.run
    if isinstance(settings, options.VerifyOptions):
        from beam_job import verify

        return lambda settings, _: verify.run(settings)
    from beam_job import compress

    return compress.run


def _told(error: Exception) -> tuple[int, str]:
    """Exit status and line of an error: WRONG where the user has to change something."""
    from transforms.errors import InputError, JobError
    from transforms.file_errors import is_file_system_error

    if isinstance(error, JobError):
        return WRONG if isinstance(error, InputError) else FAILED, str(error)
    said = " ".join(str(error).split())  # Libraries say things in several lines.
    if is_file_system_error(error):
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
