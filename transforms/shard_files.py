"""The Parquet file of a shard: what was written, and the note that decides which file counts.

A runner may execute a bundle twice, at once or late. Each execution writes files of its own, with a
token in the name. The first one to note a shard decides: every other execution finds that note, and
continues with the file that it names.
"""

import re
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import ChangedError
from transforms.images import PIXELS, Reject, Sample, ShardKey
from transforms.json_documents import (
    MAX_JSON_BYTES,
    Count,
    check_name,
    check_path_below,
    decode,
)
from transforms.sizes import Sizes
from transforms.storage.files import child, file_facts, read_bytes, read_versioned, swap

NOTES_FOLDER = "notes"
"""Where an attempt notes, by shard, what it has finished."""

_TOKEN = re.compile(r"\.[0-9a-f]{12}(?=\.parquet$)")


class ShardFile(msgspec.Struct, frozen=True):
    """A Parquet file of a shard as written.

    path: below its folder. The ids are None for an empty file. images_sha256: of the images that it
    was made of, as ImageBatch has it of a whole shard; empty where nobody asked. Raises ValueError
    for a path or a split that could lead elsewhere.
    """

    path: str
    split: str
    rows: Count
    bytes: Count
    sha256: str
    first_image_id: Count | None
    last_image_id: Count | None
    images_sha256: str = ""

    def __post_init__(self) -> None:
        check_path_below(self.path)
        check_name(self.split)

    @property
    def final_path(self) -> str:
        """Its path without the token that tells it from what other executions wrote."""
        return _TOKEN.sub("", self.path)

    @property
    def published(self) -> "ShardFile":
        """The file as it is once it has its final path."""
        return msgspec.structs.replace(self, path=self.final_path)

    @property
    def order(self) -> tuple[str, int, str]:
        """The sort key of files in the order of their shards: part-100000 is after part-99999."""
        return self.split, len(self.final_path), self.final_path


class FinishedShard(msgspec.Struct, frozen=True):
    """A shard whose file is written, and all that was counted on the way: the shard's note.

    rejects: the images that could not be read.
    """

    file: ShardFile
    sizes: Sizes
    rejects: tuple[Reject, ...] = ()
    sample: Sample = Sample()

    def __post_init__(self) -> None:
        ids, labels, pixels, _ = self.sample
        if len(labels) != len(ids) or len(pixels) != len(ids) * PIXELS:
            raise ValueError("its sample has parts of different lengths")


def read_note(folder: str, name: str, latent_bytes: int = 0) -> FinishedShard | None:
    """The finished shard that is noted below `folder`, if its file is there as it was written.

    name: the final path of the shard's file, as `shard_path` has it. latent_bytes: of one latent in
    the sample. None where there is no note, or one that cannot be used: the shard is done again.
    """
    try:
        content = read_bytes(child(folder, note_path(name)), MAX_JSON_BYTES)
    except OSError:
        return None
    return _usable(folder, name, latent_bytes, content)


def write_note(folder: str, name: str, finished: FinishedShard) -> FinishedShard:
    """Notes a shard, unless another execution has; the shard that is noted then."""
    path, seen = child(folder, note_path(name)), None
    latent_bytes = len(finished.sample.latents) // max(1, len(finished.sample.image_ids))
    while True:
        try:
            swap(path, msgspec.json.encode(finished), seen)
        except ChangedError:
            seen = read_versioned(path)
            noted = seen and _usable(folder, name, latent_bytes, seen.content)
            if noted is not None:
                return noted
        else:
            return finished


def _usable(folder: str, name: str, latent_bytes: int, content: bytes) -> FinishedShard | None:
    try:
        noted = decode(content, FinishedShard)
        file, sample = noted.file, noted.sample
        is_of_shard = file.final_path == name and f"/split={file.split}/" in name
        is_sample_whole = len(sample.latents) == len(sample.image_ids) * latent_bytes
        if not (is_of_shard and is_sample_whole):
            return None
        is_file_whole = file_facts(child(folder, file.path)) == (file.bytes, file.sha256)
    except (ValueError, TypeError, OSError):
        return None
    return noted if is_file_whole else None


def shard_path(folder: str, shard: ShardKey) -> str:
    """The final path of a shard's file. folder: below the output, as "latents"."""
    return f"{folder}/{shard.name}.parquet"


def note_path(name: str) -> str:
    """Where a shard is noted, by the final path of its file."""
    return f"{NOTES_FOLDER}/{name.partition('/')[2].removesuffix('.parquet')}.json"


class ShardFormat(Protocol):
    """What the rows of a shard look like in its file.

    folder: below the output. row_group_rows: of a row group.
    """

    @property
    def folder(self) -> str: ...

    @property
    def row_group_rows(self) -> int: ...

    def table(self, batch: Any) -> pa.Table:
        """The rows of a batch, ordered by image_id."""

    def open(self, sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
        """A writer of the file that has its metadata already."""
