"""Sealing: how one attempt becomes the output, whoever else tries, at once or late.

1. Everything of an attempt is written in its own folder, each file under a name that no other
   execution uses, not even of the same attempt: what was removed never comes back.
2. `_claim.json` says which attempt may become the output, by which of its files, and which attempts
   may no more. It is only ever exchanged by compare-and-set, and never removed. Two executions of
   the last step may have been given different files of the same shards; the first one to claim
   chooses for both.
3. Who claims removes the folders of those that lost, before anything else. A file comes into the
   output only by a request that names its source there, and fails when that is gone: so an
   execution of a lost attempt that wakes up late can bring in nothing.
4. An older run's seal is taken away only as the version that was seen. Then its files are
   exchanged, and the new seal comes last, from the attempt's folder like all else.

An attempt whose run is sealed has nothing left to do: its second execution finds that, and ends.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from beam_job.outputs.attempt import (
    CLAIM,
    JOB,
    Attempt,
    Kind,
    check_no_links,
    folder_of,
    id_in,
    remove_attempt,
    sealed_id,
)
from transforms.errors import FilledError, RunError
from transforms.json_documents import check_shape, is_name, is_path_below, read_json
from transforms.storage.errors import STORAGE_ERRORS, ChangedError
from transforms.storage.files import (
    FileFacts,
    Versioned,
    child,
    discard,
    discard_folder,
    exists,
    for_each,
    is_local,
    list_folder,
    publish_all,
    read_bytes,
    read_versioned,
    swap,
    withdraw,
    write_bytes,
)

PUBLISHED, NOT_PUBLISHED = "what it writes had been published", "nothing was published"
"""What an interrupted command says first."""

_TRIES = 100
_REMEMBERED = 20
"""Attempts that lost whose folders a claim removes again, in case who claimed before it did not."""


class Claim(NamedTuple):
    """Which attempt may become an output, by which plan of its, and which ones may no more."""

    attempt: str | None
    plan: str | None
    lost: tuple[str, ...]
    seen: Versioned | None


class _Plan(NamedTuple):
    """What one execution would make the output of.

    sources: by the name in the output. trash: where, on a disk, the files of an older run go.
    Nobody makes it again, so it is there as long as this execution may take files away.
    """

    name: str
    sources: Mapping[str, str]
    trash: str


def write_documents(
    attempt: Attempt, documents: Mapping[str, bytes]
) -> tuple[dict[str, str], dict[str, FileFacts]]:
    """Writes files of the last step in the attempt: where each is for `seal`, and its facts."""
    folder = f"documents-{uuid.uuid4().hex}"
    sources = {name: f"{folder}/{name}" for name in documents}
    facts = {
        name: write_bytes(child(attempt.folder, sources[name]), content)
        for name, content in documents.items()
    }
    return sources, facts


def seal(
    attempt: Attempt, kind: Kind, files: Mapping[str, str], content: bytes, *, replace: bool
) -> None:
    """Makes an attempt the output; does nothing where another execution has done so.

    files: the name of each file in the output, and where it is in the attempt's folder, under a
    name that no other execution uses. content: of the seal. replace: whether a complete run may be
    replaced. Raises FilledError where another attempt became the output, or is about to; RunError
    where a file of the attempt is gone.
    """
    check_no_links(attempt.output, kind.owned)
    # All sources are there before the claim, so that who claims next finds them all to remove.
    own = _write_plan(attempt, kind, files, content)
    chosen, unusable = own.name, None
    for _ in range(_TRIES):
        try:
            older, chosen = _claim(attempt, kind, own, unusable, replace=replace)
            if older is not None and id_in(older, kind) == attempt.run_id:
                break
            _exchange(attempt, kind, _sources(attempt, own, chosen), older, own.trash)
            break
        except ChangedError:
            continue
        except FileNotFoundError as error:
            if _is_sealed_or_lost(attempt, kind):
                break
            if not _is_damaged(attempt, own, chosen):
                continue  # It was a file of the output, which another execution exchanged.
            if chosen == own.name:
                raise RunError(_gone(error.filename)) from error
            unusable = chosen
    else:
        raise FilledError(_busy(attempt, kind))
    with suppress(*STORAGE_ERRORS, RunError):  # The run is there, whatever stays next to it.
        remove_attempt(attempt)


def is_sealed(attempt: Attempt, kind: Kind) -> bool:
    """Whether an attempt has become the output."""
    return sealed_id(attempt.output, kind) == attempt.run_id


@contextmanager
def interruptible(attempt: Attempt, kind: Kind) -> Iterator[None]:
    """Lets an interrupt carry what became of the output: whether it had been published by then."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if interrupt.args:
            raise
        sealed = False
        with suppress(*STORAGE_ERRORS):  # A store that fails is not what the user has to hear of.
            sealed = is_sealed(attempt, kind)
        raise KeyboardInterrupt(PUBLISHED if sealed else NOT_PUBLISHED) from interrupt


