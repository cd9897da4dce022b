"""Commands on object stores that are killed and continued, and two at once; FnApiRunner."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from beam_job.__main__ import run
from beam_job.datasets import staging as stage
from beam_job.outputs.attempt import Attempt, Kind, abandon, begin
from beam_job.outputs.seal import seal
from tests.cluster.faulty_store import Fault, Plan, faulty
from tests.cluster.processes import end, start_command
from tests.cluster.store_faults import NEVER, normalised, published
from tests.cluster.stores import Store, job
from tests.conftest import RUNNER
from transforms import encode
from transforms.errors import ChangedError, FilledError
from transforms.json_documents import decode
from transforms.models.autoencoder import import_keras
from transforms.shard_files import FinishedShard, ShardFile
from transforms.storage import stores
from transforms.storage.files import read_versioned, remove_if, write_bytes

SHARDS = "--shard_size=200"


@pytest.fixture(scope="module", params=["s3", "gcs"])
def store(request: pytest.FixtureRequest) -> Store:
    """A store with the sample staged as data, and a run of it as whole."""
    store: Store = request.getfixturevalue(request.param)
    assert job(*stage_flags(store, "resume/data"), env=store.env) == (0, "")
    assert job(*compress_flags(store, "resume/whole"), env=store.env) == (0, "")
    return store


@pytest.fixture
def output(request: pytest.FixtureRequest) -> str:
    """A folder of the store, of this test's own."""
    return f"resume/{request.node.originalname}"


