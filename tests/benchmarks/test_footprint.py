import pytest

from benchmarks import measured
from benchmarks.footprint import DATASETS, graph_bytes
from transforms.inputs.dataset import cut_shards
from transforms.settings import SHARD_SIZE


@pytest.mark.parametrize("kind", DATASETS)
def test_datasets_have_as_many_shards_as_asked_for(kind: str):
    shards = cut_shards(DATASETS[kind](3), SHARD_SIZE)
    assert [shard.key.rows for shard in shards] == [SHARD_SIZE] * 3
    assert [shard.segments[0].first_image_id for shard in shards] == [0, 16_384, 32_768]


@pytest.mark.parametrize("kind", DATASETS)
def test_the_graph_is_as_large_as_the_footprint_says(kind: str):
    pytest.importorskip("ncnn")
    found = graph_bytes(DATASETS[kind], [200])["200"]
    # Pickles of other versions differ a little.
    assert found == pytest.approx(measured.graph_line(kind).at(200), rel=0.25)
