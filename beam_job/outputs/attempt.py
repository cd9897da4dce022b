"""An attempt: one try at an output, in a folder `_incomplete-ID` that nobody else writes to."""

import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from transforms.errors import STORAGE_ERRORS, InputError, RunError, StoreFailedError
from transforms.inputs.dataset import Source
from transforms.json_documents import encode, parse_json, read_document
from transforms.latents import ModelRecord
from transforms.storage.files import (
    Versioned,
    child,
    exists,
    is_local,
    list_names,
    read_versioned,
    remove,
    write_bytes,
)

ATTEMPT_PREFIX = "_incomplete-"
JOB = "job.json"
"""In an attempt: what it is a try at. It is there as long as the attempt may become the output."""
CLAIM = "_claim.json"
"""In an output: which attempt may become it. See seal."""
STRAY_NAMES = (".DS_Store", ".gitkeep", "Thumbs.db", "desktop.ini", "lost+found")
"""What systems leave in folders, and no run is made of."""


@dataclass(frozen=True)
class Kind:
    """A kind of output.

    noun: what a person calls it. seal: the file that makes it complete. owned: its folders.
    documents: its files that another run of its kind may not have. run_id: the name, in the seal,
    of the attempt's id. resumable: whether an unfinished one can be continued. format: what the
    seal says of itself, where others call a file of theirs by that name too.
    """

    noun: str
    seal: str
    owned: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    run_id: str = "run_id"
    resumable: bool = False
    format: str | None = None


Flag = str | bool | int | float | None | list[str]
"""The value of a flag as documents record it."""


class JobDataset(msgspec.Struct, frozen=True):
    """The images of a job. images: how many, by split."""

    name: str
    fingerprint: str | None
    images: dict[str, int]
    sources: tuple[Source, ...]
    characters: dict[int, str]


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """job.json: what an attempt is a try at, by all that decides the content of its files.

    Without versions it is not known yet, or never will be.
    """

    created: str = ""
    dataset: JobDataset | str = ""
    model: ModelRecord | None = None
    flags: dict[str, Flag] = {}
    versions: dict[str, str] = {}


class Attempt(NamedTuple):
    """One try at an output.

    replaces: the ids of other attempts that it puts an end to. made: local folders that were not
    there before it. continued: whether another command began it, whose job may still be at work.
    """

    output: str
    run_id: str
    replaces: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    continued: bool = False

    @property
    def folder(self) -> str:
        """Where it writes."""
        return folder_of(self.output, self.run_id)


def folder_of(output: str, run_id: str) -> str:
    """The folder of an attempt."""
    return child(output, f"{ATTEMPT_PREFIX}{run_id}")


def begin(output: str, flag: str, *, replace: bool = True) -> Attempt:
    """Makes the folder of one attempt at writing `output`.

    replace: whether it puts an end to those that are there. Raises InputError, naming the flag,
    where the output cannot be written; StoreFailedError where its store fails.
    """
    try:
        made = _missing_folders(Path(output)) if is_local(output) else ()
        replaces = tuple(attempt_ids(output)) if replace else ()
        attempt = Attempt(output, uuid.uuid4().hex[:12], replaces, made)
        write_bytes(child(attempt.folder, JOB), encode(Job(created=now())))
    except StoreFailedError:
        raise
    except (*STORAGE_ERRORS, RunError) as error:
        cause = error.__cause__ if isinstance(error, RunError) and error.__cause__ else error
        reason = getattr(cause, "strerror", None) or cause
        raise InputError(
            f"{flag}={output} cannot be written ({reason}): give a folder that can"
        ) from error
    return attempt


