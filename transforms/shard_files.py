"""The Parquet file that is written for each shard: what is in it, and what was written."""

import re
from typing import Any, NamedTuple, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.images import MAX_LABEL, NO_LABEL, PIXELS, Reject, Sample, ShardKey
from transforms.json_documents import is_count, is_name, is_path_below
from transforms.sizes import Sizes

NOTES_FOLDER = "notes"
"""Where an attempt notes, by shard, what it has finished."""

_TOKEN = re.compile(r"\.[0-9a-f]{12}(?=\.parquet$)")


class ShardFile(NamedTuple):
    """A Parquet file of a shard as written.

    path: below its folder. No ids if empty. images_sha256: of the images that it was made of, as
    ImageBatch has it of a whole shard; empty where nobody asked.
    """

    path: str
    split: str
    rows: int
    bytes: int
    sha256: str
    first_image_id: int | None
    last_image_id: int | None
    images_sha256: str = ""

    @property
    def final_path(self) -> str:
        """Its path without the token that tells it from what other executions wrote."""
        return _TOKEN.sub("", self.path)

    @property
    def order(self) -> tuple[str, int, str]:
        """What files are sorted by, as their shards are: part-100000 comes after part-99999."""
        return self.split, len(self.final_path), self.final_path


SHARD_FILE = {
    "path": is_path_below,
    "split": is_name,
    "rows": is_count,
    "bytes": is_count,
    "sha256": str,
    "first_image_id": (is_count, None),
    "last_image_id": (is_count, None),
    "images_sha256": str,
}
"""The shape of a ShardFile in JSON."""


class FinishedShard(NamedTuple):
    """A shard whose file is written, and all that is known of how it came to be.

    sizes: what was counted. rejects: the images that could not be read.
    """

    file: ShardFile
    sizes: Sizes
    rejects: tuple[Reject, ...] = ()
    sample: Sample = Sample()

    def to_json(self) -> bytes:
        """The note of it, for a later execution to find."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(content: bytes) -> "FinishedShard":
        """The shard of a note; raises ValueError where the bytes are not one."""
        try:
            finished = msgspec.json.decode(content, type=FinishedShard)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(str(error)) from error
        _check_sample(finished.sample)
        return finished


def _check_sample(sample: Sample) -> None:
    """Raises ValueError unless a sample can be drawn from."""
    count = len(sample.image_ids)
    fits = len(sample.labels) == count and len(sample.pixels) == count * PIXELS
    if not fits or not all(map(is_count, sample.image_ids)):
        raise ValueError("its sample is not of some images")
    if not all(NO_LABEL <= label <= MAX_LABEL for label in sample.labels):
        raise ValueError("its sample has labels that are none")


def note_path(shard: ShardKey) -> str:
    """Where a shard is noted, below the folder of an attempt."""
    return f"{NOTES_FOLDER}/{shard.name}.json"


class ShardFormat(Protocol):
    """What the rows of a shard look like in its file.

    folder: below the run directory. row_group_rows: of a row group.
    """

    @property
    def folder(self) -> str: ...

    @property
    def row_group_rows(self) -> int: ...

    def table(self, batch: Any) -> pa.Table:
        """The rows of a batch, ordered by image_id."""

    def open(self, sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
        """A writer of the file that has its metadata already."""
