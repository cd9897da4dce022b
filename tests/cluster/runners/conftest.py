"""What the tests on clusters share: an object store, a worker pool, Flink, and the plain answer."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.runners.flink_cluster import (
    FLINK_VERSION,
    POOL_PORT,
    FlinkCluster,
    flink_cluster,
)
from tests.cluster.runners.network import network
from tests.cluster.runners.s3_server import ADDRESS, BUCKET, s3_server


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers write what they say."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session", autouse=True)
def _network() -> Iterator[None]:
    with network():
        yield


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the commands put temporary files; no machine of the cluster sees another's."""
    folder = tmp_path_factory.mktemp("disk")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TMPDIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def store(logs: Path) -> Iterator[Any]:
    """The client of an S3 server, which whatever starts from here on uses."""
    with s3_server(logs / "s3.log") as client:
        yield client


@pytest.fixture(scope="session")
def job_server_jar() -> Path:
    return Path(os.environ["FLINK_JOB_SERVER_JAR"])


@pytest.fixture(scope="session")
def cluster(logs: Path, disk: Path) -> Iterator[FlinkCluster]:
    """A JobManager and two TaskManagers, with a pool of Python workers each."""
    with flink_cluster(logs / "flink", disk) as running:
        yield running


@pytest.fixture(scope="session")
def on_prism() -> list[str]:
    """The flags of a job on Prism."""
    return ["--runner=PrismRunner", f"--prism_location={Path(sys.executable).parent}/prism"]


@pytest.fixture(scope="session")
def on_flink(job_server_jar: Path) -> list[str]:
    """The flags of a job on Flink, which runs inside the job server."""
    return [
        "--runner=FlinkRunner",
        f"--flink_version={FLINK_VERSION}",
        f"--flink_job_server_jar={job_server_jar}",
        "--parallelism=2",
    ]


@pytest.fixture(scope="session")
def on_cluster(on_flink: list[str], cluster: FlinkCluster) -> list[str]:
    """The flags of a job on the Flink cluster, whose Python workers come from a pool a machine."""
    pool = ["--environment_type=EXTERNAL", f"--environment_config=localhost:{POOL_PORT}"]
    return [*on_flink, f"--flink_master={cluster.master}", *pool]


@pytest.fixture(scope="session")
def digits_folder(emnist_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official test digits and their labels, alone in a folder."""
    folder = tmp_path_factory.mktemp("digits")
    for path in emnist_data.glob("emnist-mnist-test-*-idx?-ubyte.gz"):
        shutil.copy(path, folder)
    return folder


def upload(store: Any, folder: Path, prefix: str) -> str:
    """Copies a folder's files into the bucket; their common address."""
    for path in folder.iterdir():
        store.upload_file(str(path), BUCKET, f"{prefix}/{path.name}")
    return f"{ADDRESS}/{prefix}"


def stored_names(store: Any, prefix: str) -> list[str]:
    """The files below a prefix of the bucket, by the rest of their names."""
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
    entries = [entry for page in pages for entry in page.get("Contents", [])]
    return [entry["Key"].removeprefix(f"{prefix}/") for entry in entries]


def stored(store: Any, prefix: str) -> dict[str, bytes]:
    """Every file below a prefix of the bucket with its content."""
    return {
        name: store.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["Body"].read()
        for name in stored_names(store, prefix)
    }


def parquet(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The Parquet files among a run's."""
    return {name: content for name, content in files.items() if name.endswith(".parquet")}
