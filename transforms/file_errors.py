"""What goes wrong with files, told in one way for all file systems."""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transforms.errors import JobError, RunError, StoreFailedError
from transforms.store_clients import is_store_path

# What the libraries below Beam's file systems raise, which Beam lets pass here and there.
_RAISED_BELOW = (
    ("apache_beam.io.filesystem", "BeamIOError"),
    ("apache_beam.io.aws.clients.s3.messages", "S3ClientError"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("google.cloud.storage.exceptions", "InvalidResponse"),
)
_GONE, _FAILED = 404, 500
_MAY_PASS = (408, 429)
"""Statuses of HTTP below _FAILED that say nothing against the request."""

_WAYS_OUT = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.ENOENT: "see what removed its folder",
}
"""By what is wrong with a local disk."""


class FileSystemError(OSError):
    """What a file system said of a path, which the message names."""


class FileGoneError(FileSystemError):
    """A store hasn't got a file."""


_ENOUGH = (JobError, FileSystemError, FileNotFoundError, TypeError, ValueError)
"""What tells enough, or is a fault of the program."""


def is_file_system_error(error: Exception) -> bool:
    """Whether an error is of Beam's file systems; none is before they were imported."""
    if isinstance(error, (FileSystemError, StoreFailedError)):
        return True
    kinds = ((sys.modules.get(module), name) for module, name in _RAISED_BELOW)
    return any(isinstance(error, getattr(module, name)) for module, name in kinds if module)


@contextmanager
def told_of(path: str) -> Iterator[None]:
    """Makes one of our errors of whatever a file system raises, and names the path.

    FileSystemError where it refuses what was asked; StoreFailedError where an object store fails,
    or can't be reached, after all that was tried again.
    """
    try:
        yield
    except Exception as error:
        ours = _as_ours(path, error)
        if ours is None:
            raise
        raise ours from error


@contextmanager
def told_unless(done: str, path: str) -> Iterator[None]:
    """Makes a RunError, which names the way out, of why a local file cannot be written, or so."""
    try:
        yield
    except OSError as error:
        way_out = _WAYS_OUT.get(error.errno or 0, "give a folder that can be written")
        raise RunError(
            f"{path} cannot be {done} ({error.strerror or error}): {way_out}, and run it again"
        ) from error


def _as_ours(path: str, error: Exception) -> Exception | None:
    """None for an error that is to stay as it is."""
    if isinstance(error, _ENOUGH):
        return None
    cause = _innermost(error)
    if isinstance(cause, AttributeError) and not _is_silence(cause):
        return None
    if not is_store_path(path):
        of_beam = is_file_system_error(error) and not isinstance(error, OSError)
        return FileSystemError(f"{path}: {cause}") if of_beam else None
    status = _status(cause)
    if status is not None and status < _FAILED and status not in _MAY_PASS:
        kind = FileGoneError if status == _GONE else FileSystemError
        return kind(f"{path}: {_text(cause)}")
    return StoreFailedError(
        f"{path}: its store failed, or could not be reached ({_text(cause)}): run it again when "
        "the store answers"
    )


def _is_silence(error: AttributeError) -> bool:
    """Whether Beam asked an answer that it hasn't got, of S3 or of GCS, for its status."""
    return error.obj is None and error.name in ("get", "status_code")


def _innermost(error: Any) -> Any:
    """What Beam and the store's library have wrapped, the first of many: an error, or a status."""
    inner = next(iter((getattr(error, "exception_details", None) or {}).values()), None)
    if inner is None and type(error).__name__ == "RetryError":
        inner = error.cause
    return error if inner is None else _innermost(inner)


def _status(cause: Any) -> int | None:
    """The status of HTTP that a store answered with; None for no answer."""
    if isinstance(cause, int):
        return cause
    response = getattr(cause, "response", None)  # A mapping in boto3, an object in Google's.
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(cause, "code", None) or getattr(response, "status_code", None)
    return int(found) if isinstance(found, int) else None


def _text(cause: Any) -> str:
    if isinstance(cause, int):
        return f"HTTP status {cause}"
    below = cause.__context__
    if isinstance(below, AttributeError) and _is_silence(below):  # Whose text Beam gives another.
        return _text(below)
    if isinstance(cause, AttributeError):
        return f"no answer: {_text(cause.__context__)}" if cause.__context__ else "no answer"
    text = getattr(cause, "message", None) or str(cause) or type(cause).__name__
    return re.sub(r"\s+", " ", str(text))
