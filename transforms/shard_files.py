"""The Parquet file that is written for each shard: what is in it, and what was written."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from transforms.images import ImageBatch, ShardKey
from transforms.json_documents import check_shape, is_count, is_name, is_path_below, parse_json
from transforms.latents import LatentBatch

NOTES_FOLDER = "notes"
"""Where an attempt notes, by shard, what it has finished."""


class ShardFile(NamedTuple):
    """A Parquet file of a shard as written. path: below the run directory; no ids if empty."""

    path: str
    split: str
    rows: int
    bytes: int
    sha256: str
    first_image_id: int | None
    last_image_id: int | None


SHARD_FILE = {
    "path": is_path_below,
    "split": is_name,
    "rows": is_count,
    "bytes": is_count,
    "sha256": str,
    "first_image_id": (is_count, None),
    "last_image_id": (is_count, None),
}
"""The shape of a ShardFile in JSON."""


class ShardNote(NamedTuple):
    """What an attempt notes of a shard whose file is written, for a later one to go on from.

    images_sha256: what shard_sha256 gave for the images that the file was made of.
    """

    file: ShardFile
    images_sha256: str

    def to_json(self) -> bytes:
        """As it is noted."""
        noted = {**self.file._asdict(), "images_sha256": self.images_sha256}
        return json.dumps(noted).encode()

    @staticmethod
    def from_json(content: bytes) -> "ShardNote":
        """Raises ValueError or TypeError where the bytes are no note."""
        noted = parse_json(content)
        check_shape(noted, {**SHARD_FILE, "images_sha256": str})
        images_sha256 = noted.pop("images_sha256")
        return ShardNote(ShardFile(**noted), images_sha256)


def note_path(shard: ShardKey) -> str:
    """Where a shard is noted, below the folder of an attempt."""
    return f"{NOTES_FOLDER}/{shard.name}.json"


def shard_sha256(batches: Sequence[ImageBatch | LatentBatch]) -> str:
    """SHA-256 over those of a shard's batches, in order of their images."""
    ordered = sorted(batches, key=lambda batch: (len(batch) > 0, batch.image_ids[:1].tolist()))
    return sha256("".join(batch.sha256 for batch in ordered).encode()).hexdigest()


class ShardFormat(Protocol):
    """What the rows of a shard look like in its file. folder: below the run directory."""

    @property
    def folder(self) -> str: ...

    def table(self, batches: list[Any]) -> pa.Table:
        """The rows of a shard, ordered by image_id."""

    def content(self, table: pa.Table) -> bytes:
        """The bytes of the file."""
