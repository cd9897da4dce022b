import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beam_job.compress.complete import Run, check_counts, check_files, complete
from beam_job.outputs.attempt import JobDataset, begin
from beam_job.outputs.run_directory import versions
from tests.conftest import tree
from transforms.errors import FilledError, InputError, RunError
from transforms.images import Reject
from transforms.latents import ModelRecord
from transforms.shard_files import ShardFile
from transforms.sizes import Sizes
from transforms.storage.files import write_bytes

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


MODEL = ModelRecord(
    name="m",
    sha256="",
    decoder_sha256=None,
    precision="float32",
    latent_size=2,
    latent_dtype="float32",
    latent_bytes=8,
    quantization=None,
)


def planned(output: Path) -> Run:
    return Run(
        attempt=begin(str(output), "--output", replace=False),
        created="2026-01-02T03:04:05+00:00",
        dataset=JobDataset("d", "f", {"train": 9, "test": 9}, (), {}),
        shards={"train": 1, "test": 1},
        model=MODEL,
        flags={"overwrite": False, "parquet": "small"},
        versions=versions(),
        batch_size=1,
        compatible=False,
        max_rejects=0,
        overwrite=False,
        decoder_engine=None,
        model_path=None,
    )


COUNTED = WHOLE._replace(images_rejected=0)
SIZES = {"test": COUNTED, "train": COUNTED}


def written(run: Run, content: bytes = b"x") -> list[ShardFile]:
    """A file for each shard, in the attempt's folder, by a name of its own."""
    files = []
    for split in ("train", "test"):
        path = f"latents/{split}.0123456789ab.parquet"
        facts = write_bytes(f"{run.attempt.folder}/{path}", content)
        files.append(ShardFile(path, split, 9, *facts, 0, 8))
    return files


def test_sizes_come_in_the_order_of_the_dataset_whatever_came_first(tmp_path):
    run = planned(tmp_path / "out")
    complete(run, written(run), SIZES, [], [])
    sizes = json.loads((tmp_path / "out/sizes.json").read_text())
    assert list(sizes["splits"]) == ["train", "test"]


def test_a_complete_run_is_there_under_the_names_of_its_manifest_and_nothing_else_is(tmp_path):
    run = planned(tmp_path / "out")
    complete(run, written(run), SIZES, [], [])
    found = tree(tmp_path / "out")
    manifest = json.loads(found["manifest.json"])
    names = {file["path"] for file in manifest["files"]}
    documents = {"README.md", "sizes.json"}
    assert names == {"latents/train.parquet", "latents/test.parquet"} | documents
    assert set(found) - names == {"manifest.json", "_claim.json"}


@pytest.mark.parametrize("numpy", ["0.1", None])
def test_workers_of_other_versions_are_a_note(numpy, tmp_path):
    launched = versions() | ({} if numpy is None else {"numpy": numpy})
    run = replace(planned(tmp_path / "out"), versions=launched)
    complete(run, written(run), SIZES, [], [])
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    said = f"Workers have other versions: numpy {np.__version__}, not 0.1."
    assert manifest["warnings"] == ([] if numpy is None else [said])
    assert manifest["versions"] == launched


def test_the_last_step_may_be_done_again_at_any_time(tmp_path):
    run = planned(tmp_path / "out")
    files = written(run)
    complete(run, files, SIZES, [], [])
    before = tree(tmp_path / "out")
    complete(run, files, SIZES, [], [])
    complete(run, [], {}, [Reject("train", 0, "f", 0, "none")], [])  # Whatever it is given.
    assert tree(tmp_path / "out") == before


def test_a_second_run_stays_out_of_an_output_that_is_filled(tmp_path):
    first, late = planned(tmp_path / "out"), planned(tmp_path / "out")
    files = written(late, b"late")
    complete(first, written(first), SIZES, [], [])
    before = tree(tmp_path / "out")
    with pytest.raises(FilledError, match="filled by another command"):
        complete(late, files, SIZES, [], [])
    assert tree(tmp_path / "out").items() >= before.items()
    complete(replace(late, overwrite=True), files, SIZES, [], [])
    assert (tmp_path / "out/latents/train.parquet").read_bytes() == b"late"


@pytest.mark.parametrize("fails", ["counts", "files", "rejects"])
def test_what_is_not_whole_publishes_nothing(tmp_path, fails):
    run = planned(tmp_path / "out")
    files, sizes, rejects = written(run), dict(SIZES), []
    if fails == "counts":
        sizes["train"] = COUNTED._replace(images_read=8, images_encoded=8)
    elif fails == "files":
        files.pop()
    else:
        rejects = [Reject("train", 0, "f", 0, "no picture")]
    with pytest.raises((RunError, InputError)):
        complete(run, files, sizes, rejects, [])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [Path(run.attempt.folder).name]


def test_a_report_that_cannot_be_drawn_fails_no_run(tmp_path, caplog):
    run = planned(tmp_path / "out")  # Its model's facts are not those that a report needs.
    complete(run, written(run), SIZES, [], [])
    assert (tmp_path / "out/manifest.json").exists()
    assert not (tmp_path / "out/report.html").exists()
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith(f"note: {tmp_path}/out is complete, and its report could not be drawn (")
    assert said.endswith("draws it")
    assert "\n" not in said
