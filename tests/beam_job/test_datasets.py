from itertools import chain

import pytest

from beam_job.datasets import (
    CHARACTERS,
    PUBLISHED_ROWS,
    Dataset,
    ImageFile,
    check_unchanged,
    cut_shards,
)
from transforms.errors import InputError
from transforms.files import last_updated
from transforms.images import Segment


@pytest.mark.parametrize(
    ("name", "classes", "some"),
    [
        ("balanced", 47, {0: "0", 10: "A", 35: "Z", 36: "a", 38: "d", 46: "t"}),
        ("bymerge", 47, {36: "a", 40: "f", 42: "h", 44: "q"}),
        ("byclass", 62, {9: "9", 10: "A", 36: "a", 61: "z"}),
        ("letters", 26, {1: "A", 26: "Z"}),
        ("digits", 10, {7: "7"}),
        ("mnist", 10, {0: "0"}),
        ("sample", 10, {3: "3"}),
    ],
)
def test_characters_are_those_of_nists_mapping_files(name, classes, some):
    assert len(CHARACTERS[name]) == classes
    assert {label: CHARACTERS[name][label] for label in some} == some


def test_byclass_is_the_whole_of_emnist():
    assert sum(PUBLISHED_ROWS["byclass"].values()) == 814_255


def test_shards_are_ranges_of_image_ids_across_files():
    files = (
        ImageFile("test", Segment("c", "raw", 3, 0, 0)),
        ImageFile("train", Segment("a", "raw", 5, 0, 0, labels=b"abcde")),
        ImageFile("train", Segment("b", "raw", 4, 0, 5, labels=b"fghi")),
    )
    shards = cut_shards(Dataset("d", files, {}, ()), 4)
    assert [shard.key for shard in shards] == [
        ("train", 0, 3, 4),
        ("train", 1, 3, 4),
        ("train", 2, 3, 1),
        ("test", 0, 1, 3),
    ]
    second = shards[1].segments
    assert [(s.path, s.first_row, s.rows, s.first_image_id, s.labels) for s in second] == [
        ("a", 4, 1, 4, b"e"),
        ("b", 0, 3, 5, b"fgh"),
    ]


@pytest.mark.parametrize("shard_size", [1, 3, 7, 100])
def test_shards_of_any_size_hold_each_row_once(shard_size: int):
    lengths = [5, 0, 1, 9, 0, 3]
    files = tuple(
        ImageFile("train", Segment(str(number), "raw", rows, 0, sum(lengths[:number])))
        for number, rows in enumerate(lengths)
    )
    shards = cut_shards(Dataset("d", files, {}, ()), shard_size)
    rows = [
        [(segment.path, segment.first_row + row) for row in range(segment.rows)]
        for shard in shards
        for segment in shard.segments
    ]
    expected = [(str(number), row) for number, of in enumerate(lengths) for row in range(of)]
    assert list(chain(*rows)) == expected
    assert all(sum(s.rows for s in shard.segments) == shard.key.rows for shard in shards)


def test_an_input_that_went_away_is_told(tmp_path):
    (tmp_path / "f").touch()
    updated = last_updated([str(tmp_path / "f")])
    check_unchanged(updated)
    (tmp_path / "f").unlink()
    with pytest.raises(
        InputError, match=f"an input went away while the job read it .*{tmp_path}/f"
    ):
        check_unchanged(updated)
