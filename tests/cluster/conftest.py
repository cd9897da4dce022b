"""What takes minutes to make, once for all tests of the cluster."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.image import Image, build


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image that deploy/Dockerfile makes."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("needs root, and debootstrap (apt-get install debootstrap)")
    folder = tmp_path_factory.mktemp("image")
    yield build(folder)
    shutil.rmtree(folder)