@pytest.fixture
def here(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets this process use the store too."""
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    stores.client.cache_clear()


def stage_flags(store: Store, folder: str) -> list[str]:
    return ["stage", "--dataset=sample", f"--data_dir={store.url(folder)}", SHARDS, "--quiet"]


def compress_flags(store: Store, output: str) -> list[str]:
    images = ["--dataset=sample", f"--data_dir={store.url('resume/data')}"]
    written = [f"--output={store.url(output)}", f"--runner={RUNNER}"]
    return ["compress", *images, *written, SHARDS, "--quiet"]


def killed(store: Store, argv: list[str], is_time: Callable[[], bool]) -> None:
    """Runs a command until it is time, stops its store's answers, and kills it."""
    plan = Plan(Fault.SILENCE, seed=0, starts_at=NEVER)
    with faulty(store.address, plan) as address:
        process = start_command(*argv, environment=store.at(address))
        try:
            deadline = monotonic() + 400
            while not is_time():
                assert process.poll() is None, process.communicate()
                assert monotonic() < deadline
                sleep(0.01)
            plan.starts_at = 0
            while not plan.befallen:
                assert monotonic() < deadline
                sleep(0.01)
            process.send_signal(signal.SIGKILL)
        finally:
            end(process)
            process.communicate()


def notes(store: Store, output: str) -> list[ShardFile]:
    """The files that the attempts in an output have noted."""
    names = [name for name in store.names(output) if "/notes/" in name]
    return [decode(store.read(f"{output}/{name}"), FinishedShard).file for name in names]


def shard_starts(store: Store) -> set[tuple[str, int]]:
    """(split, first image_id) of every shard of the whole run."""
    files = json.loads(store.read("resume/whole/manifest.json"))["files"]
    return {(file["split"], file["first_image_id"]) for file in files if "split" in file}


def check_same(store: Store, output: str, whole: str) -> None:
    found, expected = (normalised(published(store.tree(name))) for name in (output, whole))
    assert found == expected
    assert not any(name.startswith("_incomplete-") for name in store.names(output))


@pytest.mark.usefixtures("here")
def test_compressing_is_continued(store: Store, output: str, monkeypatch: pytest.MonkeyPatch):
    argv = compress_flags(store, output)
    killed(store, argv, lambda: len(notes(store, output)) >= 2)
    done = {(file.split, file.first_image_id) for file in notes(store, output)}
    assert 2 <= len(done) < len(shard_starts(store))
    assert "manifest.json" not in store.names(output)
    encoded: list[tuple[str, int]] = []
    plain = encode.EncoderHandler.result

    def noted(self: Any, batch: Any, network: Any) -> Any:
        encoded.append((batch.shard.split, int(batch.image_ids[0])))
        return plain(self, batch, network)

    monkeypatch.setattr(encode.EncoderHandler, "result", noted)
    assert run([*argv, "--resume"]) == 0
    assert set(encoded) == shard_starts(store) - done
    check_same(store, output, "resume/whole")
    assert run(["verify", f"--input={store.url(output)}", "--quiet"]) == 0


@pytest.mark.usefixtures("here")
def test_staging_is_continued(store: Store, output: str, monkeypatch: pytest.MonkeyPatch):
    argv = stage_flags(store, output)
    killed(store, argv, lambda: len(notes(store, f"{output}/sample")) >= 2)
    done = notes(store, f"{output}/sample")
    assert 2 <= len(done) < len(shard_starts(store))
    assert "dataset.json" not in store.names(f"{output}/sample")
    written: list[int] = []
    plain = stage.staged_bytes
    monkeypatch.setattr(stage, "staged_bytes", lambda *given: written.append(1) or plain(*given))
    assert run([*argv, "--resume"]) == 0
    assert len(written) == len(shard_starts(store)) - len(done)
    check_same(store, f"{output}/sample", "resume/data/sample")


def test_training_is_continued(store: Store, output: str, tmp_path: Path):
    images = ["--dataset=sample", f"--data_dir={store.url('resume/data')}"]
    common = ["train", *images, "--epochs=3", "--quiet"]
    argv = [*common, f"--output={store.url(output)}"]
    killed(store, argv, lambda: "checkpoint.npz" in store.names(output))
    assert "model.json" not in store.names(output)
    assert job(*argv, "--resume", env=store.env, seconds=500)[0] == 0
    whole = f"--output={tmp_path}"
    assert job(*common, whole, env=store.env, seconds=500)[0] == 0
    found = published(store.tree(output))
    assert {*found, "_claim.json"} == {path.name for path in tmp_path.iterdir()}
    card, expected = (
        json.loads(found["model.json"]),
        json.loads((tmp_path / "model.json").read_text()),
    )
    assert card["history"] == expected["history"]
    (tmp_path / "found").mkdir()
    for name in ("encoder.keras", "decoder.keras"):
        (tmp_path / "found" / name).write_bytes(found[name])
        models = [import_keras().models.load_model(tmp_path / at / name) for at in ("found", "")]
        for one, other in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("overwrite", [False, True], ids=["", "overwrite"])
def test_of_two_commands_at_once_one_wins(store: Store, output: str, *, overwrite: bool):
    argv = compress_flags(store, f"{output}-{overwrite}")
    argv += ["--overwrite"] if overwrite else []
    processes = [start_command(*argv, environment=store.env) for _ in range(2)]
    try:
        said = [process.communicate(timeout=200)[1] for process in processes]
    finally:
        for process in processes:
            end(process)
    ended = sorted(zip((process.returncode for process in processes), said, strict=True))
    lines = [line for line in "".join(said).splitlines() if not line.startswith("note: ")]
    statuses = [status for status, _ in ended]
    if overwrite and statuses == [0, 0]:  # One after the other; else the later is told of.
        assert lines == []
    else:
        assert statuses == [0, 2], lines
        (line,) = lines
        assert line.startswith("error: ")
    check_same(store, f"{output}-{overwrite}", "resume/whole")


KIND = Kind("run", "seal.json", owned=("a",), resumable=True)


def attempt_at(store: Store, output: str, content: bytes, *, replace: bool) -> Attempt:
    """An attempt at an output, with a file of some content."""
    attempt = begin(store.url(output), "--output", replace=replace)
    write_bytes(f"{attempt.folder}/b", content)
    return attempt


def sealed(attempt: Attempt, *, replace: bool) -> None:
    seal(attempt, KIND, {"a/b": "b"}, {}, sealing(attempt), replace=replace)


def sealing(attempt: Attempt) -> bytes:
    return json.dumps({"run_id": attempt.run_id}).encode()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("replace", [False, True], ids=["", "overwrite"])
def test_of_many_that_seal_at_once_one_stays(store: Store, output: str, *, replace: bool):
    """Three that seal at once, as threads, five times."""
    for _ in range(5):
        attempts = [attempt_at(store, output, name.encode(), replace=replace) for name in "xyz"]
        start = threading.Barrier(len(attempts))
        ended: list[Attempt] = []

        def work(attempt: Attempt) -> None:
            start.wait()  # noqa: B023  # Joined before the next round.
            try:
                sealed(attempt, replace=replace)
                ended.append(attempt)  # noqa: B023
            except FilledError:
                abandon(attempt)

        threads = [threading.Thread(target=work, args=(attempt,)) for attempt in attempts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ended) >= 1 if replace else len(ended) == 1
        content = published(store.tree(output))
        (stays,) = [one for one in ended if sealing(one) == content["seal.json"]]
        assert content == {
            "a/b": b"xyz"[attempts.index(stays) :][:1],
            "seal.json": sealing(stays),
        }
        store.remove(output)


@pytest.mark.usefixtures("here")
def test_who_was_overwritten_brings_nothing_in(store: Store, output: str):
    first, second = (
        attempt_at(store, output, content, replace=True) for content in (b"first", b"second")
    )
    sealed(second, replace=True)
    with pytest.raises(FilledError, match="overwritten by another command"):
        sealed(first, replace=True)
    abandon(first)
    expected = {"a/b": b"second", "seal.json": sealing(second)}
    assert published(store.tree(output)) == expected
    sealed(second, replace=True)  # As a runner may do the last step again.
    assert published(store.tree(output)) == expected


@pytest.mark.usefixtures("here")
def test_an_earlier_command_that_overwrites_leaves_the_later_be(store: Store, output: str):
    first, second = (
        attempt_at(store, output, content, replace=True) for content in (b"first", b"second")
    )
    sealed(first, replace=True)
    assert store.read(f"{output}/seal.json") == sealing(first)
    sealed(second, replace=True)
    expected = {"a/b": b"second", "seal.json": sealing(second)}
    assert published(store.tree(output)) == expected


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["a", "a b/c#1?x=y%20.parquet"])
def test_an_object_is_removed_if_it_is_as_it_was_seen(store: Store, output: str, name: str):
    path = f"{store.url(output)}/{name}"
    write_bytes(path, b"first")
    first = read_versioned(path)
    assert first is not None
    write_bytes(path, b"second")
    with pytest.raises(ChangedError):
        remove_if(path, first)
    second = read_versioned(path)
    assert second is not None
    assert second.content == b"second"
    remove_if(path, second)
    assert store.names(output) == set()
    remove_if(path, second)


