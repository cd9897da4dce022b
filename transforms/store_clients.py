"""How object stores are used: one client of S3, files put whole, and patience that has an end.

Beam's file systems do the rest: they list, read, copy and remove.
"""

import re
import sys
from functools import cache
from types import SimpleNamespace
from typing import Any

RETRY_SECONDS = 30
"""About how long a request is tried again while a store answers that it can't, or not at all."""

_TRIES, _CONNECT_SECONDS, _READ_SECONDS = 6, 10, 15
"""Of one request to S3. Between tries botocore waits 1, 2, 4, ... seconds, times a random share."""

_STORE_PATH = re.compile(r"\s*(s3|gs)://([^/]+)/(.+)", re.DOTALL)
# What Beam tries again seven times, with pauses of 5 to 320 s, over what botocore has tried.
_TRIED_AGAIN_BY_BEAM = ("copy", "delete", "_delete_minibatch", "_s3_object")


def is_store_path(path: str) -> bool:
    """Whether a path is of a store that takes a file whole or not at all."""
    return _STORE_PATH.match(path) is not None


def put(path: str, content: bytes, options: Any) -> None:
    """Writes a file of a store in one request; options: Beam's.

    The store keeps nothing of a request whose content doesn't come whole, with the checksum that
    the client sends along, and shows the old content until then: so there is no temporary name, to
    be copied from and left behind. Beam's own writers ask for more: of S3 they begin an upload of
    many parts and complete it, even while an exception leaves their `with` block, and a completion
    whose answer was lost can't be tried again. Up to 5 GB on S3, the limit of one request.
    """
    match = _STORE_PATH.match(path)
    if match is None:
        raise ValueError(f"{path} is no file of a store")
    scheme, bucket, name = match.groups()
    if scheme == "s3":
        _s3_client(options).put_object(
            Bucket=bucket, Key=name, Body=content, ContentType="application/octet-stream"
        )
    else:
        blob = _gcs_client(options).bucket(bucket).blob(name)
        blob.upload_from_string(content, "application/octet-stream", retry=_gcs_retry())


@cache
def set_up_store_clients() -> None:
    """Has Beam make one client of S3 a process, and try no request again for longer than we do.

    Each client reads botocore's descriptions of the service and opens a connection of its own: half
    of the time of a job that reads from S3 and writes there. Clients may be shared by threads
    (https://docs.aws.amazon.com/boto3/latest/guide/clients.html). Both stores' own libraries try
    again what may be tried again; Beam does so once more for S3, which takes ten minutes where a
    store is gone. Does nothing for a store whose library is missing.
    """
    beams = sys.modules.get("apache_beam.io.aws.clients.s3.boto3_client")
    if beams is not None and beams.boto3 is not None:
        session = SimpleNamespace(client=_shared_client)
        beams.boto3 = SimpleNamespace(session=SimpleNamespace(Session=lambda: session))  # type: ignore[attr-defined]
        _trust_botocore_to_try_again(beams)
    beams = sys.modules.get("apache_beam.io.gcp.gcsio_retry")
    if beams is not None:
        once = beams.DEFAULT_RETRY_WITH_THROTTLING_COUNTER
        beams.DEFAULT_RETRY_WITH_THROTTLING_COUNTER = once.with_timeout(RETRY_SECONDS)  # type: ignore[attr-defined]


def _trust_botocore_to_try_again(boto3_client: Any) -> None:
    from apache_beam.io.aws import s3io

    decorated: list[tuple[type, str]] = [(s3io.S3IO, name) for name in _TRIED_AGAIN_BY_BEAM]
    decorated += [(s3io.S3Downloader, "_get_object_metadata"), (boto3_client.Client, "get_range")]
    for owner, name in decorated:
        setattr(owner, name, getattr(owner, name).__wrapped__)
    # What list_files decorates with, each time.
    once = {"with_exponential_backoff": lambda **_: lambda call: call}
    s3io.retry = SimpleNamespace(**{**vars(s3io.retry), **once})  # type: ignore[assignment,attr-defined]


@cache
def _shared_client(**settings: Any) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
    )
    return boto3.session.Session().client(config=config, **settings)


@cache
def _s3_client(options: Any) -> Any:
    from apache_beam.io.aws.clients.s3.boto3_client import Client

    return Client(options).client


@cache
def _gcs_client(options: Any) -> Any:
    from apache_beam.io.gcp.gcsio import create_storage_client

    return create_storage_client(options)


def _gcs_retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(RETRY_SECONDS)
