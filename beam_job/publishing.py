"""How what a job writes becomes complete: in a folder of its own, then moved, one file last.

The folder `_incomplete-ID` lies inside the output, so that it is on the same file system. Files are
moved from there, and the sealing file (`manifest.json`, `dataset.json`) comes last: the output is
complete if, and only if, that file is there. Doing it again after a failure half-way ends the same.

Who writes an attempt holds its folder by a lock, on this machine, so that nobody takes it for one
that was left. Object stores have no locks: there --resume takes over what it finds, --overwrite
removes what was there when it began, and of two that work at once one is told.
"""

import fcntl
import os
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from beam_job.lines import tell
from transforms.errors import FilledError, InputError, RunError, StoreFailedError
from transforms.file_errors import is_file_system_error
from transforms.files import (
    FileFacts,
    check_moved,
    exists,
    is_local,
    join_path,
    list_files,
    make_parent,
    move,
    move_all,
    remove,
    remove_all,
    remove_empty_folders,
    write_bytes,
)
from transforms.json_documents import read_json

ATTEMPT_PREFIX = "_incomplete-"
BEGUN = "begun"
"""What an attempt writes first, in an object store."""
PUBLISHING = "publishing"
"""What an attempt writes when it is about to publish: one at a time may."""

_TRIES, _TOLD_AT = 40, 7
_LONGEST_PAUSE = 5.0
"""Between two tries to be the only one that publishes, in seconds; together about two minutes."""

_held: dict[str, int] = {}
"""The folders of attempts that this process holds, each by a file descriptor."""
_begun: dict[str, str] = {}
"""By flag, the output that this process began last."""
_published: set[str] = set()
"""The outputs that this process knows to be published since it began them."""


class Attempt(NamedTuple):
    """One attempt at writing an output.

    made: local folders that were not there before it. before: the folders of attempts that a store
    had when it began.
    """

    folder: str
    output: str
    made: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

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

    What an attempt that was killed left there is in nobody's way; nor is what it had published
    without the seal, as long as the attempt is there to show whose it is.
    """
    check_is_folder(output)
    listed = list_files(child(output, "**"))
    found = [path for path in listed if ATTEMPT_PREFIX not in path]
    if child(output, seal) not in found:
        if found and len(found) == len(listed):
            raise InputError(
                f"--output={output} holds files that are no {kind}: give another folder"
            )
    elif not overwrite:
        raise InputError(
            f"--output={output} holds a complete {kind} already: give another folder, or "
            "--overwrite"
        )


def check_no_links(output: str, owned: Sequence[str]) -> None:
    """Raises InputError where one of the folders that a run owns in its output is a link.

    Files would be written, and those of an earlier run removed, where it leads to.
    """
    for folder in owned:
        link = linked_folder(child(output, folder))
        if link is not None:
            raise InputError(
                f"{link} is a link, and what is written stays in --output={output}: remove it"
            )


def linked_folder(folder: str) -> str | None:
    """A local folder, or the first below it, that is a link to another; None for none."""
    if not is_local(folder):
        return None
    below = (Path(at, name) for at, names, _ in os.walk(folder) for name in names)
    links = (path for path in (Path(folder), *below) if path.is_symlink())
    return next(map(str, links), None)


def is_known_published(flag: str) -> bool:
    """Whether this process knows that a flag's output is there: an interrupt comes too late."""
    return _begun.get(flag) in _published


def is_known_done(attempt: Attempt) -> bool:
    """Whether this process knows that an attempt's output is published."""
    return attempt.output in _published


def is_published(attempt: Attempt, seal: str, identifier: str) -> bool:
    """Whether an attempt's run_id is in the seal there: a worker may have published it.

    identifier: the name that it has in there.
    """
    try:
        there = read_json(child(attempt.output, seal))
    except (ValueError, OSError):  # None, none of ours, or one that another command exchanges.
        return False
    found = isinstance(there, dict) and there.get(identifier) == attempt.run_id
    if found:
        _published.add(attempt.output)
    return found


