"""The whole command line on real input."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_job.__main__ import run
from beam_job.compress import command as compress_module
from beam_job.outputs import seal
from tests.conftest import PRETRAINED, RUNNER, compress, latents, rows, tree
from transforms.encode import EncoderHandler
from transforms.errors import StoreFailedError


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run of the sample, and the flags that made it."""
    folder = tmp_path_factory.mktemp("sample")
    output = folder / "out"
    data_dir = f"--data_dir={folder / 'data'}"
    assert compress("--dataset=sample", f"--output={output}", data_dir, "--quiet") == 0
    return output, data_dir


def test_official_test_digits(tmp_path, emnist_data, digits, plain_latents, capsys):
    images, labels = digits
    source = emnist_data / "emnist-mnist-test-images-idx3-ubyte.gz"
    assert compress(f"--input={source}", f"--output={tmp_path}/out", "--shard_size=3000") == 0
    table = rows(tmp_path / "out")
    assert table["image_id"].tolist() == list(range(10_000))
    assert table["label"].tolist() == labels.tolist()
    assert table["character"].tolist() == [str(label) for label in labels]
    np.testing.assert_allclose(latents(tmp_path / "out"), plain_latents(images), atol=1e-4)
    parts = sorted(path.name for path in (tmp_path / "out/latents/split=test").iterdir())
    assert parts == [f"part-0000{part}-of-00004.parquet" for part in range(4)]
    sizes = json.loads((tmp_path / "out/sizes.json").read_text())["splits"]["test"]
    assert sizes["images"] == 10_000
    assert sizes["uint8_bytes"] == 7_840_000
    assert sizes["float32_bytes"] == 31_360_000
    assert sizes["latent_bytes"] == 1_280_000
    assert sizes["source_bytes"] == source.stat().st_size + 5_144
    said = capsys.readouterr()
    assert "7.476806640625 MB" in said.out
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert said.err.splitlines() == [f"note: {note}" for note in manifest["notes"]]
    named = manifest["dataset"]["sources"][0]
    assert (named["path"], named["bytes"]) == (str(source), source.stat().st_size)
    # The fingerprint stands on the images: image_id, label and pixels of each, by shard.
    records = np.zeros(10_000, [("image_id", "<i8"), ("label", "<i2"), ("pixels", "u1", 784)])
    records["image_id"], records["label"] = np.arange(10_000), labels
    records["pixels"] = images.reshape(-1, 784)
    starts = range(0, 10_000, 3_000)
    hashes = [hashlib.sha256(records[start : start + 3_000]).hexdigest() for start in starts]
    files = [file for file in manifest["files"] if "images_sha256" in file]
    assert [file["images_sha256"] for file in files] == hashes
    lines = "".join(f"{file['images_sha256']}  {file['path']}\n" for file in files)
    assert manifest["dataset"]["fingerprint"] == hashlib.sha256(lines.encode()).hexdigest()


def test_one_worker_and_two_write_the_same(tmp_path, emnist_data, capfd):
    source = f"--input={emnist_data}/emnist-mnist-test-images-idx3-ubyte.gz"
    flags = [source, "--shard_size=3000", "--quiet"]
    two = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    assert compress(*flags, f"--output={tmp_path}/one") == 0
    capfd.readouterr()
    assert compress(*flags, f"--output={tmp_path}/two", *two) == 0
    assert capfd.readouterr() == ("", "")
    one, other = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert one.drop(columns="latent").equals(other.drop(columns="latent"))
    np.testing.assert_allclose(latents(tmp_path / "one"), latents(tmp_path / "two"), atol=1e-6)
    assert list(tree(tmp_path / "one")) == list(tree(tmp_path / "two"))
    one, other = (json.loads((tmp_path / run / "sizes.json").read_text()) for run in ("one", "two"))
    assert one == other


def test_the_run_directory_is_what_its_manifest_says(sample):
    output, _ = sample
    manifest = json.loads((output / "manifest.json").read_text())
    written = tree(output)
    # The seal, who may write there, and what can be drawn again.
    for name in ("manifest.json", "_claim.json", "report.html"):
        del written[name]
    assert sorted(file["path"] for file in manifest["files"]) == sorted(written)
    for file in manifest["files"]:
        assert file["bytes"] == len(written[file["path"]])
        assert file["sha256"] == hashlib.sha256(written[file["path"]]).hexdigest()
    assert sum(file.get("rows", 0) for file in manifest["files"]) == 1_797
    assert manifest["model"]["name"] == "pretrained"
    for part, name in (("sha256", "encoder"), ("decoder_sha256", "decoder")):
        content = (PRETRAINED / f"{name}.keras").read_bytes()
        assert manifest["model"][part] == hashlib.sha256(content).hexdigest()
    assert manifest["model"]["parameters"] == 494_112
    assert manifest["warnings"] == []
    steps = {"images": 1500, "shards": 1, "read": 1500, "rejected": 0}
    steps |= {"encoded": 1500, "written": 1500, "clipped_values": 0, "clipped_images": 0}
    assert manifest["dataset"]["splits"]["train"] == steps


