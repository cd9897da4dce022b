"""Sealing: how one attempt becomes the output, whoever else tries, at once or late.

1. An attempt writes in its own folder, each file under a name that is used once.
2. `_claim.json` says which attempt may become the output, by the SHA-256 of its seal, and whose
   folders have to go first. It is exchanged by compare-and-set alone, and never removed.
3. Who claims removes those folders before anything else. A file comes into the output only by a
   request that needs its source there: an execution of a lost attempt that wakes up late can bring
   in nothing. Nor can it take anything away: on a disk, what is old moves into the attempt's
   folder; in a store, a blank file from there replaces it, and only a blank file is removed.
4. An older run's seal is taken away only as the version that was seen. Then its files are
   exchanged, and the new seal comes last.

Several executions of one attempt bring in the same bytes. The notes of its shards choose the same
files for all of them, and the seal, whose SHA-256 they claim, names every file by its SHA-256. One
whose seal differs (its machine has other versions) claims again, and removes the other's documents.
"""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from beam_job.outputs.attempt import (
    ATTEMPT_PREFIX,
    CLAIM,
    JOB,
    Attempt,
    Kind,
    attempt_ids,
    check_no_links,
    folder_of,
    id_in,
    remove_attempt,
    sealed_id,
)
from transforms.errors import (
    STORAGE_ERRORS,
    ChangedError,
    FilledError,
    RunError,
    StoreFailedError,
)
from transforms.json_documents import Document, check_path_below, decode, read_document
from transforms.storage.files import (
    Versioned,
    child,
    discard,
    exists,
    for_each,
    is_local,
    list_folder,
    publish_all,
    read_bytes,
    read_versioned,
    remove_if,
    swap,
    withdraw,
    write_bytes,
)

_TRIES = 20
_BLANK = "blank"


class Claim(msgspec.Struct, frozen=True):
    """_claim.json: which attempt may become an output, and what has to go before.

    seal: the SHA-256 of the seal. documents: the folder, below the output, that it comes from.
    lost: folders, below the output, that have to go.
    """

    attempt: str | None
    seal: str
    documents: str
    lost: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.lost:
            check_path_below(name)
            if not name.startswith(ATTEMPT_PREFIX):
                raise ValueError(f"{name[:60]!r} is not a folder of an attempt")

    def is_lost(self, run_id: str) -> bool:
        """Whether an attempt may no longer become the output."""
        return f"{ATTEMPT_PREFIX}{run_id}" in self.lost


class _Own(NamedTuple):
    """What one execution would make the output of.

    documents: its folder, below the output. sources: by the name in the output, the seal last.
    """

    documents: str
    seal: str
    sources: Mapping[str, str]


def seal(
    attempt: Attempt,
    kind: Kind,
    files: Mapping[str, str],
    documents: Mapping[str, bytes],
    content: bytes,
    *,
    replace: bool,
    blank: bytes = b"\n",
) -> None:
    """Makes an attempt the output; does nothing where another execution has done so.

    files: the name of each file in the output, and where it is in the attempt's folder. documents:
    the content of other files, by name. content: of the seal. replace: whether a complete run may
    be replaced. blank: a Parquet file without rows, like no file of a run; what a store has under a
    name that only the older run has becomes this, and is removed then.

    Raises FilledError where another attempt became the output, or is about to; RunError where a
    file of the attempt is gone.
    """
    check_no_links(attempt.output, kind.owned)
    # All sources are there before the claim, so that who claims next finds them all to remove.
    own = _write(attempt, kind, files, {**documents, kind.seal: content}, blank)
    problem: Exception = FilledError(_busy(attempt, kind))
    for _ in range(_TRIES):
        try:
            if _is_done(attempt, kind, own, replace=replace):
                break
        except ChangedError:
            continue
        except FileNotFoundError as error:  # Another execution may have moved it: see once more.
            problem = RunError(_gone(error.filename))
    else:
        raise problem
    with suppress(*STORAGE_ERRORS, RunError):  # The run is there, whatever stays next to it.
        remove_attempt(attempt)


def _write(
    attempt: Attempt,
    kind: Kind,
    files: Mapping[str, str],
    documents: Mapping[str, bytes],
    blank: bytes,
) -> _Own:
    name = f"documents-{uuid.uuid4().hex}"
    folder = child(attempt.folder, name)
    local = is_local(folder)
    if local:
        Path(_trash(folder)).mkdir(parents=True)
    blanks = {} if local else {_BLANK: blank}
    for document, content in {**documents, **blanks}.items():
        write_bytes(child(folder, document), content)
    sources = {of: child(attempt.folder, source) for of, source in files.items()}
    sources |= {document: child(folder, document) for document in documents}
    below = f"{ATTEMPT_PREFIX}{attempt.run_id}/{name}"
    return _Own(below, sha256(documents[kind.seal]).hexdigest(), sources)


def _trash(documents: str) -> str:
    """Where, on a disk, an execution moves what is old: it goes with its documents."""
    return child(documents, "trash")


