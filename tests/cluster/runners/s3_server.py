"""An S3 server that every machine of the network reaches."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3

from tests.cluster.processes import free_port, is_open, server
from tests.cluster.runners.network import HERE

BUCKET = "bucket"
ADDRESS = f"s3://{BUCKET}"


@contextmanager
def s3_server(log: Path) -> Iterator[Any]:
    """A client of an S3 server with an empty bucket, which whatever starts meanwhile uses."""
    port = free_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{HERE}:{port}",
    }
    command = [sys.executable, "-m", "moto.server", "-H", HERE, "-p", str(port)]
    with (
        patch.dict(os.environ, settings),
        server(command, log, lambda: is_open(port, HERE)),
    ):
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
