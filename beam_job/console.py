"""The lines that a person reads on a terminal; whatever is in them, they do it no harm."""

import sys

from transforms.printable import printable


def say(*lines: str) -> None:
    """Writes lines of results to stdout."""
    for line in lines:
        print(printable(line))


def tell(*lines: str) -> None:
    """Writes lines on what happened to stderr, after all results so far."""
    sys.stdout.flush()
    for line in lines:
        print(printable(line), file=sys.stderr)
