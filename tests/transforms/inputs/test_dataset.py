from itertools import chain

import pytest

from transforms.images import Segment, Stretch
from transforms.inputs.dataset import (
    CHARACTERS,
    Dataset,
    ImageFile,
    cut_shards,
    cut_stretches,
)


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


def parquet(*row_groups: int, footer: int = 0, split: str = "all") -> ImageFile:
    """A file of 100 bytes a row."""
    rows = sum(row_groups)
    segment = Segment("f", "parquet", rows, 0, 0, bytes=100 * rows)
    return ImageFile(split, segment, row_groups, footer)


def shards_in(stretches: list[Stretch]) -> list[int]:
    return [len(stretch.shards) for stretch in stretches]


@pytest.mark.parametrize(
    ("files", "shard_size", "expected"),
    [
        ([parquet(1000)], 100, [10]),
        ([parquet(1000, 1000)], 1000, [1, 1]),
        ([parquet(1000, 1000)], 500, [2, 2]),
        ([parquet(1000), parquet(1000)], 1000, [1, 1]),
        ([parquet(1000, 1000), parquet(1000)], 1500, [2]),
        # A row group of 10 rows may be read twice where 400 others have been read.
        ([parquet(*[10] * 20)], 25, [2] * 4),
        ([parquet(1, *[10] * 100)], 10, [40, 40, 21]),
        ([parquet(*[10] * 200)], 405, [1, 1, 1, 1, 1]),
        # The footer of 250 bytes is read again as well: 2.5 rows, paid for by 100.
        ([parquet(*[10] * 20, footer=250)], 20, [5, 5]),
        ([ImageFile("all", Segment("f", "raw", 1000, 0, 0))], 300, [1, 1, 1, 1]),
        # Nobody knows the row groups of a file whose SHA-256 is checked: it is read whole.
        ([ImageFile("all", Segment("f", "parquet", 40, 0, 0, sha256="0"))] * 3, 40, [1, 1, 1]),
        ([ImageFile("all", Segment("f", "parquet", 40, 0, 0, sha256="0"))] * 3, 10, [4, 4, 4]),
        ([parquet(90, split="test"), parquet(90, split="train")], 50, [2, 2]),
    ],
)
def test_what_is_read_twice_is_read_in_one_go(files, shard_size, expected):
    stretches = cut_stretches(Dataset("d", tuple(files), {}, ()), shard_size)
    assert shards_in(stretches) == expected
    assert all(len({shard.key.split for shard in each.shards}) == 1 for each in stretches)
