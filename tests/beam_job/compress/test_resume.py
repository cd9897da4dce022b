"""Continuing runs that were interrupted, and two commands at once; on Beam's local runner."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_job.__main__ import run
from beam_job.compress import command as compress_command
from beam_job.compress import complete as completion
from beam_job.datasets import staging as stage
from beam_job.exit_status import WITH_REJECTS
from beam_job.reports import sizes as report
from tests.conftest import compress, tree
from transforms import encode
from transforms.errors import RunError

IMAGES, SHARD = 40, 8


@pytest.fixture
def images(tmp_path: Path, random_images: np.ndarray) -> Path:
    np.save(tmp_path / "images.npy", random_images)
    return tmp_path / "images.npy"


def flags_of(images: Path, output: Path, shard_size: int = SHARD) -> list[str]:
    return [f"--input={images}", f"--output={output}", f"--shard_size={shard_size}", "--quiet"]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first image_id of each batch that goes through the encoder, as long as that works."""
    seen: list[int] = []
    plain = encode.EncoderHandler.result

    def noted(self: Any, batch: Any, network: Any) -> Any:
        seen.append(int(batch.image_ids[0]))
        return plain(self, batch, network)

    monkeypatch.setattr(encode.EncoderHandler, "result", noted)
    return seen


@pytest.fixture
def interrupted(
    images: Path, tmp_path: Path, encoded: list[int], capsys: pytest.CaptureFixture[str]
) -> Path:
    """A run of which three shards of five were done."""
    output = tmp_path / "out"
    with failing_at(24):
        assert compress(*flags_of(images, output)) == 1
    assert "--resume continues with what is done, 3 shards" in capsys.readouterr().err
    assert encoded == [0, 8, 16]
    encoded.clear()
    return output


@contextmanager
def meanwhile(image_id: int, happens: Callable[[], Any]) -> Iterator[None]:
    """Something happens, once, while the batch that begins with this image_id is encoded."""
    plain, pending = encode.EncoderHandler.result, [happens]

    def result(handler: Any, batch: Any, network: Any) -> Any:
        if batch.image_ids[0] == image_id and pending:
            pending.pop()()
        return plain(handler, batch, network)

    encode.EncoderHandler.result = result  # type: ignore[method-assign]
    try:
        yield
    finally:
        encode.EncoderHandler.result = plain  # type: ignore[method-assign]


def failing_at(image_id: int) -> AbstractContextManager[None]:
    return meanwhile(image_id, lambda: fail("the machine is gone"))


def fail(line: str = "no room left") -> None:
    raise RunError(line)


def attempts(output: Path) -> list[Path]:
    return sorted(output.glob("_incomplete-*"))


def check_like_whole(output: Path, images: Path, tmp_path: Path) -> None:
    """That a run is what it would have been, had nothing interrupted it."""
    assert compress(*flags_of(images, tmp_path / "whole")) == 0
    found, expected = tree(output), tree(tmp_path / "whole")
    for files in (found, expected):  # Which attempts there were.
        files.pop("_claim.json")
    manifests = [json.loads(files.pop("manifest.json")) for files in (found, expected)]
    reports = [files.pop("report.html").decode() for files in (found, expected)]
    assert found == expected
    for manifest in manifests:
        for name in ("run_id", "created", "flags"):
            manifest.pop(name)
    assert manifests[0] == manifests[1]
    assert reports[0].count("<img") == reports[1].count("<img")
    assert run(["verify", f"--input={output}", f"--against={images}", "--quiet"]) == 0


def test_shards_that_are_done_are_kept(images, interrupted, encoded, tmp_path):
    assert compress(*flags_of(images, interrupted), "--resume") == 0
    assert encoded == [24, 32]
    check_like_whole(interrupted, images, tmp_path)


