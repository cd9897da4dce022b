"""All errors of this project.

Exception
    JobError                a job stops: one line that names the thing, the cause and the way out
        InputError          the user has to change something
            UsageError      the command line
            FilledError     another command has filled the output meanwhile
        RunError            the input was right, and the run did not do what it promised
            JobLostError    the launcher lost sight of a job that may still be at work
            StoreFailedError    an object store failed, or could not be reached
    OSError
        FileSystemError     a file system or a store refuses a request

Those below are caught where they can happen, and become one of those above or another way to go on:

    ChangedError            a file is not the version that a request was for
    StoreError              a store cannot be used for the path of a flag
    NoCredentialsError      there are no credentials for a store
    UnknownNetworkError     a network that only TensorFlow can compute
    NothingLearntError      a training whose loss is not a number
"""

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


class FileSystemError(OSError):
    """A file system or a store refuses a request; the message names the path."""


STORAGE_ERRORS = (OSError, StoreFailedError)
"""What storage raises when a request fails."""


class ChangedError(Exception):
    """A file is not, or no longer, the version that a request was for."""


class StoreError(Exception):
    """A store cannot be used for a path: the cause, and the way out, in one line."""


class NoCredentialsError(Exception):
    """There are no credentials for a store; the message says why."""


class UnknownNetworkError(Exception):
    """A network is not one that this project computes without TensorFlow; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message[:_SHOWN_CHARACTERS])


class NothingLearntError(Exception):
    """Training stopped in its first epoch, as the loss was not a number."""


def first_line(error: Exception) -> str:
    """The first line of what an error of a library's says, as far as it can be shown."""
    line = str(error).strip().partition("\n")[0][:_SHOWN_CHARACTERS]
    return line or type(error).__name__
