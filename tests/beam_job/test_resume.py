"""Going on with runs that were interrupted, and two at once; on Beam's local runner."""

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_job import compress as compress_command
from beam_job import compress_pipeline, publishing
from beam_job.__main__ import run
from beam_job.options import WITH_REJECTS
from tests.conftest import compress, tree
from transforms import encode
from transforms.errors import FilledError, InputError, RunError
from transforms.files import write_bytes

IMAGES, SHARD = 40, 8


@pytest.fixture
def images(tmp_path: Path, random_images: np.ndarray) -> Path:
    np.save(tmp_path / "images.npy", random_images)
    return tmp_path / "images.npy"


def flags_of(images: Path, output: Path) -> list[str]:
    return [f"--input={images}", f"--output={output}", f"--shard_size={SHARD}", "--quiet"]


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
    assert "--resume goes on with what is done, 3 shards" in capsys.readouterr().err
    assert encoded == [0, 8, 16]
    encoded.clear()
    return output


class failing_at:  # noqa: N801  # Reads as what it does.
    """The encoder fails at the batch that begins with this image_id."""

    def __init__(self, image_id: int) -> None:
        self._image_id = image_id

    def __enter__(self) -> None:
        self._plain = plain = encode.EncoderHandler.result

        def failing(handler: Any, batch: Any, network: Any) -> Any:
            if batch.image_ids[0] == self._image_id:
                raise RunError("the machine is gone")
            return plain(handler, batch, network)

        encode.EncoderHandler.result = failing  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        encode.EncoderHandler.result = self._plain  # type: ignore[method-assign]


def attempts(output: Path) -> list[Path]:
    return sorted(output.glob("_incomplete-*"))


def check_like_whole(output: Path, images: Path, tmp_path: Path) -> None:
    """That a run is what it would have been, had nothing interrupted it."""
    assert compress(*flags_of(images, tmp_path / "whole")) == 0
    found, expected = tree(output), tree(tmp_path / "whole")
    manifests = [json.loads(files.pop("manifest.json")) for files in (found, expected)]
    reports = [files.pop("report.html").decode() for files in (found, expected)]
    assert found == expected
    for manifest in manifests:
        for name in ("run_id", "created", "flags"):
            manifest.pop(name)
        manifest["files"] = [file for file in manifest["files"] if file["path"] != "report.html"]
    assert manifests[0] == manifests[1]
    assert reports[0].count("<img") == reports[1].count("<img")
    assert run(["verify", f"--input={output}", f"--against={images}", "--quiet"]) == 0


def test_shards_that_are_done_are_kept(images, interrupted, encoded, tmp_path):
    assert compress(*flags_of(images, interrupted), "--resume") == 0
    assert encoded == [24, 32]
    check_like_whole(interrupted, images, tmp_path)


def test_with_nothing_left_to_do_a_run_is_only_completed(images, tmp_path, encoded, monkeypatch):
    from beam_job import completion

    output = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(completion, "report_html", fail)
        assert compress(*flags_of(images, output)) == 1
    encoded.clear()
    assert compress(*flags_of(images, output), "--resume") == 0
    assert encoded == []
    check_like_whole(output, images, tmp_path)


def fail(*_: object) -> None:
    raise RunError("no room left")


@pytest.mark.parametrize("moves", range(4))
def test_a_run_that_was_killed_while_it_published_is_gone_on_with(
    moves, images, tmp_path, encoded, monkeypatch
):
    from transforms import files

    output, plain = tmp_path / "out", files.move

    def move(*arguments: Any) -> None:
        if len(moved) == moves:
            raise RunError("killed")
        moved.append(arguments)
        plain(*arguments)

    moved: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(files, "move", move)
        assert compress(*flags_of(images, output)) == 1
    assert not (output / "manifest.json").exists()
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
    one_file(output, "notes/*/*.json").write_bytes(b'{"path": 3')


def change_image(_: Path, images: Path) -> None:
    pixels = np.load(images)
    pixels[3, 5, 5] ^= 255
    np.save(images, pixels)


@pytest.mark.parametrize("change", [alter_file, remove_file, spoil_note, change_image])
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
        (["--shard_size=9"], "--shard_size (8 there, 9 now)"),
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


