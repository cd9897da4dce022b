"""The two ways in which a job stops, told apart by whose move it is."""

from transforms.printable import printable

_SHOWN_CHARACTERS = 300


class JobError(Exception):
    """A job stopped; the message names the thing, the cause and the way out, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class InputError(JobError):
    """What the user gave is wrong: an input, a flag, a model, an output."""


class UsageError(InputError):
    """The command line is wrong."""


class FilledError(InputError):
    """Another command has filled the output meanwhile."""


class RunError(JobError):
    """The input was right and the run still did not do what it promised."""


class JobLostError(RunError):
    """The launcher lost sight of a job that may still be at work elsewhere."""


class StoreFailedError(RunError):
    """An object store failed, or could not be reached, while a job used it."""


def first_line(error: Exception) -> str:
    """The first line of what an error of a library's says, as far as it can be shown."""
    line = str(error).strip().partition("\n")[0][:_SHOWN_CHARACTERS]
    return line or type(error).__name__
