"""Programs that read a run's files, against what the table of docs/reading.md says of them.

Spark and stores are in tests/cluster/test_consumers.py; the other examples of the page run in
tests/documentation.
"""

import re
from collections.abc import Callable
from pathlib import Path

import datafusion
import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from tests.conftest import compress, rows
from tests.support.files_of import ROOT

pytestmark = pytest.mark.long

KINDS = {
    "float32": (),
    "float16": ("--latent_dtype=float16",),
    "int8": ("--latent_dtype=int8", "--latent_bits=5"),
    "compatible": ("--parquet=compatible",),
}
COLUMNS = ["split", "image_id", "label", "character", "latent"]
PATTERN = "latents/*/*.parquet"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs of the sample, by kind."""
    folder = tmp_path_factory.mktemp("runs")
    flags = ("--dataset=sample", f"--data_dir={folder}/data", "--shard_size=1000", "--quiet")
    for kind, stored in KINDS.items():
        assert compress(*flags, *stored, f"--output={folder / kind}") == 0
    return folder


def by_duckdb(run: Path) -> pd.DataFrame:
    found = duckdb.sql(f"FROM read_parquet('{run}/{PATTERN}', hive_partitioning = true)")
    return as_pandas(found.to_arrow_table())


def by_polars(run: Path) -> pd.DataFrame:
    return as_pandas(pl.read_parquet(run / PATTERN, hive_partitioning=True).to_arrow())


def by_pandas(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "latents").astype({"split": str})


def by_pyarrow(run: Path) -> pd.DataFrame:
    return as_pandas(pads.dataset(run / "latents", partitioning="hive").to_table())


def by_datafusion(run: Path) -> pd.DataFrame:
    context = datafusion.SessionContext()
    split = [("split", pa.string())]
    context.register_parquet("latents", str(run / "latents"), table_partition_cols=split)
    return as_pandas(context.table("latents").to_arrow_table())


def by_datasets(run: Path) -> pd.DataFrame:
    loaded = datasets.load_dataset(str(run), cache_dir=str(run.parent / "cache"))
    return pd.concat(
        [as_pandas(part.data.table).assign(split=split) for split, part in loaded.items()]
    )


def by_fastparquet(run: Path) -> pd.DataFrame:
    return pd.concat(
        [
            pd.read_parquet(path, engine="fastparquet").assign(
                split=path.parent.name.removeprefix("split=")
            )
            for path in run.glob(PATTERN)
        ]
    )


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "DuckDB": by_duckdb,
    "Polars": by_polars,
    "pandas": by_pandas,
    "PyArrow": by_pyarrow,
    "DataFusion": by_datafusion,
    "`datasets`": by_datasets,
    "fastparquet": by_fastparquet,
}


def as_pandas(table: pa.Table) -> pd.DataFrame:
    return pd.DataFrame({name: table.column(name).to_pylist() for name in table.column_names})


def table_of_the_page() -> dict[str, dict[str, str]]:
    """What docs/reading.md says: by reader and kind."""
    page = (ROOT / "docs/reading.md").read_text()
    lines = re.findall(r"^\| .* \|$", page[page.index("| reader |") :], re.MULTILINE)
    header, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    kinds = [cell.strip("`").rpartition("=")[2] for cell in header]
    return {cells[0]: dict(zip(kinds, cells, strict=True)) for cells in body}


def test_the_page_lists_every_reader():
    listed = table_of_the_page()
    assert READERS.keys() | {"Spark"} <= listed.keys()
    assert all(KINDS.keys() <= kinds.keys() for kinds in listed.values())


@pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_reads_what_the_page_says(reader: str, kind: str, runs: Path):
    said = table_of_the_page()[reader][kind]
    assert (said == "yes") == is_read(READERS[reader], runs / kind), said


def is_read(read: Callable[[Path], pd.DataFrame], run: Path) -> bool:
    """Whether the rows come out as they are, by split and image_id."""
    expected = rows(run)
    try:
        found = read(run).sort_values(["split", "image_id"], ignore_index=True)
    except NotImplementedError:
        return False
    for name in COLUMNS[:-1]:
        assert found[name].tolist() == expected[name].tolist(), name
    latents = np.stack(found["latent"])
    return latents.dtype.kind != "S" and np.array_equal(latents, np.stack(expected["latent"]))


def test_datasets_gives_the_splits_rows_and_types_of_the_card(runs: Path):
    loaded = datasets.load_dataset(str(runs / "int8"), cache_dir=str(runs / "cache"))
    assert {split: len(part) for split, part in loaded.items()} == {"train": 1500, "test": 297}
    features = loaded["train"].features
    assert features["latent"] == datasets.List(datasets.Value("uint8"), length=32)
    assert [features[name].dtype for name in COLUMNS[1:4]] == ["int64", "uint16", "string"]
    latents = loaded["test"].with_format("numpy")["latent"]
    expected = rows(runs / "int8").query("split == 'test'")
    np.testing.assert_array_equal(latents[:], np.stack(expected["latent"]))
