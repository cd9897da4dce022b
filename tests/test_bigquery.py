"""BigQuery's schema and statement in docs/reading.md, beside what it makes of a run's files.

The mapping is BigQuery's own, as documented under "Type conversions" and "List logical type" in
https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#parquet_conversions:
what is not in it, "Other combinations of Parquet types and converted types", is not supported.
"""

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from transforms.images import ShardKey
from transforms.latents import LATENTS_FOLDER, LatentBatch, latent_table, parquet_bytes

PAGE = (Path(__file__).parents[1] / "docs/reading.md").read_text("utf-8")
(LOAD_SCHEMA,) = re.findall(r"^```json\n(\[.*?^\])\n```", PAGE, re.MULTILINE | re.DOTALL)
(STATEMENT,) = re.findall(r"^```sql\n(CREATE EXTERNAL.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

DOCUMENTED = {
    ("BOOLEAN", "NONE"): "BOOLEAN",
    ("INT32", "NONE"): "INT64",
    ("INT32", "INT"): "INT64",  # UINT_8, UINT_16, UINT_32, INT_8, INT_16, INT_32.
    ("INT64", "NONE"): "INT64",
    ("INT64", "INT"): "INT64",  # UINT_64, INT_64.
    ("FLOAT", "NONE"): "FLOAT64",
    ("DOUBLE", "NONE"): "FLOAT64",
    ("BYTE_ARRAY", "NONE"): "BYTES",
    ("BYTE_ARRAY", "STRING"): "STRING",
    ("FIXED_LEN_BYTE_ARRAY", "NONE"): "BYTES",
}
CODECS = {"GZIP", "LZO", "LZ4_RAW", "SNAPPY", "ZSTD", "UNCOMPRESSED"}


def latents_file(dtype: type) -> pq.ParquetFile:
    latents = np.arange(64).reshape(2, 32).astype(dtype)
    batch = LatentBatch(ShardKey("test", 0, 1, 2), 2, np.arange(2), np.ones(2, np.int16), latents)
    content = parquet_bytes(latent_table(batch, {1: "1"}), {})
    return pq.ParquetFile(io.BytesIO(content))


def mode(column: pq.ColumnSchema) -> str:
    if column.max_repetition_level:
        return "REPEATED"
    return "NULLABLE" if column.max_definition_level else "REQUIRED"


def bigquery_schema(file: pq.ParquetFile) -> list[dict[str, str]]:
    """What BigQuery makes of a file, with list inference; a KeyError where it takes none."""
    fields = []
    for position in range(len(file.schema)):
        column = file.schema.column(position)
        name, *below = column.path.split(".")
        assert below == (["list", "element"] if column.max_repetition_level else [])
        kind = DOCUMENTED[column.physical_type, column.logical_type.type]
        fields.append({"name": name, "type": kind, "mode": mode(column)})
    return fields


def test_the_load_schema_is_that_of_a_run():
    assert json.loads(LOAD_SCHEMA) == bigquery_schema(latents_file(np.float32))


def test_whole_numbers_differ_in_their_latents_alone():
    *others, latent = json.loads(LOAD_SCHEMA)
    whole = {**latent, "type": "INT64"}
    assert bigquery_schema(latents_file(np.uint8)) == [*others, whole]


def test_float16_is_not_in_the_mapping():
    with pytest.raises(KeyError, match="FLOAT16"):
        bigquery_schema(latents_file(np.float16))
    assert "float16" in PAGE[PAGE.index(STATEMENT) :].partition("\n## ")[0]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_the_files_are_compressed_as_bigquery_takes_them(dtype: type):
    group = latents_file(dtype).metadata.row_group(0)
    assert {group.column(position).compression for position in range(group.num_columns)} <= CODECS


def test_the_external_table_has_the_split_of_the_path_as_a_column():
    assert re.search(r"WITH PARTITION COLUMNS \(split STRING\)", STATEMENT)
    options = dict(re.findall(r"^  (\w+) = (.+?),?$", STATEMENT, re.MULTILINE))
    assert options.keys() == {
        "format",
        "uris",
        "hive_partition_uri_prefix",
        "enable_list_inference",
    }
    assert (options["format"], options["enable_list_inference"]) == ("'PARQUET'", "true")
    prefix = options["hive_partition_uri_prefix"].strip("'")
    assert prefix.endswith(f"/{LATENTS_FOLDER}")  # Where split=NAME begins.
    assert options["uris"] == f"['{prefix}/*']"
    assert "split" not in {field["name"] for field in json.loads(LOAD_SCHEMA)}