def _is_done(attempt: Attempt, kind: Kind, own: _Own, *, replace: bool) -> bool:
    """Goes one step on: claims, or exchanges what was claimed; whether the run is sealed then.

    The seal is read after the folders that had to go are gone: nobody else can seal any more, but
    who claims after it, which removes this attempt's folder.
    """
    output = attempt.output
    claim, seen = read_claim(output)
    is_claimed = (claim.attempt, claim.seal) == (attempt.run_id, own.seal)
    if is_claimed:
        trash = _trash(child(output, own.documents))
        discard([child(output, name) for name in claim.lost], trash)
    older = read_versioned(child(output, kind.seal))
    sealed = id_in(older, kind)
    if sealed == attempt.run_id:
        return True
    _check_may_claim(attempt, kind, claim, sealed, replace=replace)
    if is_claimed:
        _exchange(attempt, kind, own, older)
    else:
        _claim(attempt, claim, seen, sealed, own)
    return is_claimed


def _claim(
    attempt: Attempt, before: Claim, seen: Versioned | None, sealed: str | None, own: _Own
) -> None:
    if not exists(list(own.sources.values())[-1]):  # Another execution has claimed with its own.
        raise RunError(_gone(child(attempt.output, own.documents)))
    others = {before.attempt, sealed, *attempt.replaces} - {attempt.run_id}
    there = [f"{ATTEMPT_PREFIX}{run_id}" for run_id in attempt_ids(attempt.output)]
    lost = [
        name for name in there if name in before.lost or name.removeprefix(ATTEMPT_PREFIX) in others
    ]
    if before.attempt == attempt.run_id:
        lost.append(before.documents)
    claim = Claim(attempt.run_id, own.seal, own.documents, tuple(lost))
    swap(child(attempt.output, CLAIM), msgspec.json.encode(claim), seen)


def read_claim(output: str) -> tuple[Claim, Versioned | None]:
    """The claim of an output, as it was seen; nobody's where there is none that can be read."""
    seen = read_versioned(child(output, CLAIM))
    with suppress(ValueError):
        return decode(seen.content if seen else b"", Claim), seen
    return Claim(None, "", "", ()), seen


def _check_may_claim(
    attempt: Attempt, kind: Kind, claim: Claim, sealed: str | None, *, replace: bool
) -> None:
    flag = f"--output={attempt.output}"
    stays = "while this one worked, and that one stays: give another folder, or --overwrite"
    if claim.is_lost(attempt.run_id):
        raise FilledError(f"{flag} was overwritten by another command {stays}")
    if sealed is not None and not replace:
        raise FilledError(f"{flag} was filled by another command {stays}")
    if not exists(child(attempt.folder, JOB)):
        raise RunError(_gone(child(attempt.folder, JOB)))
    others = {None, sealed, attempt.run_id, *attempt.replaces}
    if claim.attempt in others or replace:
        return
    if exists(child(folder_of(attempt.output, str(claim.attempt)), JOB)):
        raise FilledError(_busy(attempt, kind))


def _gone(path: str) -> str:
    return f"{path} is gone: something removed it while the job ran; run it again"


def _busy(attempt: Attempt, kind: Kind) -> str:
    ways = "--resume or --overwrite" if kind.resumable else "--overwrite"
    return (
        f"--output={attempt.output} is being written by another command, and that one stays: wait "
        f"for it; if it was killed, give {ways}"
    )


def _exchange(attempt: Attempt, kind: Kind, own: _Own, older: Versioned | None) -> None:
    """Puts the attempt's files in the place of an older run's, the seal last.

    Raises FileNotFoundError where a source is gone, ChangedError where the seal is another one.
    """
    output, documents = attempt.output, child(attempt.output, own.documents)
    there = {file.path for file in list_folder(attempt.folder)}
    for source in own.sources.values():
        if source not in there:  # While the older run is whole still.
            raise FileNotFoundError(2, "there is no such file", source)
    if older is not None:
        withdraw(child(output, kind.seal), older, lock=child(output, CLAIM))
    pairs = [(source, child(output, name)) for name, source in own.sources.items()]
    kept = {path for _, path in pairs}
    found = [file.path for name in kind.owned for file in list_folder(child(output, name))]
    found += [path for path in (child(output, name) for name in kind.documents) if exists(path)]
    stale = [path for path in found if path not in kept]
    if is_local(output):
        discard(stale, _trash(documents))
    else:
        blank = child(documents, _BLANK)
        publish_all([(blank, path) for path in stale])
        for_each(lambda path: _remove_blank(path, blank), stale)
    publish_all(pairs[:-1])
    publish_all(pairs[-1:])


def _remove_blank(path: str, blank: str) -> None:
    """Removes an object that is blank; ChangedError where it is not."""
    seen = read_versioned(path)
    if seen is None:
        return
    if seen.content != read_bytes(blank):
        raise ChangedError(path)
    remove_if(path, seen)


def is_sealed(attempt: Attempt, kind: Kind) -> bool:
    """Whether an attempt has become the output."""
    return sealed_id(attempt.output, kind) == attempt.run_id


def read_sealed(output: str, name: str, kind: type[Document]) -> Document:
    """A document of an output that has just been sealed.

    Raises FilledError where it cannot be read any more, StoreFailedError where its store fails.
    """
    try:
        return read_document(child(output, name), kind)
    except StoreFailedError as error:
        raise StoreFailedError(
            f"--output={output} is complete, and what came of it could not be read: {error}"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FilledError(
            f"--output={output} was written, and cannot be read any more ({reason}): see whether "
            "another command overwrote or removed it, or give another folder"
        ) from error