def _write_plan(attempt: Attempt, kind: Kind, files: Mapping[str, str], content: bytes) -> _Plan:
    """Writes the seal, and which file comes from where with the seal last, in the attempt."""
    token = uuid.uuid4().hex
    sources = {**files, kind.seal: f"seal-{token}.json"}
    plan = _Plan(f"plan-{token}.json", sources, child(attempt.folder, f"trash-{token}"))
    if is_local(plan.trash):
        Path(plan.trash).mkdir(parents=True)
    write_bytes(child(attempt.folder, plan.sources[kind.seal]), content)
    write_bytes(child(attempt.folder, plan.name), json.dumps(plan.sources).encode())
    return plan


def _sources(attempt: Attempt, own: _Plan, chosen: str) -> Mapping[str, str]:
    """The sources of the plan that was chosen; raises FileNotFoundError where there is none.

    Nothing in it leads out of the output, or of the attempt's folder.
    """
    if chosen == own.name:
        return own.sources
    path = child(attempt.folder, chosen)
    with suppress(ValueError):
        plan = json.loads(read_bytes(path) if is_name(chosen) else b"")
        check_shape(plan, {...: is_path_below})
        if all(map(is_path_below, plan)):
            return dict(plan)
    raise FileNotFoundError(2, "this is not a plan", path)


def _is_damaged(attempt: Attempt, own: _Plan, chosen: str) -> bool:
    """Whether something was removed by hand that the plan, or the exchange, needs."""
    try:
        needed = _sources(attempt, own, chosen).values()
    except FileNotFoundError:
        return True
    is_trash_there = exists(own.trash) or not is_local(own.trash)
    return not is_trash_there or not all(exists(child(attempt.folder, name)) for name in needed)


def _claim(
    attempt: Attempt, kind: Kind, own: _Plan, unusable: str | None, *, replace: bool
) -> tuple[Versioned | None, str]:
    """Makes an attempt the one that may become the output; the seal before it, and by which plan.

    The plan is that of the execution of this attempt that claimed first, unless that is unusable.
    The seal is read when those that lost can seal no more, and the claim once again after it: as it
    is this attempt's still, who claims later and seals makes it another version.
    """
    path, seal_path = child(attempt.output, CLAIM), child(attempt.output, kind.seal)
    older = read_versioned(seal_path)
    sealed = older and id_in(older, kind)
    if sealed == attempt.run_id:
        return older, own.name
    claim = _read_claim(path)
    _check_may_claim(attempt, kind, claim, sealed, replace=replace)
    lost, plan = claim.lost, claim.plan
    if claim.attempt != attempt.run_id or plan is None or plan == unusable:
        plan = own.name
        before = (claim.attempt, sealed, *attempt.replaces, *claim.lost)
        others = dict.fromkeys(name for name in before if name and name != attempt.run_id)
        lost = tuple(others)[:_REMEMBERED]
        claimed = {"attempt": attempt.run_id, "plan": own.name, "lost": lost}
        swap(path, json.dumps(claimed).encode(), claim.seen)
    for_each(
        lambda name: discard_folder(folder_of(attempt.output, name), own.trash),
        [name for name in lost if is_name(name)],
    )
    older = read_versioned(seal_path)
    sealed = older and id_in(older, kind)
    if sealed not in (None, attempt.run_id):
        claim = _read_claim(path)
        if claim.attempt != attempt.run_id:
            raise ChangedError(path)
        _check_may_claim(attempt, kind, claim, sealed, replace=replace)
    return older, plan