def test_the_images_of_a_run_that_ended_before_its_end_are_all_kept(
    images, tmp_path, encoded, monkeypatch
):
    output = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(completion, "sizes_report", lambda *_: fail())
        assert compress(*flags_of(images, output)) == 1
    encoded.clear()
    assert compress(*flags_of(images, output), "--resume") == 0
    assert encoded == []
    check_like_whole(output, images, tmp_path)


def failing_after(calls: int, plain: Callable[..., Any]) -> Callable[..., Any]:
    """A function that fails once it was called so often."""
    done: list[Any] = []

    def call(*arguments: Any) -> Any:
        if len(done) == calls:
            fail()
        done.append(arguments)
        return plain(*arguments)

    return call


@pytest.mark.parametrize("published", range(0, 8, 2))
def test_a_run_that_ended_while_it_published_is_continued(
    published, images, tmp_path, encoded, monkeypatch, capsys
):
    output = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", failing_after(published, os.link))
        assert compress(*flags_of(images, output)) == 1
    assert not (output / "manifest.json").exists()
    assert "no room left; --resume continues with what is done, 5 shards" in capsys.readouterr().err
    assert compress(*flags_of(images, output)) == 2
    assert "holds an unfinished run already: --resume continues it" in capsys.readouterr().err
    encoded.clear()
    assert compress(*flags_of(images, output), "--resume") == 0
    assert encoded == []
    check_like_whole(output, images, tmp_path)


def one_file(folder: Path, pattern: str) -> Path:
    return min(attempts(folder)[0].glob(pattern))


def alter_file(output: Path, _: Path) -> None:
    path = one_file(output, "latents/*/*.parquet")
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)


def remove_file(output: Path, _: Path) -> None:
    one_file(output, "latents/*/*.parquet").unlink()


def spoil_note(output: Path, _: Path) -> None:
    one_file(output, "notes/*/*.json").write_bytes(b'{"file": 3')


@pytest.mark.parametrize("change", [alter_file, remove_file, spoil_note])
def test_a_shard_is_made_again_unless_it_is_what_it_was(
    change: Callable[[Path, Path], None], images, interrupted, encoded, tmp_path
):
    change(interrupted, images)
    assert compress(*flags_of(images, interrupted), "--resume") == 0
    assert sorted(encoded) == [0, 24, 32]
    check_like_whole(interrupted, images, tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--batch_size=5"], "--batch_size (1024 there, 5 now)"),
        (["--latent_dtype=float16"], 'model.latent_dtype ("float32" there, "float16" now)'),
        (["--engine=tensorflow"], 'model.engine ("ncnn" there, "tensorflow" now)'),
    ],
)
def test_a_run_of_other_flags_is_refused_by_name(images, interrupted, flags, said, capsys):
    before = tree(interrupted)
    assert compress(*flags_of(images, interrupted), *flags, "--resume") == 2
    line = capsys.readouterr().err
    assert f"{attempts(interrupted)[0]} is another one, by " in line
    assert said in line
    assert tree(interrupted) == before
    assert compress(*flags_of(images, interrupted), *flags, "--overwrite") == 0
    assert attempts(interrupted) == []


def test_another_dataset_is_told_by_its_name_first(interrupted, tmp_path, capsys):
    flags = ["--dataset=sample", f"--data_dir={tmp_path}/data", f"--output={interrupted}"]
    assert compress(*flags, "--resume") == 2
    line = capsys.readouterr().err
    assert "is another one, by dataset.name (" in line
    assert "dataset.characters ({} there, " in line


def test_other_images_are_another_run(images, interrupted, capsys):
    np.save(images, np.zeros((41, 28, 28), np.uint8))
    assert compress(*flags_of(images, interrupted), "--resume") == 2
    assert "dataset.images.all (40 there, 41 now)" in capsys.readouterr().err


def test_an_input_that_was_written_to_since_is_another_run(images, interrupted, encoded, capsys):
    pixels = np.load(images)
    pixels[3, 5, 5] ^= 255
    np.save(images, pixels)
    assert compress(*flags_of(images, interrupted), "--resume") == 2
    assert "is another one, by dataset.sources (" in capsys.readouterr().err
    assert encoded == []


