"""Whole commands on an object store, as processes, by the store's own protocol."""

import signal
from pathlib import Path
from time import monotonic, sleep

import pytest

from beam_job.__main__ import run
from tests.cluster.processes import start_command
from tests.cluster.stores import Store, job, refused
from tests.conftest import PRETRAINED, RUNNER, tree

SHARDS = "--shard_size=300"  # 6 of them.


@pytest.fixture(scope="module", params=["s3", "gcs"])
def store(request: pytest.FixtureRequest) -> Store:
    """A store with the sample staged as data, and the package's model as model."""
    store: Store = request.getfixturevalue(request.param)
    for name, content in tree(PRETRAINED).items():
        store.write(f"model/{name}", content)
    flags = ("--dataset=sample", f"--data_dir={store.url('data')}")
    assert job("stage", *flags, env=store.env) == (0, "")
    return store


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this machine with the sample in data, a run of it, and what that decodes to."""
    folder = tmp_path_factory.mktemp("on_disk")
    images = ("--dataset=sample", f"--data_dir={folder}/data")
    common = ("--quiet", f"--runner={RUNNER}")
    assert run(["compress", *images, f"--output={folder}/run", SHARDS, *common]) == 0
    assert run(["reconstruct", f"--input={folder}/run", f"--output={folder}/back", *common]) == 0
    return folder


@pytest.fixture
def output(request: pytest.FixtureRequest) -> str:
    """A folder of the store, of this test's own."""
    name: str = request.node.originalname
    return name


def compress(store: Store, output: str, *flags: str) -> tuple[str, ...]:
    images = ("--dataset=sample", f"--data_dir={store.url('data')}")
    return ("compress", *images, f"--output={store.url(output)}", "--quiet", *flags)


def parquet(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name.endswith(".parquet")}


def check_same(store: Store, output: str, folder: Path) -> None:
    """Asserts that a folder of the store has the files of one on disk, and its Parquet."""
    expected, found = tree(folder), store.tree(output)
    assert set(found) == set(expected)
    assert not any(name.startswith("_incomplete-") for name in found)
    assert parquet(found) == parquet(expected) != {}


def test_what_commands_write_is_what_they_write_on_disk(store: Store, output: str, on_disk: Path):
    assert job(*compress(store, f"{output}/run", SHARDS), env=store.env) == (0, "")
    flags = (f"--input={store.url(output)}/run", f"--output={store.url(output)}/back", "--quiet")
    model = f"--model={store.url('model')}"
    assert job("reconstruct", *flags, model, env=store.env) == (0, "")
    check_same(store, "data", on_disk / "data")
    check_same(store, f"{output}/run", on_disk / "run")
    check_same(store, f"{output}/back", on_disk / "back")


def test_a_run_is_replaced_whole_or_not_at_all(store: Store, output: str, on_disk: Path):
    flags = ("--latent_dtype=int8", "--shard_size=250")  # Files that the next run hasn't.
    assert job(*compress(store, output, *flags), env=store.env)[0] == 0
    before = store.tree(output)
    line = refused(*compress(store, output, SHARDS), env=store.env)
    assert line.startswith(f"error: --output={store.url(output)} holds a complete run already")
    assert store.tree(output) == before
    assert job(*compress(store, output, SHARDS, "--overwrite"), env=store.env) == (0, "")
    check_same(store, output, on_disk / "run")


def test_a_run_that_was_killed_is_no_run(store: Store, output: str, on_disk: Path):
    process = start_command(*compress(store, output, SHARDS), environment=store.env)
    try:
        wait_for_latents(store, output)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    check_unfinished(store, output)
    assert job(*compress(store, output, SHARDS, "--overwrite"), env=store.env) == (0, "")
    check_same(store, output, on_disk / "run")


@pytest.mark.parametrize("store", ["s3"], indirect=True)  # The other takes everybody, always.
def test_a_run_that_its_store_turns_away_is_no_run(store: Store, output: str, on_disk: Path):
    process = start_command(*compress(store, output, SHARDS), environment=store.env)
    try:
        wait_for_latents(store, output)
        store.allow(0)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        store.allow(float("inf"))
    assert process.returncode in (1, 2)
    assert "Traceback" not in said
    line = said.splitlines()[-1]
    assert line.startswith("error: ")
    assert "Forbidden" in line or "InvalidAccessKeyId" in line
    check_unfinished(store, output)
    assert job(*compress(store, output, SHARDS, "--overwrite"), env=store.env) == (0, "")
    check_same(store, output, on_disk / "run")


def wait_for_latents(store: Store, output: str) -> None:
    """Until the first, but not the last, of a run's files of latents is there."""
    deadline = monotonic() + 120
    while not any(name.endswith(".parquet") for name in store.names(output)):
        assert monotonic() < deadline
        sleep(0.01)


def check_unfinished(store: Store, output: str) -> None:
    names = store.names(output)
    assert names
    assert all(name.startswith("_incomplete-") for name in names)
    line = refused("reconstruct", f"--input={store.url(output)}", "--output=x", env=store.env)
    assert "has no manifest.json, so there is no complete run" in line