def read_published(output: str, *names: str) -> list[Any]:
    """JSON that a command has just published; FilledError where it is no longer there."""
    _published.add(output)
    try:
        return [read_json(child(output, name)) for name in names]
    except OSError as error:
        reason = error.strerror or error
        raise FilledError(
            f"--output={output} was written, and cannot be read any more ({reason}): see whether "
            "another command overwrote or removed it, or give another folder"
        ) from error


def check_not_filled(attempt: Attempt, seal: str, *, overwrite: bool) -> None:
    """Raises FilledError if another attempt was faster, and is not to be replaced."""
    if not overwrite and exists(child(attempt.output, seal)):
        raise FilledError(
            f"--output={attempt.output} was filled by another command while this one worked, and "
            "that one stays: give another folder, or --overwrite"
        )


def _check_not_removed(attempt: Attempt) -> None:
    """Raises FilledError if a later command overwrote, in a store, what this one wrote."""
    if not is_local(attempt.folder) and not exists(child(attempt.folder, BEGUN)):
        raise FilledError(
            f"--output={attempt.output} was overwritten by another command while this one worked, "
            "and that one stays: give another folder, or --overwrite"
        )


def begin(output: str, flag: str) -> Attempt:
    """Makes the folder of one attempt at writing `output`.

    Raises InputError, naming the flag, where it cannot be written.
    """
    _begun[flag] = output
    _published.discard(output)
    folder = child(output, f"{ATTEMPT_PREFIX}{uuid.uuid4().hex[:12]}")
    try:
        made = _missing_folders(Path(output)) if is_local(output) else ()
        before = () if is_local(output) else tuple(other.folder for other in all_attempts(output))
        make_parent(child(folder, BEGUN))
        if not is_local(output):  # Where there is no folder to make, a file shows whether one can.
            write_bytes(child(folder, BEGUN), b"begun")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            f"{flag}={output} cannot be written ({reason}): give a folder that can"
        ) from error
    attempt = Attempt(folder, output, made, before)
    if not hold(attempt):
        raise InputError(
            f"{flag}={output}: another command removed what this one began: run it again"
        )
    return attempt


def hold(attempt: Attempt) -> bool:
    """Takes an attempt for this process's own; whether no other process has it.

    True in an object store, where nobody can tell.
    """
    if not is_local(attempt.folder) or attempt.folder in _held:
        return True
    try:
        descriptor = os.open(attempt.folder, os.O_RDONLY)
    except OSError:  # Somebody has removed it.
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    _held[attempt.folder] = descriptor
    return True


def release(attempt: Attempt) -> None:
    """Leaves an attempt as it is, for another process to take."""
    if attempt.folder in _held:
        os.close(_held.pop(attempt.folder))


def is_left(attempt: Attempt) -> bool:
    """Whether no process holds an attempt; False in an object store, where nobody can tell."""
    if not is_local(attempt.folder) or attempt.folder in _held or not hold(attempt):
        return False
    release(attempt)
    return True


def other_attempts(attempt: Attempt) -> list[Attempt]:
    """What other commands began in the same output and have not finished, at work or not."""
    own = attempt.folder
    return [other for other in all_attempts(attempt.output) if other.folder != own]


def all_attempts(output: str) -> list[Attempt]:
    """What was begun in an output and has not been finished; in a store, what can be seen of it."""
    if is_local(output):
        there = sorted(Path(output).glob(f"{ATTEMPT_PREFIX}*"))
        # A link leads to what is none of this output's.
        found = [child(output, path.name) for path in there if not path.is_symlink()]
    else:
        top = child(output, ATTEMPT_PREFIX)
        paths = list_files(f"{top}*/**")
        found = sorted({top + path.removeprefix(top).partition("/")[0] for path in paths})
    return [Attempt(folder, output) for folder in found]


def _missing_folders(output: Path) -> tuple[str, ...]:
    """The folder and those above it that are not there yet, the deepest first."""
    return tuple(str(path) for path in (output, *output.parents) if not path.exists())


