"""Who reads a run from S3: Spark by S3A, and DuckDB by httpfs, beside pyarrow on a local copy.

Spark finds S3A by coordinates, of the Hadoop that it brings; the jars, half a gigabyte, stay in
.cache/ivy.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.cluster.stores import BUCKET, Store
from tests.conftest import compress, rows, tree

ROOT = Path(__file__).parents[2]
IVY = ROOT / ".cache/ivy"
KINDS = {"float32": (), "float16": (), "int8": (), "int4": ("--latent_bits=4",)}


@pytest.fixture(scope="module")
def runs(s3: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run for each way of storing latents, brought to S3 as KIND, where it is the same."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, bits in KINDS.items():
        flags = ("--dataset=sample", f"--data_dir={folder}/data", "--shard_size=1000", "--quiet")
        stored = f"--latent_dtype={'int8' if bits else kind}"
        assert compress(*flags, stored, *bits, f"--output={folder / kind}") == 0
        for name, content in tree(folder / kind).items():
            s3.write(f"{kind}/{name}", content)
    return {kind: folder / kind for kind in KINDS}


def check_rows(found: list[list], run: Path) -> None:
    """Asserts that rows of split, image_id, label, character, latent are those of a run."""
    expected = rows(run)
    assert expected["split"].value_counts().to_dict() == {"train": 1500, "test": 297}
    splits, image_ids, labels, characters, latents = zip(*found, strict=True)
    assert list(splits) == expected["split"].tolist()
    assert list(image_ids) == expected["image_id"].tolist()
    assert list(labels) == expected["label"].tolist()
    assert list(characters) == expected["character"].tolist()
    assert np.array_equal(np.array(latents, float), np.stack(expected["latent"]).astype(float))


@pytest.mark.parametrize("kind", KINDS)
def test_duckdb_reads_a_run(kind: str, s3: Store, runs: dict[str, Path]):
    duckdb = pytest.importorskip("duckdb")
    httpfs = find_spec("duckdb_extension_httpfs")
    if httpfs is None or httpfs.origin is None:
        pytest.skip("httpfs is not installed")
    (extension,) = Path(httpfs.origin).parent.rglob("httpfs.duckdb_extension")
    with duckdb.connect() as connection:
        connection.load_extension(str(extension))
        connection.execute(f"""
            CREATE SECRET (TYPE s3, KEY_ID 'key', SECRET 'secret', REGION 'us-east-1',
                ENDPOINT '{s3.address.removeprefix("http://")}', URL_STYLE 'path', USE_SSL false)
        """)
        found = connection.execute(f"""
            SELECT split, image_id, label, character, latent
            FROM read_parquet('s3://{BUCKET}/{kind}/latents/*/*.parquet', hive_partitioning = true)
            ORDER BY split, image_id
        """).fetchall()
    check_rows(found, runs[kind])


SPARK = """
import json, sys
from pyspark.sql import SparkSession

address, ivy, hadoop, out, *kinds = sys.argv[1:]
settings = {
    "spark.master": "local[1]",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.jars.ivy": ivy,
    "spark.jars.packages": f"org.apache.hadoop:hadoop-aws:{hadoop}",
    "spark.hadoop.fs.s3a.endpoint": address,
    "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
    "spark.hadoop.fs.s3a.path.style.access": "true",
    "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    "spark.sql.parquet.enableNestedColumnVectorizedReader": "false",
}
builder = SparkSession.builder
for name, value in settings.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
columns = ("split", "image_id", "label", "character", "latent")
for kind in kinds:
    try:
        frame = spark.read.parquet(f"s3a://bucket/{kind}/latents")
        found = frame.select(*columns).orderBy("split", "image_id").collect()
        said = {"rows": [list(row) for row in found], "schema": frame.schema.simpleString()}
    except Exception as error:
        said = {"error": str(error)}
    with open(f"{out}/{kind}.json", "w") as file:
        json.dump(said, file)
"""


@pytest.fixture(scope="module")
def spark(s3: Store, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Spark said of each run, in KIND.json."""
    pyspark = find_spec("pyspark")
    if pyspark is None or pyspark.origin is None:
        pytest.skip("pyspark is not installed")
    (hadoop,) = Path(pyspark.origin).parent.glob("jars/hadoop-client-api-*.jar")
    version = hadoop.stem.removeprefix("hadoop-client-api-")
    out = tmp_path_factory.mktemp("spark")
    command = [sys.executable, "-c", SPARK, s3.address, str(IVY), version, str(out), *runs]
    python = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    subprocess.run(command, env={**os.environ, **s3.env, **python}, check=True, timeout=600)
    return out


@pytest.mark.parametrize(
    ("kind", "values"), [("float32", "float"), ("int8", "smallint"), ("int4", "smallint")]
)
def test_spark_reads_a_run(kind: str, values: str, spark: Path, runs: dict[str, Path]):
    said = json.loads((spark / f"{kind}.json").read_text())
    assert said["schema"] == (
        f"struct<image_id:bigint,label:int,character:string,latent:array<{values}>,split:string>"
    )
    check_rows(said["rows"], runs[kind])


def test_spark_reads_no_float16(spark: Path):
    said = json.loads((spark / "float16.json").read_text())
    assert "Illegal Parquet type: FIXED_LEN_BYTE_ARRAY (FLOAT16)" in said["error"]
