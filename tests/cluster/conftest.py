"""What takes a while to bring up, once for all tests of the cluster."""

from collections.abc import Iterator

import pytest

from tests.cluster import image
from tests.cluster.google import Cloud, google_cloud
from tests.cluster.stores import gcs, s3

__all__ = ["gcs", "s3"]


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[image.Podman]:
    """A container engine that has the image of deploy/Dockerfile, and nothing else running."""
    if reason := image.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("podman")
    engine = image.Podman(folder)
    try:
        image.build(engine)
        yield engine
    finally:
        engine.remove()


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """Google's storage and metadata server, on this machine."""
    with google_cloud() as made:
        yield made
