import io
import json
import re
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from tests.conftest import RUNNER
from transforms.images import NO_LABEL, ShardKey
from transforms.latents import LatentBatch, latent_table, parquet_bytes
from transforms.write_latents import WriteLatents

TOKEN = re.compile(r"\.[0-9a-f]{12}(?=\.parquet$)")
SHARDS = [ShardKey("train", 0, 2, 5), ShardKey("train", 1, 2, 3), ShardKey("test", 0, 1, 4)]


def latent_batch(shard: ShardKey, image_ids: list[int], rejected: int = 0) -> LatentBatch:
    ids = np.array(image_ids, np.int64)
    latents = (ids[:, None] + np.arange(4)[None] / 10).astype(np.float32)
    return LatentBatch(shard, len(ids) + rejected, ids, (ids % 3).astype(np.int16), latents)


def batches() -> list[LatentBatch]:
    """Out of order, as a runner may bring them; image_id 6 was rejected."""
    return [
        latent_batch(SHARDS[2], [2, 3]),
        latent_batch(SHARDS[0], [3, 4]),
        latent_batch(SHARDS[1], [5, 7], rejected=1),
        latent_batch(SHARDS[0], [0, 1, 2]),
        latent_batch(SHARDS[2], [0, 1]),
    ]


def by_final_name(folder: Path) -> dict[str, Path]:
    """The Parquet files below a folder, by their paths without the tokens of who wrote them."""
    paths = sorted(folder.rglob("*.parquet"))
    return {TOKEN.sub("", str(path.relative_to(folder))): path for path in paths}


def write(folder: Path, *, cut: bool) -> dict[str, Path]:
    """Writes the batches; where each file is, by its final name.

    In order, as they are read; with `cut`, each in a bundle of its own, as where nothing is fused.
    """
    workers = ["--direct_num_workers=5", "--direct_running_mode=multi_threading"] if cut else []
    pipeline = beam.Pipeline(runner=RUNNER, options=PipelineOptions(workers))
    read = batches() if cut else sorted(batches(), key=lambda batch: int(batch.image_ids[0]))
    found = pipeline | beam.Create(read, reshuffle=False)
    if cut:
        found |= beam.Reshuffle()
    _ = found | WriteLatents(str(folder), {0: "a", 1: "b"}, {"made": "here"})
    result = pipeline.run()
    result.wait_until_finish()
    writers = {
        counter.key.step.rpartition("/")[2]
        for counter in result.metrics().query(MetricsFilter().with_name("files"))["counters"]
    }
    assert ("WriteJoinedShards" in writers) == cut, "not the path that is to be tested"
    return by_final_name(folder)


@pytest.mark.parametrize("cut", [False, True])
def test_each_shard_becomes_one_file_in_order(tmp_path: Path, cut: bool):
    files = write(tmp_path, cut=cut)
    assert sorted(files) == [
        "latents/split=test/part-00000-of-00001.parquet",
        "latents/split=train/part-00000-of-00002.parquet",
        "latents/split=train/part-00001-of-00002.parquet",
    ]
    table = pq.read_table(files["latents/split=train/part-00000-of-00002.parquet"])
    assert table.column("image_id").to_pylist() == [0, 1, 2, 3, 4]
    assert table.column("label").to_pylist() == [0, 1, 2, 0, 1]
    assert table.column("character").to_pylist() == ["a", "b", None, "a", "b"]
    expected = [[n + tenth / 10 for tenth in range(4)] for n in range(5)]
    np.testing.assert_allclose(table.column("latent").to_pylist(), expected, rtol=1e-6)
    second = pq.read_table(files["latents/split=train/part-00001-of-00002.parquet"])
    assert second.column("image_id").to_pylist() == [5, 7]


def test_how_the_work_was_cut_does_not_show_in_the_bytes(tmp_path: Path):
    whole, cut = write(tmp_path / "whole", cut=False), write(tmp_path / "cut", cut=True)
    assert whole.keys() == cut.keys()
    assert all(whole[name].read_bytes() == cut[name].read_bytes() for name in whole)


def test_schema_and_metadata_are_those_promised(tmp_path: Path):
    files = write(tmp_path, cut=False)
    file = pq.ParquetFile(files["latents/split=test/part-00000-of-00001.parquet"])
    assert file.schema_arrow.names == ["image_id", "label", "character", "latent"]
    assert file.schema_arrow.types[:3] == [pa.int64(), pa.uint16(), pa.string()]
    assert file.schema_arrow.field("latent").type.list_size == 4
    assert json.loads(file.metadata.metadata[b"emnist_latents"]) == {"made": "here"}
    column = file.metadata.row_group(0).column(3)
    assert (column.compression, "BYTE_STREAM_SPLIT" in column.encodings) == ("ZSTD", True)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_compatible_file_has_the_rows_in_encodings_that_all_readers_know(dtype: str):
    batch = latent_batch(SHARDS[0], [0, 1, 4])
    table = latent_table(replace(batch, latents=batch.latents.astype(dtype)), {0: "a"})
    content = parquet_bytes(table, {"made": "here"}, compatible=True)
    with pq.ParquetFile(io.BytesIO(content)) as file:
        group = file.metadata.row_group(0)
        used = {name for column in range(4) for name in group.column(column).encodings}
        assert used <= {"PLAIN", "RLE", "RLE_DICTIONARY"}
        assert file.read().equals(table)


def test_rows_without_label_or_images():
    empty = latent_batch(SHARDS[1], [], rejected=3)
    assert latent_table(empty, {}).num_rows == 0
    unlabelled = latent_batch(SHARDS[0], [0])
    unlabelled.labels[:] = NO_LABEL
    assert latent_table(unlabelled, {0: "a"}).column("label").to_pylist() == [None]
