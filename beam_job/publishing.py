"""How what a job writes becomes complete: in a folder of its own, then moved, one file last.

The folder `_incomplete-ID` lies inside the output, so that it is on the same file system. Files are
moved from there one by one, and the sealing file (`manifest.json`, `dataset.json`) comes last: the
output is complete if, and only if, that file is there. Doing it again after a failure half-way
ends the same.
"""

import uuid
from collections.abc import Iterable
from pathlib import Path

from apache_beam.io.filesystems import FileSystems

from transforms.errors import InputError
from transforms.files import list_files, make_parent, move, remove, write_bytes

ATTEMPT_PREFIX = "_incomplete-"


def child(folder: str, name: str) -> str:
    """The path of what lies below a folder by a name with forward slashes."""
    return str(FileSystems.join(folder, *name.split("/")))


def begin(output: str, flag: str) -> str:
    """Makes and returns a folder for one attempt at writing `output`.

    Raises InputError, naming the flag, where it cannot be written.
    """
    attempt = child(output, f"{ATTEMPT_PREFIX}{uuid.uuid4().hex[:12]}")
    try:
        make_parent(child(attempt, "file"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            f"{flag}={output} cannot be written ({reason}): give a folder that can"
        ) from error
    return attempt


def publish(
    attempt: str,
    output: str,
    names: Iterable[str],
    seal: str,
    content: bytes,
    owned: Iterable[str],
) -> None:
    """Moves the named files from the attempt into the output, and seals it.

    names: paths below both. owned: the folders of the output that belong to this kind of run; what
    an earlier run left in them, its seal and its unfinished attempts go first, so that no run
    leaves a part of another behind.
    """
    names = sorted(names)
    kept = {child(output, name) for name in names}
    remove(child(output, seal))
    for folder in owned:
        for path in list_files(child(output, f"{folder}/**")):
            if path not in kept:
                remove(path)
    for name in names:
        move(child(attempt, name), child(output, name))
    write_bytes(child(output, seal), content)
    remove(attempt)


def abandon(attempt: str, output: str) -> None:
    """Removes what a failed attempt wrote, and the output if nothing else is in it."""
    remove(attempt)
    if (
        FileSystems.get_scheme(output) is None
        and Path(output).is_dir()
        and not any(Path(output).iterdir())
    ):
        Path(output).rmdir()