def test_sizes_are_counted_from_what_is_on_disk(sample):
    output, _ = sample
    sizes = json.loads((output / "sizes.json").read_text())
    for split, images in (("train", 1_500), ("test", 297)):
        on_disk = sum(f.stat().st_size for f in (output / f"latents/split={split}").iterdir())
        assert sizes["splits"][split]["parquet_bytes"] == on_disk
        assert sizes["splits"][split]["uint8_bytes"] == images * 784
        assert sizes["splits"][split]["uint8_to_parquet"] == round(images * 784 / on_disk, 4)
        assert sizes["splits"][split]["float32_to_latent"] == 24.5
    assert sizes["total"]["images"] == 1_797
    assert sizes["total"]["latent_bytes"] == 1_797 * 128


def test_a_rerun_writes_the_same_files(sample, tmp_path):
    output, data_dir = sample
    assert compress("--dataset=sample", f"--output={tmp_path}/again", data_dir, "--quiet") == 0
    assert tree(output / "latents") == tree(tmp_path / "again/latents")


def test_a_staged_dataset_can_be_an_input(sample, tmp_path):
    output, data_dir = sample
    staged = f"{data_dir.removeprefix('--data_dir=')}/sample/images/*/*.parquet"
    assert compress(f"--input={staged}", f"--output={tmp_path}/out", "--quiet") == 0
    assert rows(output).equals(rows(tmp_path / "out")) or (
        rows(output).drop(columns="latent").equals(rows(tmp_path / "out").drop(columns="latent"))
        and np.array_equal(latents(output), latents(tmp_path / "out"))
    )


def test_plan_says_what_would_be_done_and_does_nothing(tmp_path, capsys, idx_file):
    before = tree(tmp_path)
    argv = [f"--output={tmp_path}/out", f"--data_dir={tmp_path}/data", "--plan"]
    assert compress("--dataset=balanced", *argv) == 0
    said = capsys.readouterr().out
    for fact in ("112,800 images", "88,435,200 bytes", "84.33837890625 MB", "7 shards"):
        assert fact in said
    assert "about 0.7 GB to download" in said
    assert compress(f"--input={idx_file}", "--shard_size=16", *argv) == 0
    assert "train: 40 images, 31,360 bytes" in capsys.readouterr().out
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_an_output_that_exists_is_refused_and_overwrite_replaces_it_whole(
    tmp_path, idx_file, capsys
):
    output = tmp_path / "out"
    flags = [f"--input={idx_file}", f"--output={output}", "--quiet"]
    assert compress(*flags, "--shard_size=10") == 0
    before = tree(output)
    assert compress(*flags, "--shard_size=16") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert tree(output) == before
    assert compress(*flags, "--shard_size=16", "--overwrite") == 0
    parts = sorted(path.name for path in (output / "latents").rglob("*.parquet"))
    assert parts == [f"part-0000{part}-of-00003.parquet" for part in range(3)]
    assert rows(output)["image_id"].tolist() == list(range(40))


def test_overwrite_does_not_touch_a_folder_that_is_no_run(tmp_path, idx_file, capsys):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    flags = [f"--input={idx_file}", f"--output={tmp_path}/home", "--overwrite"]
    assert compress(*flags) == 2
    assert "holds files that are not a run" in capsys.readouterr().err
    assert tree(tmp_path / "home") == {"letter.txt": b"dear"}


def test_stage_brings_a_dataset_once_and_says_where(tmp_path, capsys):
    argv = ["stage", "--dataset=sample", f"--data_dir={tmp_path}", "--shard_size=1000"]
    assert run(argv) == 0
    said = capsys.readouterr().out
    assert "1,500 train, 297 test" in said
    assert f"{tmp_path}/sample" in said
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert len([path for path in before if path.suffix == ".parquet"]) == 3
    assert run(argv) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_stage_that_was_interrupted_is_not_there(tmp_path, sample):
    output, data_dir = sample
    half = tmp_path / "sample"
    staged = Path(data_dir.removeprefix("--data_dir=")) / "sample"
    (half / "images/split=train").mkdir(parents=True)
    (half / "images/split=train/part-00000-of-00009.parquet").write_bytes(b"of another run")
    argv = ["--dataset=sample", f"--data_dir={tmp_path}", f"--output={tmp_path}/out", "--quiet"]
    assert compress(*argv) == 0
    assert tree(half / "images") == tree(staged / "images")
    assert tree(output / "latents") == tree(tmp_path / "out/latents")