@pytest.mark.usefixtures("here")
def test_publishing_that_was_killed_is_continued(store: Store, output: str):
    argv = compress_flags(store, output)

    def is_publishing() -> bool:
        return "_claim.json" in store.names(output)

    killed(store, argv, is_publishing)
    names = store.names(output)
    assert "_claim.json" in names
    assert "manifest.json" not in names
    assert job(*argv, env=store.env)[0] == 2
    assert store.names(output) == names
    assert run([*argv, "--resume"]) == 0
    check_same(store, output, "resume/whole")


@pytest.mark.usefixtures("here")
def test_no_half_of_a_file_is_ever_there(store: Store, output: str, monkeypatch):
    """The connection is cut within what is sent, at all tries, of sizes that are sent otherwise."""
    plan = Plan(Fault.HALF_UPLOAD, seed=0, starts_at=NEVER)
    with faulty(store.address, plan) as address:
        script = (
            "import sys; from transforms.errors import StoreFailedError\n"
            "from transforms.storage.files import write_bytes\n"
            "try: write_bytes(sys.argv[1], b'x' * int(sys.argv[2]))\n"
            "except StoreFailedError as error: print(error)\n"
        )
        monkeypatch.setenv(store.address_variable, address)
        for size in (1_000, 20_000_000):
            store.write(f"{output}/{size}", b"old")
            plan.starts_at = 0
            said = python(script, store.url(f"{output}/{size}"), str(size))
            assert said.startswith(f"{store.url(output)}/{size}: its store failed")
            assert store.tree(output) == {f"{size}": b"old"}
            plan.starts_at = NEVER
            assert python(script, store.url(f"{output}/{size}"), str(size)) == ""
            assert store.tree(output) == {f"{size}": b"x" * size}
            store.remove(output)


@pytest.mark.usefixtures("here")
def test_answers_that_break_off_now_and_then_are_asked_for_again(
    store: Store, output: str, monkeypatch
):
    store.write(f"{output}/a", b"x" * 3_000_000)
    plan = Plan(Fault.HALF_ANSWER, seed=3)
    with faulty(store.address, plan) as address:
        script = (
            "import sys; from transforms.storage.files import find_files, list_folder, read_bytes\n"
            "for _ in range(10):\n"
            "    (found,) = list_folder(sys.argv[1])\n"
            "    assert found == find_files(found.path)[0]\n"
            "    assert read_bytes(found.path) == b'x' * 3_000_000\n"
            "print('read')\n"
        )
        monkeypatch.setenv(store.address_variable, address)
        assert python(script, store.url(output)) == "read\n"
    assert plan.befallen


def python(*arguments: str) -> str:
    """What a script prints in a process of its own."""
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout
