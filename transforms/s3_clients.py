"""One client of S3 for all that Beam's file system does there."""

import sys
from functools import cache
from types import SimpleNamespace
from typing import Any


@cache
def share_s3_clients() -> None:
    """Has Beam's S3 file system make one client a process, in place of one for each thing it does.

    Each reads botocore's descriptions of the service and opens a connection of its own: half of the
    time of a job that reads from S3 and writes there. Clients may be shared by threads
    (https://docs.aws.amazon.com/boto3/latest/guide/clients.html). Does nothing without boto3.
    """
    beams = sys.modules.get("apache_beam.io.aws.clients.s3.boto3_client")
    if beams is not None and beams.boto3 is not None:
        session = SimpleNamespace(client=_shared_client)
        beams.boto3 = SimpleNamespace(session=SimpleNamespace(Session=lambda: session))  # type: ignore[attr-defined]


@cache
def _shared_client(**settings: Any) -> Any:
    import boto3

    return boto3.session.Session().client(**settings)
