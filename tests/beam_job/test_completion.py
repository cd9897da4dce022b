import json
from dataclasses import replace

import pytest

from beam_job.completion import Run, check_counts, check_files, complete
from beam_job.decoded_sample import Sample
from beam_job.publishing import Attempt
from tests.conftest import tree
from transforms.errors import InputError, RunError
from transforms.files import write_bytes
from transforms.shard_files import ShardFile
from transforms.sizes import Sizes

WHOLE = Sizes(images_read=9, images_rejected=1, images_encoded=9, images_written=9)


def file(split: str, number: int, first: int, last: int) -> ShardFile:
    return ShardFile(f"{split}-{number}", split, last - first + 1, 1, "", first, last)


def test_a_run_in_which_everything_arrived_passes():
    check_counts(
        {"train": 10, "test": 9}, {"train": WHOLE, "test": WHOLE._replace(images_rejected=0)}
    )


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"train": WHOLE}, "split test: 9 images staged, 0 read"),
        ({"train": WHOLE, "test": WHOLE}, "split test: 9 images staged, 9 read (1 rejected)"),
        (
            {"train": WHOLE._replace(images_encoded=8), "test": WHOLE},
            "split train: 10 images staged, 9 read (1 rejected), 8 encoded, 9 written",
        ),
        (
            {"train": WHOLE._replace(images_written=10), "test": WHOLE},
            "split train: 10 images staged, 9 read (1 rejected), 9 encoded, 10 written",
        ),
    ],
)
def test_a_difference_fails_the_run_and_is_named(sizes, said):
    with pytest.raises(RunError) as error:
        check_counts({"train": 10, "test": 9}, sizes)
    assert said in str(error.value)
    assert "these must agree, so nothing is published" in str(error.value)


def test_each_shard_has_one_file():
    files = [file("train", 0, 0, 4), file("train", 1, 5, 9)]
    check_files({"train": 2}, files)
    with pytest.raises(RunError, match="1 files for 2 shards"):
        check_files({"train": 2}, files[:1])
    with pytest.raises(RunError, match="2 files for 2 shards"):
        check_files({"train": 2}, [*files, files[0]])


def test_files_do_not_share_image_ids():
    with pytest.raises(InputError, match="image_id 4 is in two places"):
        check_files({"train": 2}, [file("train", 0, 0, 4), file("train", 1, 4, 9)])


def test_sizes_come_in_the_order_of_the_dataset_whatever_came_first(tmp_path):
    attempt = Attempt(str(tmp_path / "out/_incomplete-1"), str(tmp_path / "out"))
    parts = [file("train", 0, 0, 8), file("test", 0, 0, 8)]
    written = [
        part._replace(sha256=write_bytes(f"{attempt.folder}/{part.path}", b"x").sha256)
        for part in parts
    ]
    run = Run(
        updated={},
        attempt=attempt,
        created="2026-01-02T03:04:05+00:00",
        dataset="d",
        fingerprint="f",
        sources=(),
        staged={"train": 9, "test": 9},
        shards={"train": 1, "test": 1},
        characters={},
        model={"quantization": None, "decoder_sha256": None, "engine": "tensorflow"},
        flags={"overwrite": False, "model": None},
        max_rejects=0,
        decoder_engine=None,
        model_path=None,
        warnings=(),
    )
    counted = WHOLE._replace(images_rejected=0)
    complete(run, written, {"test": counted, "train": counted}, [], {}, Sample([], []))
    sizes = json.loads((tmp_path / "out/sizes.json").read_text())
    assert list(sizes["splits"]) == ["train", "test"]
    assert not (tmp_path / "out/_incomplete-1").exists()

    # A runner may do the last step again; another run may not come after it.
    before = tree(tmp_path / "out")
    complete(run, written, {"test": counted, "train": counted}, [], {}, Sample([], []))
    assert tree(tmp_path / "out") == before
    late = replace(run, attempt=attempt._replace(folder=str(tmp_path / "out/_incomplete-2")))
    with pytest.raises(InputError, match="filled by another command"):
        complete(late, written, {"test": counted, "train": counted}, [], {}, Sample([], []))
