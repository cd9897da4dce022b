"""What goes wrong with files, in the same words for disks and stores."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from transforms.errors import RunError, StoreFailedError

_WAYS_OUT = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.ENOENT: "see what removed its folder",
}
"""By what is wrong with a local disk."""


class FileSystemError(OSError):
    """A file system or a store refuses a request; the message names the path."""


class ChangedError(Exception):
    """A file is not, or no longer, the version that a request was for."""


STORAGE_ERRORS = (OSError, StoreFailedError)
"""What storage raises when a request fails."""


@contextmanager
def local_errors(done: str, path: str, *, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Turns an OSError of this machine into a RunError that names the path and the way out.

    but: a kind that stays as it is.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, but):
            raise
        way_out = _WAYS_OUT.get(error.errno or 0, "give a folder that can be written")
        raise RunError(
            f"{path} cannot be {done} ({error.strerror or error}): {way_out}, and run it again"
        ) from error
