"""Going on with a run that was interrupted: what it was of, and which of its shards are done.

An attempt says in `job.json` what decides the content of its files, and notes each shard as its
file is there. A later attempt at the same takes its folder over.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from beam_job import publishing
from beam_job.publishing import PUBLISHING, Attempt, child
from beam_job.run_directory import is_run, versions
from transforms.errors import FilledError, InputError, JobError, RunError, StoreFailedError
from transforms.file_errors import is_file_system_error
from transforms.files import (
    exists,
    list_files,
    read_bytes,
    remove,
    write_bytes,
)
from transforms.images import Shard
from transforms.json_documents import MAX_JSON_BYTES, read_json
from transforms.latents import LATENTS_FOLDER
from transforms.shard_files import NOTES_FOLDER, ShardNote, note_path

JOB = "job.json"
_CHARACTERS = "characters"
"""One thing, however many there are."""
_SHOWN_CHARACTERS = 60
_SHOWN_DIFFERENCES = 10


class KeptShard(NamedTuple):
    """A shard that an earlier attempt has finished. path: where its file lies."""

    shard: Shard
    note: ShardNote
    path: str


def job_of(deciding: Mapping[str, Any]) -> dict[str, Any]:
    """A job as JSON values: what decides the content of its files, and when it began."""
    job = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **deciding,
        "versions": versions(),
    }
    as_json: dict[str, Any] = json.loads(json.dumps(job))
    return as_json


def taken_over(attempt: Attempt, job: Mapping[str, Any], *, strictly: bool) -> Attempt:
    """The attempt at the same job that was interrupted, instead of this one; this one for none.

    strictly: raises InputError where there are only attempts at other jobs, or a command still
    works on it.
    """
    known = [
        (other, there)
        for other in publishing.other_attempts(attempt)
        if (there := _job(other)) is not None
    ]
    same = [other for other, there in known if not list(differences(there, job))]
    if not strictly:
        same = [other for other in same if publishing.is_left(other)]
    elif not same and known:
        other, there = known[0]
        raise InputError(
            f"--resume: the unfinished run {other.folder} is another one, by "
            f"{in_words(differences(there, job))}: give the same flags to go on with it, or "
            "--overwrite without --resume to start anew"
        )
    if not same:
        return attempt
    best = max(same, key=_progress)
    if not publishing.hold(best):
        raise InputError(f"--resume: another command is at work on {best.folder}: wait for its end")
    publishing.abandon(attempt)
    return best._replace(before=attempt.before)


def _progress(attempt: Attempt) -> tuple[bool, int]:
    """How far an attempt came: one that had begun to publish came furthest."""
    return exists(child(attempt.folder, PUBLISHING)), finished_shards(attempt)


def _job(attempt: Attempt) -> dict[str, Any] | None:
    path = child(attempt.folder, JOB)
    if not exists(path) or publishing.linked_folder(attempt.folder):
        return None
    try:
        job = read_json(path)
    except (ValueError, OSError):
        return None
    return job if isinstance(job, dict) and "created" in job else None


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two jobs, by name, with both values: what they are made of first."""
    before, now = dict(_leaves(there)), dict(_leaves(here))
    for name in dict.fromkeys([*now, *before]):
        if name == "created":
            continue
        if before.get(name) != now.get(name):
            was, is_now = _short(before.get(name)), _short(now.get(name))
            shown = name.replace("flags.", "--", 1) if name.startswith("flags.") else name
            yield f"{shown[:_SHOWN_CHARACTERS]} ({was} there, {is_now} now)"


def in_words(differing: Iterable[str]) -> str:
    """Differences in a line; the first ones where there are many."""
    all_of_them = list(differing)
    more = len(all_of_them) - _SHOWN_DIFFERENCES
    shown = all_of_them[:_SHOWN_DIFFERENCES] + ([f"{more} more"] if more > 0 else [])
    return ", ".join(shown)


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, below in value.items():
        if isinstance(below, dict) and name != _CHARACTERS:
            yield from _leaves(below, f"{above}{name}.")
        else:
            yield f"{above}{name}", below


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def begun(attempt: Attempt, job: Mapping[str, Any]) -> str:
    """When a job began; writes down what it is of, unless an earlier attempt at it has."""
    there = _job(attempt)
    if there is None:
        write_bytes(child(attempt.folder, JOB), json.dumps(job, indent=1).encode())
    return str((there or job)["created"])


def kept_shards(attempt: Attempt, shards: Sequence[Shard]) -> list[KeptShard]:
    """The shards that are noted as finished; whether their files are still so, workers look."""
    noted = set(list_files(child(attempt.folder, f"{NOTES_FOLDER}/**")))
    kept = []
    for shard in shards:
        path = child(attempt.folder, note_path(shard.key))
        if path not in noted:
            continue
        note = read_note(path)
        # Its file is moved by that path, which is not to lead anywhere else.
        if note is None or note.file.path != f"{LATENTS_FOLDER}/{shard.key.name}.parquet":
            continue
        there = child(attempt.folder, note.file.path)
        # An attempt that was interrupted while it published has moved some of its files.
        moved = child(attempt.output, note.file.path)
        kept.append(KeptShard(shard, note, there if exists(there) else moved))
    return kept


def read_note(path: str) -> ShardNote | None:
    """What is noted there; None for nothing, or nothing that can be read: it is made anew."""
    try:
        return ShardNote.from_json(read_bytes(path, MAX_JSON_BYTES)) if exists(path) else None
    except (ValueError, TypeError, OSError):
        return None


def finished_shards(attempt: Attempt) -> int:
    """How many shards an attempt has finished."""
    return len(list_files(child(attempt.folder, f"{NOTES_FOLDER}/**/*.json")))


def leave(attempt: Attempt, error: BaseException) -> BaseException:
    """Leaves what an attempt has finished for --resume; the error, with how far it came.

    An attempt that has finished nothing or all, or that came too late, is abandoned. One whose
    store fails is left as it is, and the store not asked for more.
    """
    if isinstance(error, FilledError) or publishing.is_known_done(attempt):
        publishing.abandon(attempt)
        return error
    flags, how_far = "--resume", ""
    if not isinstance(error, StoreFailedError):
        try:
            done = finished_shards(attempt)
            if is_run(attempt.output):
                flags = "--overwrite --resume"
            remove(child(attempt.folder, "staged"))
        except Exception as asking:
            if not (isinstance(asking, (OSError, RunError)) or is_file_system_error(asking)):
                raise
        else:
            if not done:
                publishing.abandon(attempt)
                return error
            how_far = f", {done} shard{'s' * (done > 1)}"
    publishing.release(attempt)
    hint = f"{flags} goes on with what is done{how_far}"
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt(hint)
    return type(error)(f"{error}; {hint}") if isinstance(error, JobError) else error
