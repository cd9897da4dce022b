"""Object stores by obstore: one client a bucket, and patience that has an end."""

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from transforms.errors import (
    ChangedError,
    FileSystemError,
    NoCredentialsError,
    StoreFailedError,
    first_line,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore
from transforms.storage.answers import BROKEN_OFF, PAUSE_SECONDS, TRIES, again, store_errors

_PATH = re.compile(r"\s*(s3|gs)://([^/]*)/?(.*)", re.DOTALL | re.IGNORECASE)
_SECONDS = 60
"""How long a request may take, and how long it is tried again."""

_PATIENCE: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=_SECONDS)}
_CREDENTIALS_MINUTES = 30
_AGAIN = (408, 429, 500, 502, 503, 504)
"""The HTTP statuses after which a request is sent again."""

_PAGE = 1000


class StorePath(NamedTuple):
    """What a path such as s3://BUCKET/NAME means."""

    scheme: str
    bucket: str
    name: str

    @property
    def client(self) -> "ObjectStore":
        """The client of its bucket; raises NoCredentialsError."""
        return client(self.scheme, self.bucket)


def parse(path: str) -> StorePath:
    """The parts of a path with a scheme; raises FileSystemError for a scheme that has no store."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise FileSystemError(
            f"{path}: there is no such file system: give a path on this machine, s3:// or gs://"
        )
    return StorePath(match[1].lower(), match[2], match[3])


@cache
def client(scheme: str, bucket: str) -> "ObjectStore":
    """The client of a bucket, by the settings of the environment; one a process."""
    return _s3(bucket) if scheme == "s3" else _gcs(bucket)


def _options(address: str | None) -> Any:
    is_plain = (address or "").startswith("http://")
    return {"connect_timeout": "10s", "timeout": f"{_SECONDS}s", "allow_http": is_plain}


def _s3(bucket: str) -> "ObjectStore":
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.store import S3Store

    session = boto3.session.Session()
    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise NoCredentialsError(str(error)) from error
    if credentials is None:
        raise NoCredentialsError("Unable to locate credentials")

    def current() -> Any:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(timezone.utc) + timedelta(minutes=_CREDENTIALS_MINUTES),
        }

    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    named: Any = {"endpoint": address} if address else {}
    return S3Store(
        bucket,
        region=session.region_name or "us-east-1",
        client_options=_options(address),
        retry_config=_PATIENCE,
        credential_provider=current,
        **named,
    )


def _gcs(bucket: str) -> "ObjectStore":
    from obstore.store import GCSStore

    address = os.environ.get("STORAGE_EMULATOR_HOST")
    named: Any = {"client_options": _options(address), "retry_config": _PATIENCE}
    if address:
        named["base_url"] = address
    # An emulator asks for none, but obstore wants some to write by.
    if address or _google_credentials() is not None:
        return GCSStore(bucket, credential_provider=_google_token, **named)
    return GCSStore(bucket, skip_signature=True, **named)


@cache
def _google_credentials() -> Any:
    """Google's credentials of this machine; None where there are none."""
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        return google.auth.default(["https://www.googleapis.com/auth/devstorage.read_write"])[0]
    except DefaultCredentialsError:
        return None


def _google_token() -> Any:
    """A token that is valid now, as obstore takes it."""
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    credentials = _google_credentials()
    if credentials is None:
        return {"token": "none", "expires_at": None}
    if not credentials.valid:
        try:
            credentials.refresh(Request())
        except GoogleAuthError as error:
            raise PermissionError(error.args[0]) from error  # Without the answer's text.
    expiry = credentials.expiry and credentials.expiry.replace(tzinfo=timezone.utc)
    return {"token": credentials.token, "expires_at": expiry}


def why_no_google_credentials() -> str | None:
    """Why there are no credentials of Google's on this machine; None where there are."""
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError as error:
        return str(error)
    return None


def _tag(meta: Any) -> str:
    """What changes when an object is written: its ETag, which lists have too."""
    return str(meta["e_tag"]).strip('"')


def find(path: str) -> tuple[int, str] | None:
    """(bytes, version) of an object; None where there is none."""
    where = parse(path)
    try:
        with store_errors(path):
            meta = where.client.head(where.name)
    except FileNotFoundError:
        return None
    return meta["size"], _tag(meta)


@again
def below(folder: str) -> list[tuple[str, int, str]]:
    """(path, bytes, version) of every object below a folder."""
    scheme, bucket, name = where = parse(folder)
    with store_errors(folder):
        return [
            (f"{scheme}://{bucket}/{meta['path']}", meta["size"], _tag(meta))
            for page in where.client.list(name.rstrip("/") or None, chunk_size=_PAGE)
            for meta in page
        ]


@again
def names(folder: str) -> list[str]:
    """What is in a folder."""
    where = parse(folder)
    with store_errors(folder):
        listed = where.client.list_with_delimiter(where.name.rstrip("/") or None)
    paths = [*listed["common_prefixes"], *(meta["path"] for meta in listed["objects"])]
    return [path.rpartition("/")[2] for path in paths]


