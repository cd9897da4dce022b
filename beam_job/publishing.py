"""How what a job writes becomes complete: in a folder of its own, then moved, one file last.

The folder `_incomplete-ID` lies inside the output, so that it is on the same file system. Files are
moved from there, and the sealing file (`manifest.json`, `dataset.json`) comes last: the output is
complete if, and only if, that file is there. Doing it again after a failure half-way ends the same.
"""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from transforms.errors import InputError
from transforms.files import (
    FileFacts,
    is_file_system_error,
    is_local,
    join_path,
    list_files,
    make_parent,
    move_all,
    remove,
    remove_all,
    remove_empty_folders,
    write_bytes,
)

ATTEMPT_PREFIX = "_incomplete-"
BEGUN = "begun"
"""What an attempt writes first, in an object store."""


class Attempt(NamedTuple):
    """One attempt at writing an output. made: local folders that were not there before it."""

    folder: str
    output: str
    made: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        """What tells this attempt from every other."""
        return self.folder.rpartition(ATTEMPT_PREFIX)[2]


def child(folder: str, name: str) -> str:
    """The path of what lies below a folder by a name with forward slashes."""
    return join_path(folder, *name.split("/"))


def check_is_folder(output: str) -> None:
    """Raises InputError where an output is a file, or lies below one."""
    if not is_local(output):
        return
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output={output} is a file: give a folder")
    nearest = next((parent for parent in folder.parents if parent.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise InputError(f"--output={output} lies below {nearest}, a file: give a folder")


def check_output(output: str, seal: str, kind: str, *, overwrite: bool) -> None:
    """Raises InputError unless an output of this kind ("model") may be written there.

    What an attempt that was killed left there is in nobody's way.
    """
    check_is_folder(output)
    found = [path for path in list_files(child(output, "**")) if ATTEMPT_PREFIX not in path]
    if found and child(output, seal) not in found:
        raise InputError(f"--output={output} holds files that are no {kind}: give another folder")
    if found and not overwrite:
        raise InputError(
            f"--output={output} holds a complete {kind} already: give another folder, or "
            "--overwrite"
        )


def check_not_filled(attempt: Attempt, seal: str, *, overwrite: bool) -> None:
    """Raises InputError if another attempt was faster, and is not to be replaced."""
    if not overwrite and list_files(child(attempt.output, seal)):
        raise InputError(
            f"--output={attempt.output} was filled by another command while this one worked, and "
            "that one stays: give another folder, or --overwrite"
        )


def begin(output: str, flag: str) -> Attempt:
    """Makes the folder of one attempt at writing `output`.

    Raises InputError, naming the flag, where it cannot be written.
    """
    folder = child(output, f"{ATTEMPT_PREFIX}{uuid.uuid4().hex[:12]}")
    try:
        made = _missing_folders(Path(output)) if is_local(output) else ()
        make_parent(child(folder, BEGUN))
        if not is_local(output):  # Where there is no folder to make, a file shows whether one can.
            write_bytes(child(folder, BEGUN), b"begun")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            f"{flag}={output} cannot be written ({reason}): give a folder that can"
        ) from error
    return Attempt(folder, output, made)


def _missing_folders(output: Path) -> tuple[str, ...]:
    """The folder and those above it that are not there yet, the deepest first."""
    return tuple(str(path) for path in (output, *output.parents) if not path.exists())


def publish(
    attempt: Attempt,
    files: Mapping[str, FileFacts],
    seal: str,
    content: bytes,
    owned: Sequence[str],
) -> None:
    """Moves the files from the attempt into the output, and seals it.

    files: by their paths below both. owned: the folders of the output that belong to this kind of
    run; what an earlier run left in them, and its seal, goes first: no run leaves a part of
    another behind.
    """
    output = attempt.output
    kept = {child(output, name) for name in files}
    remove(child(output, seal))
    found = [path for folder in owned for path in list_files(child(output, f"{folder}/**"))]
    remove_all([path for path in found if path not in kept])
    move_all(
        attempt.folder,
        [
            (child(attempt.folder, name), child(output, name), facts)
            for name, facts in sorted(files.items())
        ],
    )
    for folder in owned:
        remove_empty_folders(child(output, folder))
    write_bytes(child(output, seal), content)
    remove(attempt.folder)


def remove_other_attempts(attempt: Attempt) -> None:
    """Removes what runs that were killed left in the output."""
    found = list_files(child(attempt.output, f"{ATTEMPT_PREFIX}*/**"))
    remove_all([path for path in found if not path.startswith(attempt.folder)])
    if is_local(attempt.output):
        for folder in Path(attempt.output).glob(f"{ATTEMPT_PREFIX}*"):
            if folder != Path(attempt.folder):
                remove(str(folder))


def abandon(attempt: Attempt) -> None:
    """Removes what an attempt wrote, and the folders that were made for it and are empty.

    Where a store doesn't let it, that stays, in nobody's way; why it was abandoned is to be told.
    """
    try:
        remove(attempt.folder)
    except Exception as error:
        if not is_file_system_error(error):
            raise
    for folder in map(Path, attempt.made):
        if not folder.is_dir() or any(folder.iterdir()):
            break
        folder.rmdir()