def publish(
    attempt: Attempt,
    files: Mapping[str, FileFacts],
    seal: str,
    content: bytes,
    owned: Sequence[str],
    *,
    overwrite: bool,
) -> None:
    """Moves the files from the attempt into the output, and seals it.

    files: by their paths below both. owned: the folders of the output that belong to this kind of
    run; what an earlier run left in them, and its seal, goes first: no run leaves a part of
    another behind. Of several attempts one publishes at a time. Raises FilledError where another
    was faster, unless it is to be overwritten.
    """
    with _alone(attempt):
        check_no_links(attempt.output, owned)
        check_not_filled(attempt, seal, overwrite=overwrite)
        _check_not_removed(attempt)
        _remove_left_attempts(attempt, overwrite=overwrite)
        _check_all_there(attempt, files)
        try:
            _publish(attempt, files, seal, content, owned)
        except BaseException:
            _mark_unfinished(attempt, files, seal)
            raise
    remove(attempt.folder)
    release(attempt)


@contextmanager
def _alone(attempt: Attempt) -> Iterator[None]:
    """Waits until no other attempt publishes into the same output.

    Each says that it is about to, and then looks whether others do: of two that begin at once one
    at least sees the other. Who does takes its word back and tries again after a random time.
    """
    claim = child(attempt.folder, PUBLISHING)
    for number in range(_TRIES):
        write_bytes(claim, b"publishing")
        others = _others_publishing(attempt)
        if not others:
            break
        remove(claim)
        if number == _TOLD_AT:
            tell(f"note: waiting for who publishes by {others[0]}")
        time.sleep(random.uniform(0.5, 1) * min(_LONGEST_PAUSE, 0.05 * 2**number))  # noqa: S311
    else:
        raise RunError(
            f"{others[0]} says that another command is publishing to {attempt.output}: wait for "
            "it; where it was killed, run it again with --resume, or remove that file"
        )
    try:
        yield
    except StoreFailedError:  # Which takes no requests; --resume takes the claim over.
        raise
    except BaseException:
        remove(claim)
        raise
    remove(claim)


def _others_publishing(attempt: Attempt) -> list[str]:
    others = [other for other in other_attempts(attempt) if not is_left(other)]
    claims = [child(other.folder, PUBLISHING) for other in others]
    return [claim for claim in claims if exists(claim)]


def _publish(
    attempt: Attempt,
    files: Mapping[str, FileFacts],
    seal: str,
    content: bytes,
    owned: Sequence[str],
) -> None:
    output = attempt.output
    sealing = write_bytes(child(attempt.folder, seal), content)
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
    move(child(attempt.folder, seal), child(output, seal), sealing)
    _published.add(output)


def _check_all_there(attempt: Attempt, files: Mapping[str, FileFacts]) -> None:
    """Raises RunError where a file was removed, before an older run makes room for the new one.

    Files may have been moved already, by who was interrupted while it published.
    """
    there = set(list_files(child(attempt.folder, "**")))
    for name, facts in files.items():
        path = child(attempt.folder, name)
        if path not in there:
            check_moved(path, child(attempt.output, name), facts)


def _mark_unfinished(attempt: Attempt, files: Mapping[str, FileFacts], seal: str) -> None:
    """Leaves a sign of what was moved without its seal, by which a command may replace it.

    The attempt may be gone, or be abandoned. The sign is an attempt that nobody holds.
    """
    output = attempt.output
    if not is_local(output) or exists(child(output, seal)):
        return
    if any(exists(child(output, name)) for name in files):
        sign = Path(child(output, f"{ATTEMPT_PREFIX}{uuid.uuid4().hex[:12]}"))
        with suppress(OSError):  # Why it failed is told.
            sign.mkdir()
            (sign / BEGUN).touch()


def _remove_left_attempts(attempt: Attempt, *, overwrite: bool) -> None:
    """Removes what was killed and left in the output.

    In a store nobody can tell: there that is, where this one may overwrite, all that was there when
    it began. Not what began later: to that one it is left to overwrite this one.
    """
    for other in other_attempts(attempt):
        if is_left(other) or (overwrite and other.folder in attempt.before):
            remove(other.folder)


def abandon(attempt: Attempt) -> None:
    """Removes what an attempt wrote, and the folders that were made for it and are empty.

    Where a store or a disk doesn't let it, that stays, in nobody's way; why it was abandoned is to
    be told.
    """
    release(attempt)
    try:
        remove(attempt.folder)
        for folder in map(Path, attempt.made):
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
    except Exception as error:
        if not (isinstance(error, (OSError, RunError)) or is_file_system_error(error)):
            raise