@again
def read_range(found: Any, start: int, end: int) -> bytes:
    """Bytes of an object, from `start` to before `end`; ChangedError unless it is as found."""
    if end <= start:
        return b""
    where = parse(found.path)
    options: Any = {"range": (start, end)}
    with store_errors(found.path):
        answer = where.client.get(where.name, options=options)
        if _tag(answer.meta) != found.version:
            raise ChangedError(found.path)
        return bytes(answer.bytes())


def chunks(path: str) -> Iterator[bytes]:
    """The content of an object, piece by piece; FileSystemError if it is written to meanwhile.

    Where an answer breaks off, the rest is asked for.
    """
    where, at, version = parse(path), 0, None
    for number in range(1, TRIES + 1):
        try:
            with store_errors(path):
                options: Any = {"range": {"offset": at}} if at else {}
                answer = where.client.get(where.name, options=options)
                if version not in (None, _tag(answer.meta)):
                    raise FileSystemError(f"{path}: was written to while it was read")
                version = _tag(answer.meta)
                for chunk in answer.stream():
                    at += len(chunk)
                    yield bytes(chunk)
                return
        except StoreFailedError as error:
            if number == TRIES or BROKEN_OFF not in str(error):
                raise
            time.sleep(number * PAUSE_SECONDS)


@again
def write(path: str, content: bytes) -> None:
    """Writes an object in one request; it is there whole or not at all."""
    where = parse(path)
    with store_errors(path):
        where.client.put(where.name, content, mode="overwrite", use_multipart=False)


@again
def read_versioned(path: str) -> tuple[bytes, str] | None:
    """(content, version) of an object; None where there is none.

    The version is its generation in GCS, and its ETag in S3.
    """
    where = parse(path)
    try:
        with store_errors(path):
            found = where.client.get(where.name)
            version = found.meta["version" if where.scheme == "gs" else "e_tag"]
            return bytes(found.bytes()), str(version)
    except FileNotFoundError:
        return None


def swap(path: str, content: bytes, version: str | None) -> None:
    """Writes an object if it is of a version still (None: if there is none); else ChangedError.

    The answer to a request may be lost when it has been done: then what is there decides.
    """
    where = parse(path)
    mode: Any = {"version" if where.scheme == "gs" else "e_tag": version} if version else "create"
    for number in range(1, TRIES + 1):
        try:
            with store_errors(path):
                where.client.put(where.name, content, mode=mode, use_multipart=False)
        except (ChangedError, StoreFailedError) as error:
            found = read_versioned(path)
            if found is not None and found[0] == content:
                return
            is_unchanged = (found and found[1]) == version
            if isinstance(error, ChangedError) or not is_unchanged or number == TRIES:
                raise
        else:
            return


def withdraw(path: str, version: str, _: str) -> None:
    """Empties an object if it is of a version still: more stores can than remove it on that."""
    swap(path, b"", version)


def remove_if(path: str, version: str) -> None:
    """Removes an object if it is of a version still; else ChangedError. No error if it is gone."""
    with store_errors(path):
        status = delete_on_condition(parse(path), version)
    if status in (409, 412):
        raise ChangedError(path)
    if status >= 400 and status != 404:  # noqa: PLR2004
        raise StoreFailedError(f"{path}: its store answered {status}: run it again")


def delete_on_condition(where: StorePath, version: str) -> int:
    """Asks a store to delete an object of a version, which obstore cannot; the HTTP status.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html and
    https://cloud.google.com/storage/docs/request-preconditions
    """
    import obstore
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    if where.scheme == "s3":
        client: Any = where.client
        url = obstore.sign(client, "DELETE", where.name, timedelta(seconds=_SECONDS))
        headers = {"If-Match": version}
    else:
        address = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        url = f"{address}/{where.bucket}/{quote(where.name)}"
        token = _google_token()["token"]
        headers = {"x-goog-if-generation-match": version, "Authorization": f"Bearer {token}"}
    retry = Retry(TRIES, backoff_factor=0.5, status_forcelist=_AGAIN, raise_on_status=False)
    try:
        with requests.Session() as session:
            session.mount(url, HTTPAdapter(max_retries=retry))
            return session.delete(url, headers=headers, timeout=_SECONDS).status_code
    except requests.RequestException as error:
        raise StoreFailedError(
            f"{where.scheme}://{where.bucket}/{where.name}: its store could not be reached "
            f"({first_line(error)}): run it again when the store answers"
        ) from error


@again
def copy(source: str, destination: str) -> None:
    """Copies an object within its bucket; FileNotFoundError where it is gone."""
    where = parse(source)
    with store_errors(source):
        where.client.copy(where.name, parse(destination).name)


@again
def delete(paths: Iterable[str]) -> None:
    """Deletes objects of one bucket, those that are there."""
    left: Sequence[str] = list(paths)
    for together in (left, *([path] for path in left)) if left else ():
        try:
            with store_errors(together[0]):
                parse(together[0]).client.delete([parse(path).name for path in together])
        except FileNotFoundError:  # GCS says so of one that is gone: then one after the other.
            continue
        if together is left:
            return