def now() -> str:
    """The time, to a second, as documents have it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _missing_folders(output: Path) -> tuple[str, ...]:
    """The folder and those above it that are not there yet, the deepest first."""
    return tuple(str(path) for path in (output, *output.parents) if not path.exists())


def abandon(attempt: Attempt) -> None:
    """Removes what an attempt wrote, and the folders that were made for it and are empty.

    A store or a disk that does not let it is no error: why the attempt was abandoned is what the
    user has to hear.
    """
    with suppress(*STORAGE_ERRORS, RunError):
        remove_attempt(attempt)
        for folder in map(Path, attempt.made):
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


def remove_attempt(attempt: Attempt) -> None:
    """Removes the folder of an attempt; its job first, so that nobody continues what is left."""
    remove(child(attempt.folder, JOB))
    remove(attempt.folder)


def unfinished_attempts(output: str) -> list[Attempt]:
    """The attempts that may still become the output, at work or not."""
    there = [Attempt(output, run_id) for run_id in attempt_ids(output)]
    return [attempt for attempt in there if exists(child(attempt.folder, JOB))]


def attempt_ids(output: str) -> list[str]:
    """The ids of the attempts whose folders are there; a link leads elsewhere, and is not one."""
    names = [name for name in list_names(output) if name.startswith(ATTEMPT_PREFIX)]
    kept = [name for name in names if not (is_local(output) and Path(output, name).is_symlink())]
    return [name.removeprefix(ATTEMPT_PREFIX) for name in kept]


def read_job(attempt: Attempt) -> Job | None:
    """What an attempt is a try at; None where that is not known, or leads elsewhere."""
    try:
        check_no_links(attempt.output, [f"{ATTEMPT_PREFIX}{attempt.run_id}"])
        job = read_document(child(attempt.folder, JOB), Job)
    except (ValueError, OSError, InputError):
        return None
    return job if job.versions else None


def sealed_id(output: str, kind: Kind) -> str | None:
    """The id of the run that an output holds; None for none."""
    return id_in(read_versioned(child(output, kind.seal)), kind)


def id_in(seal: Versioned | None, kind: Kind) -> str | None:
    """The id in a seal; "" where it has none, or cannot be read; None for no seal."""
    if seal is None:
        return None
    return str(_fields(seal).get(kind.run_id, ""))


def _fields(seal: Versioned) -> Mapping[str, Any]:
    with suppress(ValueError):
        sealed = parse_json(seal.content)
        if isinstance(sealed, dict):
            return sealed
    return {}


def check_output(output: str, kind: Kind, *, overwrite: bool, resume: bool = False) -> None:
    """Raises InputError unless an output of this kind may be written there; writes nothing."""
    if is_local(output):
        _check_is_folder(Path(output), f"--output={output}")
    check_no_links(output, kind.owned)
    names = [name for name in list_names(output) if name not in STRAY_NAMES]
    seal = read_versioned(child(output, kind.seal)) if kind.seal in names else None
    if seal is not None and kind.format not in (None, _fields(seal).get("format")):
        seal = None  # It is somebody else's file of that name.
    if not names or (overwrite and seal is not None):
        return
    sealed = id_in(seal, kind)
    unfinished = [one for one in unfinished_attempts(output) if one.run_id != sealed]
    ways = "--resume continues it, --overwrite starts again"
    if seal is not None and unfinished and kind.resumable:
        problem = f"holds a complete {kind.noun} already, and next to it an unfinished one"
        ways = "--overwrite --resume continues that, --overwrite starts again"
    elif seal is not None:
        problem = f"holds a complete {kind.noun} already"
        ways = "give another folder, or --overwrite"
    elif CLAIM in names or unfinished:
        if overwrite or resume or not (kind.resumable or CLAIM in names):
            return
        problem = f"holds an unfinished {kind.noun} already"
        ways = ways if kind.resumable else "--overwrite starts again"
    elif all(name.startswith(ATTEMPT_PREFIX) for name in names):
        return
    else:
        problem = f"holds files that are not {a_or_an(kind.noun)}"
        ways = "give another folder"
    raise InputError(f"--output={output} {problem}: {ways}")


def a_or_an(noun: str) -> str:
    """A noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _check_is_folder(output: Path, flag: str) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"{flag} is a file: give a folder")
    nearest = next((parent for parent in output.parents if parent.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise InputError(f"{flag} is below {nearest}, a file: give a folder")


def check_no_links(output: str, owned: Sequence[str]) -> None:
    """Raises InputError where a folder that a run owns in its output is a link, or holds one.

    Files would be written, and those of an earlier run removed, where it leads to.
    """
    if not is_local(output):
        return
    for name in owned:
        top = Path(child(output, name))
        below = (Path(at, part) for at, parts, _ in os.walk(top) for part in parts)
        link = next((path for path in (top, *below) if path.is_symlink()), None)
        if link is not None:
            raise InputError(
                f"{link} is a link, and what is written stays in --output={output}: remove it"
            )
