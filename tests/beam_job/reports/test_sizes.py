import pytest

from beam_job.reports.sizes import readable_size, sizes_report, terminal_table
from transforms.inputs.dataset import Source
from transforms.sizes import Sizes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (353_740_800, "337 MB"),  # EMNIST balanced, train, as float32, uint8 and latents.
        (88_435_200, "84.3 MB"),
        (14_438_400, "13.8 MB"),
        (2_961_000, "2.82 MB"),
        (150_000, "0.14 MB"),
        (75_500, "73.7 KB"),
        (0, "0.00 KB"),
    ],
)
def test_sizes_have_three_digits_that_matter(count, text):
    assert readable_size(count) == text


TRAIN = Sizes(
    images_written=112_800,
    uint8_bytes=88_435_200,
    float32_bytes=353_740_800,
    latent_bytes=14_438_400,
    parquet_bytes=12_000_000,
)


def test_the_table_is_exact_as_the_reference_prints_it():
    lines = terminal_table(sizes_report({"train": TRAIN}, []))
    text = "\n".join(" ".join(line.split()) for line in lines)
    for line in (
        "original, uint8 88,435,200 B\n84.33837890625 MB",
        "original, float32 353,740,800 B\n337.353515625 MB",
        "latents, values alone 14,438,400 B\n13.76953125 MB",
        "float32 : latent values 24.50 : 1 as the notebook counts",
    ):
        assert line in text
    assert "rejected" not in text
    assert "total" not in text


def test_source_bytes_are_of_files_of_one_split_alone():
    sizes = {"train": TRAIN, "test": TRAIN}
    own = sizes_report(sizes, [Source("a", "train", 10), Source("b", "test", 5)])
    assert [split.source_bytes for split in own.splits.values()] == [10, 5]
    assert own.total.source_bytes == 15
    mixed = sizes_report(sizes, [Source("all", None, 10)])
    assert [split.source_bytes for split in mixed.splits.values()] == [None, None]
    assert mixed.total.source_bytes == 10
    assert list(mixed.columns) == ["train", "test", "total"]
