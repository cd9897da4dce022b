"""What WriteShards says of its files, and what it does where rows are missing or come twice."""

from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import apache_beam as beam
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.conftest import RUNNER, tree
from transforms.images import Reject, ShardKey
from transforms.json_documents import decode
from transforms.latents import LatentBatch, LatentFormat
from transforms.shard_files import FinishedShard, note_path, read_note
from transforms.write_shards import WriteShards

KEY = ShardKey("train", 0, 2, 5)
NAME = "latents/split=train/part-00000-of-00002.parquet"
FORM = LatentFormat({}, {})


def part(
    image_ids: list[int],
    rows: int | None = None,
    shard: ShardKey = KEY,
    rejects: tuple[Reject, ...] = (),
) -> LatentBatch:
    ids = np.array(image_ids, np.int64)
    latents = np.ones((len(ids), 2), np.float32)
    counted = len(ids) if rows is None else rows
    digest = sha256(ids.tobytes()).hexdigest()
    return LatentBatch(shard, counted, ids, ids.astype(np.int16), latents, digest, rejects=rejects)


def written(folder: Path, parts: list[LatentBatch], *, noted: bool = False) -> list[FinishedShard]:
    """What comes of the parts, as one bundle, in the order of the shards."""
    lines = Path(f"{folder}.lines")
    lines.unlink(missing_ok=True)
    with beam.Pipeline(runner=RUNNER) as pipeline:
        source = pipeline | beam.Create(parts, reshuffle=False)
        _ = source | WriteShards(str(folder), FORM, noted=noted) | beam.Map(append_to, str(lines))
    found = [decode(line, FinishedShard) for line in lines.read_bytes().splitlines()]
    return sorted(found, key=lambda shard: shard.file.final_path)


def append_to(finished: FinishedShard, path: str) -> None:
    with Path(path).open("ab") as file:
        file.write(msgspec.json.encode(finished) + b"\n")


def test_a_file_is_told_with_its_rows_bytes_and_checksum(tmp_path):
    rejected = ShardKey("train", 1, 2, 2)
    rejects = tuple(Reject("train", number, "f", number, "no picture") for number in (5, 6))
    parts = [
        part([3, 4]),
        part([], rows=2, shard=rejected, rejects=rejects),
        part([0, 2], rows=3, rejects=(Reject("train", 1, "f", 1, "none"),)),
    ]
    whole, empty = written(tmp_path, parts)
    content = (tmp_path / whole.file.path).read_bytes()
    facts = (len(content), sha256(content).hexdigest())
    assert (whole.file.final_path, whole.file.split) == (NAME, "train")
    file = whole.file
    assert (file.rows, file.bytes, file.sha256) == (4, *facts)
    assert (file.first_image_id, file.last_image_id) == (0, 4)
    assert [reject.image_id for reject in whole.rejects] == [1]
    assert len(whole.file.images_sha256) == len(empty.file.images_sha256) == 64
    assert (whole.sizes.images_written, whole.sizes.images_rejected) == (4, 1)
    assert whole.sizes.latent_bytes == 4 * 2 * 4
    assert whole.sizes.parquet_bytes == len(content)
    assert empty.file.final_path == "latents/split=train/part-00001-of-00002.parquet"
    assert (empty.file.rows, empty.file.first_image_id, empty.file.last_image_id) == (0, None, None)
    assert empty.rejects == rejects
    assert pq.read_table(tmp_path / empty.file.path).num_rows == 0
    assert len(tree(tmp_path)) == 2, "more is left than the files of the shards"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([part([0, 1])], "2 of the 5 rows of shard 0 came through"),
        ([part([0, 1, 2]), part([2, 3, 4])], "6 of the 5 rows of shard 0 came through"),
        ([part([0, 1, 2]), part([3, 4]), part([4])], "1 of the 5 rows of shard 0 came through"),
        ([part([0, 1, 2]), part([2, 3])], "image_id 2 came through twice"),
    ],
    ids=["too few", "too many", "one more once it was whole", "one twice, for one that is missing"],
)
def test_a_shard_that_is_not_whole_fails(tmp_path, parts, said):
    pipeline = beam.Pipeline(runner=RUNNER)
    _ = pipeline | beam.Create(parts, reshuffle=False) | WriteShards(str(tmp_path), FORM)
    with pytest.raises(Exception, match=f"split train: {said}"):
        pipeline.run().wait_until_finish()


@pytest.mark.parametrize(
    "order",
    [[1, 0], [2, 1, 0], [0, 2, 1]],
    ids=["two, backwards", "three, backwards", "the last ones the other way round"],
)
def test_the_order_in_which_rows_come_does_not_show(tmp_path, order):
    ends = [0, *([3, 5] if len(order) == 2 else [1, 3, 5])]
    parts = [part(list(range(*between))) for between in pairwise(ends)]
    (one,) = written(tmp_path / "one", parts)
    (other,) = written(tmp_path / "other", [parts[position] for position in order])
    assert msgspec.structs.replace(other.file, path=one.file.path) == one.file
    contents = [(tmp_path / "one" / one.file.path), (tmp_path / "other" / other.file.path)]
    assert contents[0].read_bytes() == contents[1].read_bytes()


def test_a_second_execution_touches_nothing_of_the_first(tmp_path):
    parts = [part([0, 1, 2]), part([3, 4])]
    (first,) = written(tmp_path, parts)
    before = tree(tmp_path)
    (second,) = written(tmp_path, parts)
    assert first.file.path != second.file.path
    assert first.file.final_path == second.file.final_path == NAME
    after = tree(tmp_path)
    assert after.items() >= before.items()
    assert after[first.file.path] == after[second.file.path]


def test_a_shard_is_noted_once_its_file_is_there(tmp_path):
    rejects = (Reject("train", 2, "f", 2, "no picture"),)
    (finished,) = written(tmp_path, [part([0, 1, 3, 4], rows=5, rejects=rejects)], noted=True)
    note = (tmp_path / note_path(NAME)).read_bytes()
    assert decode(note, FinishedShard) == finished
    assert finished.rejects == rejects
    assert sorted(tree(tmp_path)) == sorted([finished.file.path, note_path(NAME)])
    assert read_note(str(tmp_path), NAME) == finished
    assert read_note(str(tmp_path), NAME, latent_bytes=9) == finished, "it has no sample"


def test_the_first_execution_that_notes_a_shard_decides_for_all(tmp_path):
    parts = [part([0, 1, 2]), part([3, 4])]
    (first,) = written(tmp_path, parts, noted=True)
    before = tree(tmp_path)
    (second,) = written(
        tmp_path, [replace(one, latents=one.latents + 1) for one in parts], noted=True
    )
    assert second == first
    assert tree(tmp_path).items() >= before.items()
    (tmp_path / first.file.path).write_bytes(b"altered")
    (third,) = written(tmp_path, parts, noted=True)
    assert third.file.path not in (first.file.path, second.file.path)
    assert read_note(str(tmp_path), NAME) == third


@pytest.mark.parametrize("content", [b"", b"{", b"cut short"])
def test_a_note_that_cannot_be_used_is_replaced(tmp_path, content):
    path = tmp_path / note_path(NAME)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (finished,) = written(tmp_path, [part([0, 1, 2, 3, 4])], noted=True)
    assert read_note(str(tmp_path), NAME) == finished


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"file": 3}', b"\xff", b'{"sizes": {}}'])
def test_what_is_no_note_is_told(content):
    with pytest.raises(ValueError):  # noqa: PT011
        decode(content, FinishedShard)