def read_claim(output: str) -> Claim:
    """Which attempt may become an output, and which ones may no more."""
    return _read_claim(child(output, CLAIM))


def _read_claim(path: str) -> Claim:
    seen = read_versioned(path)
    with suppress(ValueError, KeyError, TypeError):
        content: Any = json.loads(seen.content if seen else b"null")
        plan = content["plan"] and str(content["plan"])
        return Claim(str(content["attempt"]), plan, tuple(map(str, content["lost"])), seen)
    return Claim(None, None, (), seen)


def _check_may_claim(
    attempt: Attempt, kind: Kind, claim: Claim, sealed: str | None, *, replace: bool
) -> None:
    if attempt.run_id in claim.lost:
        raise FilledError(
            f"--output={attempt.output} was overwritten by another command while this one worked, "
            "and that one stays: give another folder, or --overwrite"
        )
    if sealed is not None and not replace:
        raise FilledError(
            f"--output={attempt.output} was filled by another command while this one worked, and "
            "that one stays: give another folder, or --overwrite"
        )
    if not exists(child(attempt.folder, JOB)):
        raise RunError(_gone(child(attempt.folder, JOB)))
    others = {sealed, attempt.run_id, *attempt.replaces}
    if claim.attempt is None or claim.attempt in others or replace:
        return
    if exists(child(folder_of(attempt.output, claim.attempt), JOB)):
        raise FilledError(_busy(attempt, kind))


def _gone(path: str) -> str:
    return f"{path} is gone: something removed it while the job ran; run it again"


def _busy(attempt: Attempt, kind: Kind) -> str:
    ways = "--resume or --overwrite" if kind.resumable else "--overwrite"
    return (
        f"--output={attempt.output} is being written by another command, and that one stays: wait "
        f"for it; if it was killed, give {ways}"
    )


def _exchange(
    attempt: Attempt,
    kind: Kind,
    sources: Mapping[str, str],
    older: Versioned | None,
    trash: str,
) -> None:
    """Puts the attempt's files in the place of an older run's, the seal last.

    Raises FileNotFoundError where a source is gone, ChangedError where the seal is another one.
    """
    output, claim_path = attempt.output, child(attempt.output, CLAIM)
    pairs = [
        (child(attempt.folder, source), child(output, name)) for name, source in sources.items()
    ]
    _check_all_there(attempt, pairs)
    if older is not None:
        withdraw(child(output, kind.seal), older, lock=claim_path)
    kept = {child(output, name) for name in sources}
    found = [file.path for name in kind.owned for file in list_folder(child(output, name))]
    found += [path for path in (child(output, name) for name in kind.documents) if exists(path)]
    stale = [path for path in found if path not in kept]
    if stale and _read_claim(claim_path).attempt == attempt.run_id:
        discard(stale, trash)
    publish_all(pairs[:-1])
    publish_all(pairs[-1:])


def _check_all_there(attempt: Attempt, pairs: Sequence[tuple[str, str]]) -> None:
    """Raises FileNotFoundError for a source that is gone, while an older run is whole still."""
    there = {file.path for file in list_folder(attempt.folder)}
    for source, _ in pairs:
        if source not in there:
            raise FileNotFoundError(2, "there is no such file", source)


def _is_sealed_or_lost(attempt: Attempt, kind: Kind) -> bool:
    """Whether an attempt has become the output; raises FilledError, or RunError, if it may not."""
    if is_sealed(attempt, kind):
        return True
    claim = _read_claim(child(attempt.output, CLAIM))
    _check_may_claim(attempt, kind, claim, None, replace=True)
    return False


def read_sealed(output: str, kind: Kind, *names: str) -> list[Any]:
    """JSON that a command has just sealed; FilledError where it cannot be read any more."""
    try:
        return [read_json(child(output, name)) for name in (kind.seal, *names)]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FilledError(
            f"--output={output} was written, and cannot be read any more ({reason}): see whether "
            "another command overwrote or removed it, or give another folder"
        ) from error
