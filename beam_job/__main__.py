"""The command line: `python -m beam_job COMMAND`, also installed as `emnist-latents`.

Exit status: 0 done, 1 the run failed, 2 wrong use or input, 130 interrupted.
"""

import sys
import traceback

from beam_job import options


def main() -> None:
    """Runs the command line and exits with its status."""
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Runs one command; every error becomes one line on stderr and an exit status."""
    debug = "--debug" in argv
    try:
        settings, beam_flags = options.parse(argv)
        # Imported late: --help and a wrong flag need neither Beam nor NumPy.
        from beam_job.logs import set_up_logging

        set_up_logging(debug=settings.debug)
        from beam_job import compress, stage

        if isinstance(settings, options.StageOptions):
            options.check_no_flags(beam_flags)
            return stage.run(settings)
        return compress.run(settings, beam_flags)
    except KeyboardInterrupt:
        print("interrupted; nothing was published", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001  # The last line of defence: told in one line.
        if debug:
            traceback.print_exc()
        print(f"error: {error_line(error)}", file=sys.stderr)
        return exit_status(error)


def exit_status(error: Exception) -> int:
    """2 where the user has to change something, 1 where the run failed."""
    if isinstance(error, options.UsageError):
        return 2
    from transforms.errors import InputError

    return 2 if isinstance(error, InputError) else 1


def error_line(error: Exception) -> str:
    """The error in one line; one we did not foresee says so."""
    from transforms.errors import JobError

    text = " ".join(str(error).split())
    if isinstance(error, options.UsageError | JobError):
        return text
    return f"unexpected {type(error).__name__}: {text}; run it again with --debug and report it"


if __name__ == "__main__":
    main()
