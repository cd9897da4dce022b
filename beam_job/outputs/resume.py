"""Continuing an unfinished output: what it is a try at, and how far it came.

An attempt says in `job.json` what decides the content of its files, and notes each shard as its
file is there. A later command for the same job takes the attempt, and the graph finds what is done.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from beam_job.outputs.attempt import (
    JOB,
    Attempt,
    Job,
    Kind,
    abandon,
    begin,
    read_job,
    sealed_id,
    unfinished_attempts,
)
from beam_job.outputs.seal import is_sealed, read_claim
from transforms.errors import (
    STORAGE_ERRORS,
    FilledError,
    InputError,
    JobError,
    JobLostError,
    RunError,
    StoreFailedError,
)
from transforms.json_documents import encode
from transforms.shard_files import NOTES_FOLDER
from transforms.storage.files import child, list_folder, remove, write_bytes

PUBLISHED, NOT_PUBLISHED = "what it writes had been published", "nothing was published"
"""What an interrupted command says first."""
STAGED_FOLDER = "staged"
"""Of an attempt: what of its input cannot be read from the middle, as Parquet."""
_CHARACTERS = "characters"
"""One thing, however many there are."""
_SHOWN_CHARACTERS = 60
_SHOWN_DIFFERENCES = 10


@dataclass
class Work:
    """A command's attempt at an output. stays: whether its job continues without this process."""

    attempt: Attempt
    stays: bool = False


@contextmanager
def attempting(
    output: str, kind: Kind, flag: str = "--output", *, replace: bool = True
) -> Iterator[Work]:
    """One attempt at an output, which ends sealed, left for --resume, or removed.

    replace: whether it puts an end to those that are there. An error in the block says how far the
    attempt came; an interrupt, whether the output had been published by then.
    """
    work = Work(begin(output, flag, replace=replace))
    try:
        yield work
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not error.args:
            error.args = (_how_far_published(work.attempt, kind),)
        left = leave(work.attempt, kind, error)
        if left is error:
            raise
        if left is not None:
            raise left from error
    if not work.stays:
        abandon(work.attempt)


def _how_far_published(attempt: Attempt, kind: Kind) -> str:
    with suppress(*STORAGE_ERRORS):  # A store that fails is not what the user has to hear of.
        return PUBLISHED if is_sealed(attempt, kind) else NOT_PUBLISHED
    return NOT_PUBLISHED


@contextmanager
def after_publication() -> Iterator[None]:
    """Lets an interrupt in the block say that the output had been published."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(PUBLISHED) from interrupt


def continued(attempt: Attempt, job: Job, *, strictly: bool) -> Attempt:
    """The unfinished attempt at the same job, instead of this one; this one where there is none.

    strictly: raises InputError where there are only attempts at other jobs.
    """
    claim, _ = read_claim(attempt.output)
    there = unfinished_attempts(attempt.output)
    others = [
        one for one in there if one.run_id != attempt.run_id and not claim.is_lost(one.run_id)
    ]
    known = [(other, found) for other in others if (found := read_job(other)) is not None]
    same = [other for other, found in known if not list(_differences(found, job))]
    if not same and known and strictly:
        other, found = known[0]
        raise InputError(
            f"--resume: the unfinished run {other.folder} is another one, by "
            f"{in_words(_differences(found, job))}: give the same flags to continue it, or "
            "--overwrite without --resume to start again"
        )
    if not same:
        return attempt
    best = max(same, key=lambda other: (other.run_id == claim.attempt, finished_shards(other)))
    abandon(attempt)
    replaces = tuple(name for name in attempt.replaces if name != best.run_id)
    return best._replace(replaces=(*replaces, attempt.run_id), continued=True)


def _differences(there: Job, here: Job) -> Iterator[str]:
    return differences(msgspec.to_builtins(there), msgspec.to_builtins(here))


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


def describe(attempt: Attempt, job: Job) -> str:
    """When a job began; writes down what it is, unless an earlier command for it has."""
    there = read_job(attempt)
    if there is None:
        write_bytes(child(attempt.folder, JOB), encode(job))
    return (there or job).created


def finished_shards(attempt: Attempt) -> int:
    """How many shards an attempt has finished."""
    return len(list_folder(child(attempt.folder, NOTES_FOLDER)))


def leave(attempt: Attempt, kind: Kind, error: BaseException) -> BaseException | None:
    """Leaves what an attempt has finished for --resume; the error, with how far it came.

    None where the output is complete all the same. An attempt that has finished nothing, or that
    came too late, is abandoned, unless another command's job may be at work in it. One whose store
    fails is left as it is, and the store not asked for more; one whose job is lost is the job's.
    """
    if isinstance(error, JobLostError):
        return error
    flags, how_far = "--resume", ""
    if not isinstance(error, StoreFailedError):
        try:
            sealed, done = sealed_id(attempt.output, kind), finished_shards(attempt)
            is_sealed = sealed == attempt.run_id
            if is_sealed or isinstance(error, FilledError) or not done:
                if is_sealed or not attempt.continued:
                    abandon(attempt)
                return None if is_sealed and isinstance(error, Exception) else error
            flags = "--resume" if sealed is None else "--overwrite --resume"
            remove(child(attempt.folder, STAGED_FOLDER))
            how_far = f", {done} shard{'s' * (done > 1)}"
        except (*STORAGE_ERRORS, RunError):
            pass  # Why the command failed is what the user has to hear.
    hint = f"{flags} continues with what is done{how_far}"
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt(*error.args, hint)
    return type(error)(f"{error}; {hint}") if isinstance(error, JobError) else error