def test_a_dataset_has_one_fingerprint_whatever_the_shards(sample, tmp_path):
    _, data_dir = sample
    staged = Path(data_dir.removeprefix("--data_dir=")) / "sample/dataset.json"
    argv = ["stage", "--dataset=sample", f"--data_dir={tmp_path}", "--shard_size=700", "--quiet"]
    assert run(argv) == 0
    one, other = (
        json.loads(path.read_text()) for path in (staged, tmp_path / "sample/dataset.json")
    )
    assert one["fingerprint"] == other["fingerprint"]
    assert (len(one["files"]), len(other["files"])) == (2, 4)


def test_a_staged_dataset_that_was_altered_is_refused(tmp_path, capsys):
    argv = ["stage", "--dataset=sample", f"--data_dir={tmp_path}", "--shard_size=300", "--quiet"]
    assert run(argv) == 0
    parts = sorted((tmp_path / "sample/images/split=train").iterdir())
    parts[3].write_bytes(parts[4].read_bytes())
    argv = ["--dataset=sample", f"--data_dir={tmp_path}", f"--output={tmp_path}/out"]
    assert compress(*argv, "--shard_size=300") == 2
    assert "is not what was staged (its SHA-256 is another)" in capsys.readouterr().err
    table = pq.read_table(staged := parts[0])
    whole, other = staged.read_bytes(), pa.array([bytes(784)] * len(table), pa.binary(784))
    pq.write_table(table.set_column(2, "image", other), staged)
    assert compress(*argv, "--shard_size=300", "--overwrite") == 2
    assert f"{staged}: is not what was staged" in capsys.readouterr().err
    staged.write_bytes(whole)
    parts[3].unlink()
    assert compress(*argv, "--overwrite") == 2
    assert f"{parts[3]}: gone or damaged" in capsys.readouterr().err
    assert all(name.startswith("_incomplete-") for name in tree(tmp_path / "out"))


@pytest.mark.parametrize(
    ("lost", "said"), [(range(8), "8 of the 16 rows of shard 0"), (range(16), "24 encoded")]
)
def test_images_that_do_not_arrive_fail_the_run(
    tmp_path, idx_file, capsys, monkeypatch, lost, said
):
    from transforms.encode import EncoderHandler

    encode = EncoderHandler.run_inference

    def encode_some(self, batch, model, _inference_args=None):
        return [] if batch.image_ids[0] in lost else encode(self, batch, model)

    monkeypatch.setattr(EncoderHandler, "run_inference", encode_some)
    argv = [f"--input={idx_file}", f"--output={tmp_path}/out", "--quiet", "--batch_size=8"]
    assert compress(*argv, "--shard_size=16") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: split train: ")
    assert said in line
    assert all(name.startswith("_incomplete-") for name in tree(tmp_path / "out"))


def test_a_run_that_was_there_first_stays(tmp_path, idx_file, capsys, monkeypatch):
    flags = [f"--input={idx_file}", f"--output={tmp_path}/out", "--quiet"]
    plain, ended = compress_module.check_output, []

    def look_and_lose(*arguments: Any, **named: Any) -> None:
        """As where two commands start at once: neither finds the other when it looks."""
        plain(*arguments, **named)
        if not ended:
            ended.append(None)
            assert compress(*flags) == 0
            ended.append(tree(tmp_path / "out"))

    monkeypatch.setattr(compress_module, "check_output", look_and_lose)
    assert compress(*flags, "--shard_size=9") == 2
    assert "filled by another command" in capsys.readouterr().err
    assert tree(tmp_path / "out") == ended[1]


def test_a_run_that_was_killed_is_refused_and_then_replaced(tmp_path, idx_file, capsys):
    left = tmp_path / "out/_incomplete-0123456789ab/latents/split=train"
    left.mkdir(parents=True)
    (left / "part-00000-of-00009.parquet").write_bytes(b"half")
    flags = [f"--input={idx_file}", f"--output={tmp_path}/out", "--quiet"]
    (left.parents[1] / "job.json").write_text('{"created": "2026-01-02T03:04:05+00:00"}')
    assert compress(*flags) == 2
    assert "an unfinished run" in capsys.readouterr().err
    assert compress(*flags, "--overwrite") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "_claim.json",
        "latents",
        "manifest.json",
        "report.html",
        "sample.parquet",
        "sizes.json",
    ]


