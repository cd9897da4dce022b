"""The list of a run's files, where it is too long for the manifest."""

from collections.abc import Iterator, Sequence
from itertools import chain, starmap
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec.structs import astuple

from transforms.errors import InputError, first_line
from transforms.images import check_row_groups
from transforms.json_documents import is_count
from transforms.shard_files import ShardFile

FILE_LIST = "files.parquet"
"""The files of latents, one row each; manifest.json then lists this file in their place."""
MAX_LISTED = 10_000
"""Files of latents that manifest.json lists itself: 3 MB of JSON."""
MAX_LIST_BYTES = 256 << 20
"""A file takes 72 bytes in the list: 3.7 million files."""

_FIELDS = ShardFile.__struct_fields__
_TEXTS = ["path", "split", "sha256", "images_sha256"]
_SCHEMA = pa.schema([(name, pa.string() if name in _TEXTS else pa.int64()) for name in _FIELDS])
_MAX_CHARACTERS = 4096
_ROWS_AT_ONCE = 10_000


def file_list(files: Sequence[ShardFile]) -> bytes:
    """The Parquet file of a list of files, in their order, by their final paths."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd", use_dictionary=["split"]) as writer:
        for start in range(0, len(files), _ROWS_AT_ONCE):
            rows = [astuple(file.published) for file in files[start : start + _ROWS_AT_ONCE]]
            columns = [list(column) for column in zip(*rows, strict=True)]
            writer.write_table(pa.table(columns, _SCHEMA))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def listed_files(content: bytes) -> Iterator[ShardFile]:
    """The files in such a list. Raises ValueError where it is not one."""
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as parquet:
            if not parquet.schema_arrow.equals(_SCHEMA):
                raise ValueError(f"the columns of {FILE_LIST} are {parquet.schema_arrow.names}")
            check_row_groups(FILE_LIST, parquet)
        # A text that is stored once, for all rows to refer to, stays so until its length is known.
        with pq.ParquetFile(pa.BufferReader(content), read_dictionary=_TEXTS) as parquet:
            # All groups at once would be in memory together, for their dictionaries.
            groups = range(parquet.num_row_groups)
            for batch in chain.from_iterable(
                parquet.iter_batches(_ROWS_AT_ONCE, row_groups=[group]) for group in groups
            ):
                columns = [_checked(batch.column(name), name) for name in _FIELDS]
                yield from starmap(ShardFile, zip(*columns, strict=True))
    except (pa.ArrowException, OSError, InputError) as error:
        raise ValueError(f"{FILE_LIST} is not a list of files: {first_line(error)}") from error


def _checked(column: pa.Array, name: str) -> list[Any]:
    """The values of a column. Raises ValueError where one cannot be of a ShardFile."""
    if name in _TEXTS:
        longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
        if longest > _MAX_CHARACTERS:
            raise ValueError(f"{FILE_LIST} has a {name} of {longest:,} bytes")
        column = column.dictionary_decode()
    elif not is_count(pc.min(column).as_py() or 0) or not is_count(pc.max(column).as_py() or 0):
        raise ValueError(f"{FILE_LIST} has a number of {name} that is too small, or too large")
    if column.null_count and not name.endswith("image_id"):
        raise ValueError(f"{FILE_LIST} has no {name} in some rows")
    values: list[Any] = column.to_pylist()
    return values
