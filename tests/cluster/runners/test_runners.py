"""The same job on every runner: row for row and file for file what the local one writes."""

import os
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cluster.processes import end, run_command, start_command, wait_until
from tests.cluster.runners.conftest import parquet, stored, stored_names, upload
from tests.cluster.runners.flink_cluster import FlinkCluster
from tests.cluster.runners.s3_server import ADDRESS, BUCKET
from tests.conftest import RUNNER, tree

SIZES = ["--shard_size=1000", "--batch_size=500"]
"""Ten shards of the digits, so that every worker has some."""

MANY = 60_000
PARALLELISM = 2


@pytest.fixture(scope="module")
def images(store: Any, digits_folder: Path) -> str:
    """The official test digits, in the object store."""
    return upload(store, digits_folder, "digits") + "/*-images-idx3-ubyte.gz"


@pytest.fixture(scope="module")
def local_run(images: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits' latents by the local runner."""
    output = tmp_path_factory.mktemp("local") / "run"
    run_quietly(
        "compress",
        f"--input={images}",
        f"--output={output}",
        "--engine=tensorflow",
        f"--runner={RUNNER}",
        *SIZES,
    )
    return output


@pytest.fixture(scope="module")
def local_reconstruction(local_run: Path) -> Path:
    output = local_run.with_name("reconstruction")
    flags = [f"--input={local_run}", f"--output={output}", f"--runner={RUNNER}"]
    run_quietly("reconstruct", *flags)
    return output


@pytest.fixture(scope="module")
def many_images(store: Any, digits: tuple[np.ndarray, np.ndarray], disk: Path) -> str:
    """The digits several times over, so that a job on them takes a while."""
    images = np.concatenate([digits[0]] * (MANY // len(digits[0])))
    (disk / "many").mkdir()
    np.save(disk / "many/images.npy", images)
    return upload(store, disk / "many", "many") + "/images.npy"


@pytest.fixture(scope="module")
def many_local(many_images: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("many") / "run"
    flags = [f"--input={many_images}", f"--output={output}", "--engine=tensorflow"]
    run_quietly("compress", *flags, f"--runner={RUNNER}", *SIZES)
    return output


def run_quietly(*flags: str) -> None:
    """Runs a command that succeeds, and has nothing to say."""
    run = run_command(*flags, "--quiet")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_prism(images: str, on_prism: list[str], local_run: Path, tmp_path: Path):
    flags = [f"--input={images}", f"--output={tmp_path}/run", "--engine=tensorflow", *SIZES]
    run_quietly("compress", *flags, *on_prism)
    assert parquet(tree(tmp_path / "run")) == parquet(tree(local_run))


def test_flink_inside_the_job_server(
    images: str,
    on_flink: list[str],
    local_run: Path,
    local_reconstruction: Path,
    tmp_path: Path,
):
    flags = [f"--input={images}", f"--output={tmp_path}/run", "--engine=tensorflow", *SIZES]
    run_quietly("compress", *flags, *on_flink)
    assert parquet(tree(tmp_path / "run")) == parquet(tree(local_run))
    flags = [f"--input={tmp_path}/run", f"--output={tmp_path}/reconstruction"]
    run_quietly("reconstruct", *flags, *on_flink)
    assert parquet(tree(tmp_path / "reconstruction")) == parquet(tree(local_reconstruction))


def test_flink_cluster(
    store: Any,
    images: str,
    on_cluster: list[str],
    local_run: Path,
    local_reconstruction: Path,
):
    run_quietly("compress", f"--input={images}", f"--output={ADDRESS}/run", *SIZES, *on_cluster)
    assert parquet(stored(store, "run")) == parquet(tree(local_run))
    assert {"manifest.json", "sizes.json", "report.html"} <= stored(store, "run").keys()
    flags = [f"--input={ADDRESS}/run", f"--output={ADDRESS}/reconstruction"]
    run_quietly("reconstruct", *flags, *on_cluster)
    assert parquet(stored(store, "reconstruction")) == parquet(tree(local_reconstruction))


@pytest.mark.parametrize("runner", ["on_prism", "on_flink", "on_cluster"])
def test_what_is_wrong_is_told_in_one_line(
    store: Any, runner: str, tmp_path: Path, request: pytest.FixtureRequest
):
    images = pa.array([b"\0" * 784] * 4 + [None], pa.binary(784))
    pq.write_table(pa.table({"image": images}), tmp_path / "images.parquet")
    address = upload(store, tmp_path, "bad") + "/images.parquet"
    flags = [f"--input={address}", f"--output={ADDRESS}/none", *request.getfixturevalue(runner)]
    run = run_command("compress", *flags)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == (
        f"error: 1 image could not be read and --max_rejects=0; the first is {address} row 4: "
        "there are no bytes; mend the input, or bear more with --max_rejects\n"
    )
    assert stored(store, "none") == {}


def test_no_worker_pool_on_the_machines_of_the_cluster(
    store: Any, images: str, on_cluster: list[str]
):
    elsewhere = "--environment_config=localhost:50001"
    flags = [elsewhere if flag.startswith("--environment_config") else flag for flag in on_cluster]
    assert elsewhere in flags
    run = run_command("compress", f"--input={images}", f"--output={ADDRESS}/none", *flags)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == (
        "error: the job failed, as something refused a connection from the cluster: a worker pool "
        "has to listen at --environment_config=localhost:50001 on each of its machines "
        "(python -m apache_beam.runners.worker.worker_pool_main)\n"
    )
    assert stored(store, "none") == {}


@pytest.mark.parametrize("attempt", range(int(os.environ.get("KILLS", "1"))))
def test_a_task_manager_is_killed(
    store: Any,
    many_images: str,
    cluster: FlinkCluster,
    on_cluster: list[str],
    many_local: Path,
    logs: Path,
    attempt: int,
):
    chance = random.Random(attempt)
    victim, written = chance.randrange(2), chance.randrange(1, MANY // 1000)
    flags = [f"--input={many_images}", f"--output={ADDRESS}/killed-{attempt}", *SIZES]
    job = start_command("compress", *flags, *on_cluster, "--quiet")
    try:
        names = lambda: stored_names(store, f"killed-{attempt}")  # noqa: E731
        enough = lambda: sum(n.endswith(".parquet") for n in names()) >= written  # noqa: E731
        wait_until(enough, 150, f"{written} shards are written", job)
        noted = {name for name in names() if "/notes/" in name}
        cluster.kill_task_manager(victim)
        out, err = job.communicate(timeout=150)
    finally:
        end(job)
        cluster.replace_task_manager(victim)
    assert (job.returncode, out, err) == (0, "", "")
    assert cluster.shuffled_bytes() / MANY <= 300
    assert cluster.failures_of_last_job()
    found = stored(store, f"killed-{attempt}")
    assert found.keys() == tree(many_local).keys()
    assert parquet(found) == parquet(tree(many_local))
    files = files_by_shard(logs / "s3.log", f"killed-{attempt}")
    assert len(files) == MANY // 1000
    done = {name.rpartition("/")[2].removesuffix(".json") for name in noted}
    assert {shard: len(files[shard]) for shard in done} == dict.fromkeys(done, 1)
    # What was in flight: a shard of each of the two workers, and what their zombies still wrote.
    assert sum(map(len, files.values())) - len(files) <= 2 * PARALLELISM


def files_by_shard(log: Path, run: str) -> dict[str, set[str]]:
    """The names of files that were put into a run's attempt, by shard, as the server logged it."""
    name = r"latents/[^/]+/(part-[-\w]+)\.(\w+)\.parquet"
    put = re.compile(rf"PUT /{BUCKET}/{run}/_incomplete-\w+/{name}")
    files: dict[str, set[str]] = defaultdict(set)
    for shard, token in put.findall(log.read_text(errors="replace")):
        files[shard].add(token)
    return files