def test_a_run_may_be_continued_while_its_command_is_at_work(images, tmp_path, encoded):
    output, ended = tmp_path / "out", []
    with meanwhile(24, lambda: ended.append(compress(*flags_of(images, output), "--resume"))):
        assert compress(*flags_of(images, output)) == 0
    assert ended == [0]
    assert sorted(encoded) == [0, 8, 16, 24, 24, 32, 32]
    assert attempts(output) == []
    check_like_whole(output, images, tmp_path)


def test_who_overwrites_a_run_at_work_stays(images, tmp_path, capsys):
    output, ended, whole = tmp_path / "out", [], []

    def overwrite() -> None:
        flags = [*flags_of(images, output), "--latent_dtype=float16"]
        ended.append(compress(*flags, "--overwrite"))
        whole.append(tree(output))

    with meanwhile(24, overwrite):
        assert compress(*flags_of(images, output)) == 2
    assert ended == [0]
    assert "was overwritten by another command while this one worked" in capsys.readouterr().err
    assert tree(output) == whole[0]
    assert run(["verify", f"--input={output}", f"--against={images}", "--quiet"]) == 0


def test_a_second_command_is_refused_while_one_is_at_work(images, tmp_path, capsys):
    output, ended = tmp_path / "out", []
    with meanwhile(24, lambda: ended.append(compress(*flags_of(images, output)))):
        assert compress(*flags_of(images, output)) == 0
    assert ended == [2]
    assert "holds an unfinished run already" in capsys.readouterr().err
    check_like_whole(output, images, tmp_path)


def test_with_nothing_to_continue_a_run_starts(images, tmp_path):
    assert compress(*flags_of(images, tmp_path / "out"), "--resume") == 0
    check_like_whole(tmp_path / "out", images, tmp_path)


def test_a_complete_run_is_not_continued(images, tmp_path, capsys):
    assert compress(*flags_of(images, tmp_path / "out")) == 0
    before = tree(tmp_path / "out")
    assert compress(*flags_of(images, tmp_path / "out"), "--resume") == 2
    assert "holds a complete run already" in capsys.readouterr().err
    assert tree(tmp_path / "out") == before


def test_rejects_of_shards_that_are_kept_are_told_again(tmp_path, encoded):
    from PIL import Image

    cells = []
    for number in range(8):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((28, 28), number, np.uint8)).save(path)
        cells.append({"bytes": b"none" if number in (1, 7) else path.read_bytes(), "path": None})
    pq.write_table(pa.table({"image": cells}), tmp_path / "images.parquet")
    flags = [f"--input={tmp_path}/images.parquet", "--max_rejects=2", "--shard_size=2", "--quiet"]
    assert compress(*flags, f"--output={tmp_path}/whole") == WITH_REJECTS
    with failing_at(4):
        assert compress(*flags, f"--output={tmp_path}/out") == 1
    encoded.clear()
    assert compress(*flags, f"--output={tmp_path}/out", "--resume") == WITH_REJECTS
    assert encoded == [4, 6]
    for name in ("rejects/rejects.jsonl", "sizes.json"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_an_old_run_is_whole_until_the_new_one_is(images, tmp_path):
    output, seen = tmp_path / "out", []
    assert compress(*flags_of(images, output)) == 0
    verify = ["verify", f"--input={output}", f"--against={images}", "--quiet"]
    with meanwhile(35, lambda: seen.append(run(verify))):  # In the last shard.
        assert compress(*flags_of(images, output, 7), "--overwrite") == 0
    assert seen == [0]
    assert run(verify) == 0


def test_an_interrupted_overwrite_says_how_to_continue(images, tmp_path, capsys):
    output = tmp_path / "out"
    assert compress(*flags_of(images, output), "--latent_dtype=float16") == 0
    with failing_at(24):
        assert compress(*flags_of(images, output), "--overwrite") == 1
    said = "--overwrite --resume continues with what is done, 3 shards"
    assert said in capsys.readouterr().err
    assert compress(*flags_of(images, output), "--resume") == 2
    said = "next to it an unfinished one: --overwrite --resume continues that"
    assert said in capsys.readouterr().err
    assert compress(*flags_of(images, output), "--overwrite", "--resume") == 0
    check_like_whole(output, images, tmp_path)


@pytest.mark.parametrize("where", [(completion, "draw_report"), (report, "terminal_table")])
def test_an_interrupt_that_comes_too_late_says_so(images, tmp_path, monkeypatch, capsys, where):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*where, interrupted)
    argv = [flag for flag in flags_of(images, tmp_path / "out") if flag != "--quiet"]
    assert compress(*argv) == 130
    assert capsys.readouterr().err.endswith("interrupted; what it writes had been published\n")
    assert run(["verify", f"--input={tmp_path}/out", "--quiet"]) == 0
    assert attempts(tmp_path / "out") == []