def test_a_run_that_somebody_works_on_is_not_taken_over(images, interrupted, capsys):
    descriptor = os.open(attempts(interrupted)[0], os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    before = tree(interrupted)
    try:
        assert compress(*flags_of(images, interrupted), "--resume") == 2
        assert "another command is at work on" in capsys.readouterr().err
        assert tree(interrupted) == before
        assert compress(*flags_of(images, interrupted), "--overwrite") == 0
        assert attempts(interrupted), "it is not removed under the other's hands"
    finally:
        os.close(descriptor)


def test_with_nothing_to_go_on_with_a_run_starts(images, tmp_path):
    assert compress(*flags_of(images, tmp_path / "out"), "--resume") == 0
    check_like_whole(tmp_path / "out", images, tmp_path)


def test_a_complete_run_is_not_gone_on_with(images, tmp_path, capsys):
    assert compress(*flags_of(images, tmp_path / "out")) == 0
    before = tree(tmp_path / "out")
    assert compress(*flags_of(images, tmp_path / "out"), "--resume") == 2
    assert "holds a run already" in capsys.readouterr().err
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


def test_an_old_run_is_whole_until_the_new_one_is(images, tmp_path, monkeypatch):
    output = tmp_path / "out"
    assert compress(*flags_of(images, output)) == 0
    seen: list[int] = []
    plain = publishing._publish  # The moment before files are moved.

    def look(*arguments: Any) -> None:
        seen.append(run(["verify", f"--input={output}", "--quiet"]))
        plain(*arguments)

    monkeypatch.setattr(publishing, "_publish", look)
    assert compress(*flags_of(images, output), "--shard_size=7", "--overwrite") == 0
    assert seen == [0]
    assert run(["verify", f"--input={output}", "--quiet"]) == 0


def test_an_interrupted_overwrite_says_how_to_go_on(images, tmp_path, capsys):
    output = tmp_path / "out"
    assert compress(*flags_of(images, output), "--latent_dtype=float16") == 0
    with failing_at(24):
        assert compress(*flags_of(images, output), "--overwrite") == 1
    assert "--overwrite --resume goes on with what is done, 3 shards" in capsys.readouterr().err
    assert compress(*flags_of(images, output), "--resume") == 2
    assert "beside it an unfinished one: --overwrite --resume goes" in capsys.readouterr().err
    assert compress(*flags_of(images, output), "--overwrite", "--resume") == 0
    check_like_whole(output, images, tmp_path)


@pytest.mark.parametrize(
    "where", [(compress_pipeline, "_run_pipeline"), (compress_command, "_show")]
)
def test_an_interrupt_that_comes_too_late_says_so(images, tmp_path, monkeypatch, capsys, where):
    plain = getattr(*where)

    def interrupted(*arguments: Any) -> None:
        plain(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(*where, interrupted)
    argv = [flag for flag in flags_of(images, tmp_path / "out") if flag != "--quiet"]
    assert compress(*argv) == 130
    assert capsys.readouterr().err.endswith("interrupted; what it writes had been published\n")
    assert run(["verify", f"--input={tmp_path}/out", "--quiet"]) == 0
    assert attempts(tmp_path / "out") == []


@pytest.mark.parametrize("output", ["./out", "a//out", "out/", "../here/out"])
def test_an_attempt_is_no_other_by_another_spelling(tmp_path, monkeypatch, output):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    attempt = publishing.begin(output, "--output")
    assert publishing.all_attempts(output) == [publishing.Attempt(attempt.folder, output)]
    assert publishing.other_attempts(attempt) == []
    files = {"a": write_bytes(publishing.child(attempt.folder, "a"), b"some")}
    publishing.publish(attempt, files, "seal", b"{}", (), overwrite=False)
    assert set(tree(Path(output))) == {"a", "seal"}


def test_an_interrupt_is_not_told_of_what_was_staged(tmp_path, monkeypatch, capsys):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compress_pipeline, "_run_pipeline", interrupted)
    flags = ["--dataset=sample", f"--data_dir={tmp_path}/data", f"--output={tmp_path}/out"]
    assert compress(*flags, "--quiet") == 130
    assert capsys.readouterr().err.endswith("interrupted; nothing was published\n")
    assert (tmp_path / "data/sample/dataset.json").exists()


def test_an_attempt_that_is_removed_leaves_the_older_run(images, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    assert compress(*flags_of(images, output)) == 0
    before = tree(output)

    def remove_attempt(attempt: publishing.Attempt) -> None:
        shutil.rmtree(attempt.folder)

    monkeypatch.setattr(publishing, "_check_not_removed", remove_attempt)
    assert compress(*flags_of(images, output), "--latent_dtype=float16", "--overwrite") == 1
    assert "is gone: something removed it while the job ran" in capsys.readouterr().err
    assert tree(output) == before


def test_an_attempt_that_is_removed_while_it_is_published_is_made_anew(tmp_path, monkeypatch):
    def attempt_with_files() -> tuple[publishing.Attempt, dict[str, Any]]:
        attempt = publishing.begin(str(tmp_path / "out"), "--output")
        files = {name: write_bytes(f"{attempt.folder}/{name}", b"some") for name in ("a/1", "a/2")}
        return attempt, files

    plain = publishing.move_all

    def torn(folder: str, moves: list) -> None:
        plain(folder, moves[:1])
        shutil.rmtree(folder)
        plain(folder, moves[1:])

    monkeypatch.setattr(publishing, "move_all", torn)
    attempt, files = attempt_with_files()
    with pytest.raises(RunError, match="is gone: something removed it"):
        publishing.publish(attempt, files, "seal", b"{}", ("a",), overwrite=False)
    publishing.abandon(attempt)
    monkeypatch.undo()
    publishing.check_output(str(tmp_path / "out"), "seal", "run", overwrite=False)
    attempt, files = attempt_with_files()
    publishing.publish(attempt, files, "seal", b"{}", ("a",), overwrite=False)
    assert set(tree(tmp_path / "out")) == {"a/1", "a/2", "seal"}
    assert attempts(tmp_path / "out") == []


def test_what_was_half_published_is_in_nobodys_way(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a").touch()
    with pytest.raises(InputError, match="files that are no reconstruction"):
        publishing.check_output(str(tmp_path), "seal", "reconstruction", overwrite=True)
    (tmp_path / "_incomplete-1").mkdir()
    (tmp_path / "_incomplete-1/b").touch()
    publishing.check_output(str(tmp_path), "seal", "reconstruction", overwrite=False)
    (tmp_path / "seal").touch()
    with pytest.raises(InputError, match="a complete reconstruction already"):
        publishing.check_output(str(tmp_path), "seal", "reconstruction", overwrite=False)


def attempt_with(output: Path, content: bytes) -> tuple[publishing.Attempt, dict[str, Any]]:
    attempt = publishing.begin(str(output), "--output")
    return attempt, {"a/b": write_bytes(f"{attempt.folder}/a/b", content)}


def test_one_of_many_that_publish_at_once_wins(tmp_path):
    """In threads, each an attempt of its own; the seal names the file that is there."""
    for number in range(20):
        output = tmp_path / str(number)
        ended: list[str] = []

        def work(name: str, output: Path, ended: list[str], start: threading.Barrier) -> None:
            attempt, facts = attempt_with(output, name.encode())
            start.wait()
            try:
                publishing.publish(attempt, facts, "seal", name.encode(), ("a",), overwrite=False)
                ended.append(name)
            except FilledError:
                publishing.abandon(attempt)

        start = threading.Barrier(3)
        threads = [
            threading.Thread(target=work, args=(name, output, ended, start)) for name in "xyz"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ended) == 1
        expected = {"a/b": ended[0].encode(), "seal": ended[0].encode()}
        assert tree(output) == expected


def test_who_was_killed_while_publishing_is_in_nobodys_way(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "_TRIES", 4)
    dead, _ = attempt_with(tmp_path, b"dead")
    write_bytes(f"{dead.folder}/{publishing.PUBLISHING}", b"")
    attempt, facts = attempt_with(tmp_path, b"new")
    with pytest.raises(RunError, match="another command is publishing"):
        publishing.publish(attempt, facts, "seal", b"", ("a",), overwrite=False)
    publishing.release(dead)  # As the kernel does for who is dead.
    publishing.publish(attempt, facts, "seal", b"", ("a",), overwrite=False)
    assert tree(tmp_path) == {"a/b": b"new", "seal": b""}


def test_staging_goes_on(tmp_path, monkeypatch, capsys):
    from beam_job import stage

    argv = ["stage", "--dataset=sample", f"--data_dir={tmp_path}/d", "--quiet", "--shard_size=300"]
    plain, written = stage.staged_bytes, []

    def failing(table: Any, *arguments: Any) -> bytes:
        if len(written) == 3:
            raise RunError("killed")
        written.append(table.num_rows)
        return plain(table, *arguments)

    monkeypatch.setattr(stage, "staged_bytes", failing)
    assert run(argv) == 1
    (attempt,) = attempts(tmp_path / "d/sample")
    shutil.copytree(attempt, tmp_path / "kept")
    assert run([*argv, "--shard_size=299", "--resume"]) == 2
    assert "--shard_size (300 there, 299 now)" in capsys.readouterr().err
    path = next(iter(sorted(attempt.glob("images/*/*.parquet"))))
    path.write_bytes(b"altered")
    written.clear()
    monkeypatch.setattr(stage, "staged_bytes", lambda *given: written.append(1) or plain(*given))
    assert run([*argv, "--resume"]) == 0
    assert len(written) == 6 - 3 + 1
    assert run([*argv[:2], f"--data_dir={tmp_path}/e", *argv[3:]]) == 0
    assert tree(tmp_path / "d") == tree(tmp_path / "e")


class Killed(BaseException):
    """What no code of ours answers, as nobody answers kill -9."""


def killed_at(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, when: Callable) -> Any:
    """A patch by which a function kills the process when its arguments are such."""
    plain = getattr(place, name)

    def patched(*arguments: Any) -> Any:
        if when(*arguments):
            raise Killed
        return plain(*arguments)

    monkeypatch.setattr(place, name, patched)


def test_half_a_seal_lies_in_the_attempt(tmp_path, monkeypatch):
    from transforms import files

    attempt, facts = attempt_with(tmp_path, b"new")
    killed_at(monkeypatch, files, "remove", lambda path: path.endswith(".tmp"))
    killed_at(monkeypatch, files, "_rename", lambda _, path: path.endswith("/seal"))
    with pytest.raises(Killed):
        publishing.publish(attempt, facts, "seal", b"sealed", ("a",), overwrite=False)
    (left,) = tmp_path.rglob("*.tmp")
    assert str(left).startswith(f"{attempt.folder}/seal.")
    assert not (tmp_path / "seal").exists()


def test_who_was_killed_while_publishing_can_be_followed(tmp_path, monkeypatch):
    dead, facts = attempt_with(tmp_path, b"dead")
    with monkeypatch.context() as patched:
        killed_at(patched, publishing, "move", lambda *_: True)
        killed_at(patched, publishing, "remove", lambda path: path.endswith("publishing"))
        with pytest.raises(Killed):
            publishing.publish(dead, facts, "seal", b"", ("a",), overwrite=False)
    publishing.release(dead)
    assert (tmp_path / "a/b").exists()
    publishing.check_output(str(tmp_path), "seal", "model", overwrite=False)
    attempt, facts = attempt_with(tmp_path, b"new")
    publishing.publish(attempt, facts, "seal", b"", ("a",), overwrite=False)
    assert tree(tmp_path) == {"a/b": b"new", "seal": b""}
    with pytest.raises(InputError, match="holds a complete model already"):
        publishing.check_output(str(tmp_path), "seal", "model", overwrite=False)


def test_staged_shards_that_are_in_their_place_are_kept(tmp_path, monkeypatch):
    from beam_job import stage
    from transforms import files

    argv = ["stage", "--dataset=sample", f"--data_dir={tmp_path}", "--quiet", "--shard_size=300"]
    moved: list[str] = []
    with monkeypatch.context() as patched:
        killed_at(patched, files, "move", lambda *_: len(moved) == 4 or moved.append("one"))
        with pytest.raises(Killed):
            run(argv)
    assert len(list(tmp_path.glob("sample/images/*/*.parquet"))) == 4
    monkeypatch.setattr(stage, "staged_bytes", fail)
    assert run([*argv, "--resume"]) == 0
    assert len(list(tmp_path.glob("sample/images/*/*.parquet"))) == 6


def test_half_a_checkpoint_lies_in_the_attempt(images, tmp_path, monkeypatch):
    from transforms import files

    flags = [f"--input={images}", f"--output={tmp_path}/model", "--epochs=1", "--quiet"]
    with monkeypatch.context() as patched:
        killed_at(patched, files, "remove", lambda path: path.endswith(".tmp"))
        killed_at(patched, files, "_rename", lambda _, path: path.endswith("/checkpoint.npz"))
        patched.setattr(publishing, "abandon", lambda _: None)
        with pytest.raises(Killed):
            run(["train", *flags])
    (left,) = (tmp_path / "model").rglob("*.tmp")
    assert left.parent.name.startswith("_incomplete-")
    publishing.check_output(f"{tmp_path}/model", "model.json", "model", overwrite=False)


def test_an_attempt_that_cannot_be_removed_hides_no_other_error(tmp_path, monkeypatch):
    attempt, _ = attempt_with(tmp_path, b"")
    monkeypatch.setattr(publishing, "remove", fail)
    publishing.abandon(attempt)
    assert attempts(tmp_path)
