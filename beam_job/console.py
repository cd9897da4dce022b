"""The lines that a person reads on a terminal; whatever is in them, they do it no harm."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from transforms.errors import RunError
from transforms.printable import printable


def say(*lines: str) -> None:
    """Writes lines of results to stdout. Raises RunError where that cannot be written."""
    with _written():
        for line in lines:
            print(printable(line))


def flush() -> None:
    """Writes what is left of results. Raises RunError where that cannot be written."""
    with _written():
        sys.stdout.flush()


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # Who reads it, such as `head`, has seen enough.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # Python would try it again.
        raise RunError(
            f"stdout cannot be written ({error.strerror}): what --output names is as it should be; "
            "send stdout where there is room"
        ) from error


def tell(*lines: str) -> None:
    """Writes lines on what happened to stderr, after all results so far.

    What cannot be written there is lost: nothing fails for it.
    """
    with suppress(OSError):  # What cannot be written to stdout is said at the end, by flush.
        sys.stdout.flush()
    with suppress(OSError):
        for line in lines:
            print(printable(line), file=sys.stderr)
