"""What stores answer: their errors in this project's words, and asking again."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from transforms.errors import (
    ChangedError,
    FileSystemError,
    NoCredentialsError,
    StoreFailedError,
)

_REFUSED = "The operation lacked valid authentication credentials"
"""What obstore says of whoever gives credentials, and of a store that takes them for none."""

TRIES = 5
"""To put on a condition, when the answer to a try was lost."""

BROKEN_OFF = "response body"
"""What obstore says of an answer that breaks off, of an object or of a list."""

PAUSE_SECONDS = 0.2
_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


@contextmanager
def store_errors(path: str) -> Iterator[None]:
    """Turns what obstore raises into errors that name the path.

    FileNotFoundError where there is no such object, ChangedError where a condition is not met,
    FileSystemError where the store refuses, StoreFailedError where it fails or does not answer.
    """
    import obstore.exceptions as raised

    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(2, "there is no such object", path) from error
    except (raised.AlreadyExistsError, raised.PreconditionError) as error:
        raise ChangedError(path) from error
    except NoCredentialsError as error:
        raise FileSystemError(f"{path}: its store has no credentials ({error})") from error
    except raised.InvalidPathError as error:
        raise FileSystemError(f"{path}: {reason(error)}") from error
    except raised.BaseError as error:
        status = http_status(error)
        if status is not None and 400 <= status < 500 and status not in (408, 429):  # noqa: PLR2004
            raise FileSystemError(f"{path}: {reason(error)}") from error
        raise StoreFailedError(
            f"{path}: its store failed, or could not be reached ({reason(error)}): run it again "
            "when the store answers"
        ) from error


def http_status(error: Exception) -> int | None:
    """The status that a store answered with, 401 where its credentials are refused; or None."""
    if _REFUSED in str(error):
        return 401
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found[1]) if found else None


def reason(error: Exception) -> str:
    """What a store said, without what obstore adds of its own, on one line."""
    text = re.sub(rf"{_REFUSED}.*?: \w+: ", "", str(error).partition("\n\nDebug source")[0])
    parts = [re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL) for name in ("Code", "Message")]
    said = ": ".join(part[1] for part in parts if part) or text.rpartition(" - ")[2]
    return re.sub(r"\s+", " ", said).strip()[:300]


def again(ask: Callable[_Arguments, _Answer]) -> Callable[_Arguments, _Answer]:
    """Repeats what may be done twice, where its answer breaks off within its body.

    obstore repeats requests that fail before that.
    """

    @wraps(ask)
    def repeated(*args: _Arguments.args, **named: _Arguments.kwargs) -> _Answer:
        for number in range(1, TRIES):
            try:
                return ask(*args, **named)
            except Exception as error:
                if BROKEN_OFF not in str(error):
                    raise
                time.sleep(number * PAUSE_SECONDS)
        return ask(*args, **named)

    return repeated
