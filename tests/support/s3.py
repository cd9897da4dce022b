"""S3 on this machine, for tests of this process; where its server is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from transforms.storage import stores

KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """S3 on this machine, by moto; see tests.cluster.stores."""
    if find_spec("moto") is None:
        pytest.skip("moto is not installed: make test-cluster has it")
    from tests.cluster.stores import s3_store

    with s3_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@contextmanager
def s3_at(address: str) -> Iterator[None]:
    """Lets this process find S3 at an address."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": address}.items():
            patched.setenv(name, value)
        stores.client.cache_clear()
        yield
    stores.client.cache_clear()


@pytest.fixture
def s3(s3_server: Any) -> Iterator[Any]:
    """The same, which this process uses and where nothing is yet."""
    with s3_at(s3_server.address):
        yield s3_server
    for folder in ("folder", "in", "model", "data", "out"):
        s3_server.remove(folder)
