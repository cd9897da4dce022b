"""The Parquet file that is written for each shard: what is in it, and what was written."""

from typing import Any, NamedTuple, Protocol

import pyarrow as pa


class ShardFile(NamedTuple):
    """A Parquet file of a shard as written. path: below the run directory; no ids if empty."""

    path: str
    split: str
    rows: int
    bytes: int
    sha256: str
    first_image_id: int | None
    last_image_id: int | None


class ShardFormat(Protocol):
    """What the rows of a shard look like in its file. folder: below the run directory."""

    @property
    def folder(self) -> str: ...

    def table(self, batches: list[Any]) -> pa.Table:
        """The rows of a shard, ordered by image_id."""

    def content(self, table: pa.Table) -> bytes:
        """The bytes of the file."""
