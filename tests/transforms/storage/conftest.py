"""Places for files: a folder of this machine, and one in S3 where its server is installed."""

from pathlib import Path

import pytest

from tests.support.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that is not there yet."""
    if request.param == "local":
        return str(tmp_path / "folder")
    return str(request.getfixturevalue("s3").url("folder"))
