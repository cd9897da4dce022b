"""What WriteShards says of its files, and what it does where rows are missing."""

from hashlib import sha256

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that

from tests.conftest import RUNNER, tree
from transforms.images import ShardKey
from transforms.latents import LatentBatch, LatentFormat
from transforms.write_shards import WriteShards

KEY = ShardKey("train", 0, 2, 5)
NAME = "latents/split=train/part-00000-of-00002.parquet"
FORM = LatentFormat({}, {})


def part(image_ids: list[int], rows: int | None = None, shard: ShardKey = KEY) -> LatentBatch:
    ids = np.array(image_ids, np.int64)
    latents = np.ones((len(ids), 2), np.float32)
    return LatentBatch(
        shard, len(ids) if rows is None else rows, ids, ids.astype(np.int16), latents
    )


def test_a_file_is_told_with_its_rows_bytes_and_checksum(tmp_path):
    rejected = ShardKey("train", 1, 2, 2)

    def check(files):
        whole, empty = sorted(files)
        content = (tmp_path / NAME).read_bytes()
        assert whole == (NAME, "train", 4, len(content), sha256(content).hexdigest(), 0, 4)
        assert empty[:3] == ("latents/split=train/part-00001-of-00002.parquet", "train", 0)
        assert empty[5:] == (None, None)

    with TestPipeline(runner=RUNNER) as pipeline:
        parts = [part([3, 4]), part([], rows=2, shard=rejected), part([0, 2], rows=3)]
        out = pipeline | beam.Create(parts, reshuffle=False) | WriteShards(str(tmp_path), FORM)
        assert_that(out, check)
    assert len(tree(tmp_path)) == 2, "more is left than the files of the shards"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([part([0, 1])], "2 of the 5 rows of shard 0 came through"),
        ([part([0, 1, 2]), part([2, 3, 4])], "6 of the 5 rows of shard 0 came through"),
        ([part([0, 1, 2]), part([3, 4]), part([4])], "1 of the 5 rows of shard 0 came through"),
    ],
    ids=["too few", "too many", "one more once it was whole"],
)
def test_a_shard_that_is_not_whole_fails(tmp_path, parts, said):
    pipeline = beam.Pipeline(runner=RUNNER)
    _ = pipeline | beam.Create(parts, reshuffle=False) | WriteShards(str(tmp_path), FORM)
    with pytest.raises(Exception, match=f"split train: {said}"):
        pipeline.run().wait_until_finish()


def test_a_second_attempt_writes_the_same_over_the_first(tmp_path):
    parts = [part([0, 1, 2]), part([3, 4])]
    contents = []
    for order in (parts, parts[::-1]):
        with beam.Pipeline(runner=RUNNER) as pipeline:
            _ = pipeline | beam.Create(order, reshuffle=False) | WriteShards(str(tmp_path), FORM)
        contents.append(tree(tmp_path))
    assert contents[0] == contents[1]
    assert list(contents[0]) == [NAME]
