"""The protocols of the first edition, in a few lines each, for the interleavings to find wrong.

They stand for publishing.py and write_shards.py of commit 6de75b0.
"""

import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec

from beam_job.compress import complete as completion
from beam_job.outputs import seal
from beam_job.outputs.attempt import JOB, Attempt, Kind
from transforms import write_shards
from transforms.errors import FilledError, RunError
from transforms.shard_files import FinishedShard, note_path
from transforms.storage.files import (
    child,
    exists,
    list_folder,
    publish_all,
    remove,
    write_bytes,
)


def _move(source: str, destination: str) -> None:
    """Moves a file; one that was moved already is there."""
    try:
        publish_all([(source, destination)])
    except FileNotFoundError as error:
        if not exists(destination):
            raise RunError(f"{source} is gone") from error
    remove(source)


def remove_move_seal(
    attempt: Attempt,
    kind: Kind,
    files: Mapping[str, str],
    documents: Mapping[str, bytes],
    content: bytes,
    *,
    replace: bool,
    **_: bytes,
) -> None:
    """Looks whether it may, removes the seal and what is old, moves all files, and seals."""
    output, folder = attempt.output, attempt.folder
    if not replace and exists(child(output, kind.seal)):
        raise FilledError("--output was filled by another command: --overwrite")
    if not exists(child(folder, JOB)):
        raise FilledError("--output was overwritten by another command: --overwrite")
    for document in {**documents, kind.seal: content}.items():
        write_bytes(child(folder, document[0]), document[1])
    remove(child(output, kind.seal))
    files = {**files, **{name: name for name in documents}}
    kept = {child(output, name) for name in files}
    for owned in kind.owned:
        for file in list_folder(child(output, owned)):
            if file.path not in kept:
                remove(file.path)
    for name, source in files.items():
        _move(child(folder, source), child(output, name))
    _move(child(folder, kind.seal), child(output, kind.seal))
    remove(folder)


FAULT_1: list[Any] = [(completion, "seal", remove_move_seal)]
"""The last step removes the seal, moves, and seals, whoever else has done so."""

_SAME_ID = SimpleNamespace(uuid4=lambda: uuid.UUID(int=0))
FAULT_2: list[Any] = [(write_shards, "uuid", _SAME_ID)]
"""Every execution writes a shard's file under the same name."""


def _last_note_wins(folder: str, name: str, finished: FinishedShard) -> FinishedShard:
    write_bytes(child(folder, note_path(name)), msgspec.json.encode(finished))
    return finished


EACH_ITS_OWN: list[Any] = [
    (write_shards, "write_note", _last_note_wins),
    (seal, "sha256", lambda _: SimpleNamespace(hexdigest=lambda: "0" * 64)),
]
"""Every execution continues with the files and with the seal that it wrote itself."""
