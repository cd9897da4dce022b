"""The protocols of the first edition, in a few lines each, for the interleavings to find wrong.

They stand for publishing.py and write_shards.py of commit 6de75b0.
"""

import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from beam_job import completion
from beam_job.outputs import seal
from beam_job.outputs.attempt import JOB, Attempt, Kind
from transforms import write_shards
from transforms.errors import FilledError, RunError
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
    attempt: Attempt, kind: Kind, files: Mapping[str, str], content: bytes, *, replace: bool
) -> None:
    """Looks whether it may, removes the seal and what is old, moves all files, and seals."""
    output, folder = attempt.output, attempt.folder
    if not replace and exists(child(output, kind.seal)):
        raise FilledError("--output was filled by another command: --overwrite")
    if not exists(child(folder, JOB)):
        raise FilledError("--output was overwritten by another command: --overwrite")
    write_bytes(child(folder, kind.seal), content)
    remove(child(output, kind.seal))
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

EACH_ITS_OWN: list[Any] = [(seal, "_sources", lambda _, own, __: own.sources)]
"""Every execution of the last step publishes the files that it was given."""