@pytest.mark.parametrize("output", ["./out", "a//out", "out/", "../here/out"])
def test_an_attempt_is_no_other_by_another_spelling(images, tmp_path, monkeypatch, output):
    (tmp_path / "here/a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with failing_at(24):
        assert compress(*flags_of(images, Path(output))) == 1
    argv = [f"--input={images}", f"--output={output}", f"--shard_size={SHARD}", "--quiet"]
    assert compress(*argv, "--resume") == 0
    check_like_whole(Path(output), images, tmp_path)


def test_an_interrupt_is_not_told_of_what_was_staged(tmp_path, capsys):
    def interrupt() -> None:
        raise KeyboardInterrupt

    flags = ["--dataset=sample", f"--data_dir={tmp_path}/data", f"--output={tmp_path}/out"]
    with meanwhile(0, interrupt):
        assert compress(*flags, "--quiet") == 130
    assert capsys.readouterr().err.endswith("interrupted; nothing was published\n")
    assert (tmp_path / "data/sample/dataset.json").exists()
    assert not (tmp_path / "out").exists()


def test_an_attempt_that_somebody_removes_leaves_the_older_run(images, tmp_path, capsys):
    output = tmp_path / "out"
    assert compress(*flags_of(images, output)) == 0
    before = tree(output)
    with meanwhile(32, lambda: shutil.rmtree(attempts(output)[0])):
        assert compress(*flags_of(images, output), "--latent_dtype=float16", "--overwrite") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is gone: something removed it while the job ran; run it again" in line
    left = tree(output)
    assert left.items() >= before.items()
    assert run(["verify", f"--input={output}", f"--against={images}", "--quiet"]) == 0


def test_a_file_that_somebody_removes_is_named_and_publishes_nothing(images, tmp_path, capsys):
    output = tmp_path / "out"
    with meanwhile(32, lambda: one_file(output, "latents/*/*.parquet").unlink()):
        assert compress(*flags_of(images, output)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is gone: something removed it while the job ran; run it again" in line
    assert not (output / "manifest.json").exists()
    assert compress(*flags_of(images, output), "--resume") == 0
    check_like_whole(output, images, tmp_path)


def test_who_comes_second_stays_out(images, tmp_path, monkeypatch, capsys):
    """Neither finds the other when it looks; the first one ends while it publishes."""
    output, looked = tmp_path / "out", []
    plain = compress_command.check_output

    def look_and_lose(*arguments: Any, **named: Any) -> None:
        plain(*arguments, **named)
        if not looked:
            looked.append(None)
            with monkeypatch.context() as patched:
                patched.setattr(os, "link", failing_after(2, os.link))
                assert compress(*flags_of(images, output)) == 1

    monkeypatch.setattr(compress_command, "check_output", look_and_lose)
    assert compress(*flags_of(images, output)) == 2
    said = "is being written by another command, and that one stays: wait for it; if it was killed"
    assert said in capsys.readouterr().err
    assert not (output / "manifest.json").exists()
    assert compress(*flags_of(images, output), "--resume") == 0
    check_like_whole(output, images, tmp_path)


def test_staging_is_continued(tmp_path, monkeypatch, capsys):
    argv = ["stage", "--dataset=sample", f"--data_dir={tmp_path}/d", "--quiet", "--shard_size=300"]
    plain, written = stage.staged_bytes, []

    def failing(table: Any, *arguments: Any) -> bytes:
        if len(written) == 3:
            fail("killed")
        written.append(table.num_rows)
        return plain(table, *arguments)

    monkeypatch.setattr(stage, "staged_bytes", failing)
    assert run(argv) == 1
    assert "--resume continues with what is done, 3 shards" in capsys.readouterr().err
    (attempt,) = attempts(tmp_path / "d/sample")
    assert run([*argv[:-1], "--shard_size=299", "--resume"]) == 2
    assert "--shard_size (300 there, 299 now)" in capsys.readouterr().err
    path = next(iter(sorted(attempt.glob("images/*/*.parquet"))))
    path.write_bytes(b"altered")
    written.clear()
    monkeypatch.setattr(stage, "staged_bytes", lambda *given: written.append(1) or plain(*given))
    assert run([*argv, "--resume"]) == 0
    assert len(written) == 6 - 3 + 1
    assert run([*argv[:2], f"--data_dir={tmp_path}/e", *argv[3:]]) == 0
    check_staged_alike(tmp_path / "d/sample", tmp_path / "e/sample")


def check_staged_alike(one: Path, other: Path) -> None:
    found = [tree(folder) for folder in (one, other)]
    described = [json.loads(files.pop("dataset.json")) for files in found]
    for files, description in zip(found, described, strict=True):
        files.pop("_claim.json")
        description.pop("run_id")
    assert found[0] == found[1]
    assert described[0] == described[1]


def test_staging_that_ended_while_it_published_is_continued(tmp_path, monkeypatch):
    argv = ["stage", "--dataset=sample", f"--data_dir={tmp_path}/d", "--quiet", "--shard_size=300"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", failing_after(4, os.link))
        assert run(argv) == 1
    assert len(list(tmp_path.glob("d/sample/images/*/*.parquet"))) == 4
    with monkeypatch.context() as patched:
        patched.setattr(stage, "staged_bytes", fail)
        assert run([*argv, "--resume"]) == 0
    assert run([*argv[:2], f"--data_dir={tmp_path}/e", *argv[3:]]) == 0
    check_staged_alike(tmp_path / "d/sample", tmp_path / "e/sample")


def test_staging_another_way_needs_no_flag_after_one_that_ended(tmp_path, monkeypatch):
    argv = ["stage", "--dataset=sample", f"--data_dir={tmp_path}", "--quiet"]
    with monkeypatch.context() as patched:
        patched.setattr(stage, "staged_bytes", fail)
        assert run([*argv, "--shard_size=300"]) == 1
    assert run([*argv, "--shard_size=200"]) == 0
    assert attempts(tmp_path / "sample") == []


WRITES_A_CHECKPOINT = """
import os, signal, sys
from beam_job.__main__ import main
plain = os.replace
def replace(source, destination):
    if str(destination).endswith("checkpoint.npz"):
        os.kill(os.getpid(), signal.SIGKILL)
    plain(source, destination)
os.replace = replace
main()
"""


@pytest.mark.long
def test_half_a_checkpoint_is_in_nobodys_way(images, tmp_path):
    flags = [f"--input={images}", f"--output={tmp_path}/model", "--epochs=1", "--quiet"]
    argv = [sys.executable, "-c", WRITES_A_CHECKPOINT, "train", *flags]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert all(path.name.startswith("_incomplete-") for path in (tmp_path / "model").iterdir())
    assert run(["train", *flags]) == 0