def command(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "beam_job", *argv],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_module_and_console_command_say_the_same(tmp_path, idx_file):
    console = Path(sys.executable).with_name("emnist-latents")
    flags = ["compress", f"--input={idx_file}", f"--runner={RUNNER}"]
    done = command(*flags, f"--output={tmp_path}/a")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        line for line in done.stderr.splitlines() if "note: " in line
    ]
    other = subprocess.run(
        [console, *flags, f"--output={tmp_path}/b"], capture_output=True, text=True, check=False
    )
    assert other.stdout.replace("/b", "/a") == done.stdout
    assert tree(tmp_path / "a/latents") == tree(tmp_path / "b/latents")
    assert command(*flags, f"--output={tmp_path}/c", "--quiet").stdout == ""


def test_without_runner_nothing_is_downloaded_and_the_local_runner_works(tmp_path, idx_file):
    done = command("compress", f"--input={idx_file}", f"--output={tmp_path}/out", "--debug")
    assert done.returncode == 0, done.stderr
    assert "prism" not in done.stderr.lower()
    planned = command("compress", f"--input={idx_file}", f"--output={tmp_path}/o", "--plan")
    assert "runner    FnApiRunner" in planned.stdout


@pytest.mark.long
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_with_one_line_and_what_is_done_is_continued(
    tmp_path, digits, sent, capsys
):
    np.save(tmp_path / "many.npy", np.concatenate([digits[0]] * 10))
    argv = ["compress", f"--input={tmp_path}/many.npy", f"--output={tmp_path}/out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "beam_job", *argv, f"--runner={RUNNER}"],
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell has SIGINT ignored, and so inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/_incomplete-*/notes/*/*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(sent)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    line = said.strip().splitlines()[-1]
    assert line.startswith(
        "interrupted; nothing was published; --resume continues with what is done"
    )
    assert "Traceback" not in said
    assert [path.name[:12] for path in (tmp_path / "out").iterdir()] == ["_incomplete-"]
    assert compress(*argv[1:], "--quiet") == 2
    assert "holds an unfinished run already: --resume continues it" in capsys.readouterr().err
    assert compress(*argv[1:], "--quiet", "--resume") == 0


def test_an_input_that_is_written_to_while_it_is_read_is_refused(
    tmp_path, idx_file, monkeypatch, capsys
):
    plain = EncoderHandler.result

    def result(*arguments: Any) -> Any:
        content = bytearray(idx_file.read_bytes())
        content[20] ^= 255
        idx_file.write_bytes(content)
        return plain(*arguments)

    monkeypatch.setattr(EncoderHandler, "result", result)
    flags = [f"--input={idx_file}", f"--output={tmp_path}/out"]
    assert compress(*flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {idx_file}: was written to while the job read it")
    assert not (tmp_path / "out/manifest.json").exists()
    monkeypatch.undo()
    assert compress(*flags, "--overwrite") == 0
    assert run(["verify", f"--input={tmp_path}/out", f"--against={idx_file}"]) == 0


def test_a_run_that_is_gone_before_it_is_shown_is_told(tmp_path, idx_file, monkeypatch, capsys):
    from beam_job.compress import pipeline as compress_pipeline

    plain = compress_pipeline.run

    def run_and_lose(*arguments: Any) -> None:
        plain(*arguments)
        (tmp_path / "out/manifest.json").unlink()

    monkeypatch.setattr(compress_pipeline, "run", run_and_lose)
    assert compress(f"--input={idx_file}", f"--output={tmp_path}/out") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    said = "was written, and cannot be read any more (No such file or directory): see whether"
    assert line.startswith(f"error: --output={tmp_path}/out {said} another command overwrote")


def test_a_run_whose_store_fails_before_it_is_shown_is_told_as_complete(
    tmp_path, idx_file, monkeypatch, capsys
):
    def fail(*_: object) -> None:
        raise StoreFailedError("s3://b/manifest.json: its store failed: run it again")

    monkeypatch.setattr(seal, "read_document", fail)
    assert compress(f"--input={idx_file}", f"--output={tmp_path}/out") == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    said = "is complete, and what came of it could not be read: s3://b/manifest.json"
    assert line.startswith(f"error: --output={tmp_path}/out {said}")
    assert run(["verify", f"--input={tmp_path}/out", "--quiet"]) == 0
