"""Whether an object store answers for a path, asked once before anything starts.

Beam's file systems take a bucket that is missing, and credentials that are refused, for a folder
without files, and try for minutes where nobody answers. So the store's own client is asked here,
for one name below the path, and has to answer in time.
"""

import re
from collections.abc import Callable
from http import HTTPStatus
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from transforms.files import file_system_options

ANSWER_SECONDS = 20.0
"""How long a store may take; a person who waits has to hear of it within 30 seconds, all told."""

_PATH = re.compile(r"\s*([a-zA-Z][-a-zA-Z0-9+.]*)://([^/]*)/?([^*?[]*)")

_NO_BUCKET = "there is no bucket {bucket}: make it, or correct the name"
_NO_CREDENTIALS = "there are no credentials for it ({cause}): give some by {credentials}"
_REFUSED = (
    "its store refuses the credentials ({cause}): give others by {credentials}, or have them "
    "allowed to list, read and write in {bucket}"
)
_NO_ANSWER = "its store does not answer ({cause}): correct {address}, or see to the network"
_OTHER = "its store cannot be used ({cause}): correct the path, or {address}"
_FAILS = "its store fails ({cause}): run it again when the store answers"
_BY_STATUS: dict[int | None, str] = {404: _NO_BUCKET, 401: _REFUSED, 403: _REFUSED}


class StoreError(Exception):
    """An object store can't be used for a path: the cause, and the way out, in one line."""


class _Store(NamedTuple):
    """An object store that Beam has a file system for, and what is to be told of it.

    package: what its file system can't do without, which our `extra` brings. ask: lists a bucket
    below a prefix with the options of the job. credentials, address: where they are set.
    """

    extra: str
    package: str
    ask: Callable[[Any, str, str], None]
    credentials: str
    address: str


class _Trouble(Exception):  # noqa: N818  # It becomes a StoreError, which says what to do.
    """A store did not list a bucket. line: one of those above."""

    def __init__(self, line: str, cause: object) -> None:
        super().__init__(cause)
        self.line = line


def check_store(path: str, seconds: float = ANSWER_SECONDS) -> None:
    """Raises StoreError unless the store of a path has its bucket, and lets it be listed.

    Paths of other file systems are not asked for.
    """
    scheme, bucket, prefix = _parts(path)
    store = _STORES.get(scheme)
    if store is None:
        return
    if not _is_installed(store.package):
        raise StoreError(f"{scheme}:// needs more: pip install 'emnist-latents[{store.extra}]'")
    if not bucket:
        raise StoreError(f"it names no bucket: give {scheme}://BUCKET/...")
    options = file_system_options()
    try:
        _within(seconds, lambda: store.ask(options, bucket, prefix))
    except Exception as error:
        line = error.line if isinstance(error, _Trouble) else _OTHER
        told = {"credentials": store.credentials, "address": store.address, "bucket": bucket}
        raise StoreError(line.format(cause=error, **told)) from error


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # Of what it lies in.
        return False


def _parts(path: str) -> tuple[str, str, str]:
    """(scheme, bucket, what all names begin with that the path may mean)."""
    match = _PATH.match(path)
    return (match[1].lower(), match[2], match[3]) if match else ("", "", "")


def _within(seconds: float, ask: Callable[[], None]) -> None:
    """Asks; raises what that raises, and _Trouble if it takes longer.

    Then the question goes on, on a thread that keeps nobody from leaving.
    """
    outcome: SimpleQueue[Exception | None] = SimpleQueue()

    def run() -> None:
        try:
            ask()
        except Exception as error:  # noqa: BLE001  # Raised again where somebody waits for it.
            outcome.put(error)
        else:
            outcome.put(None)

    Thread(target=run, daemon=True).start()
    try:
        error = outcome.get(timeout=seconds)
    except Empty:
        raise _Trouble(_NO_ANSWER, f"nothing in {seconds:g} s") from None
    if error is not None:
        raise error


def _refusal(status: int | None, error: Exception) -> _Trouble:
    """What a store's answer means; status: of HTTP."""
    if status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _Trouble(_FAILS, error)
    return _Trouble(_BY_STATUS.get(status, _OTHER), error)


def _ask_s3(options: Any, bucket: str, prefix: str) -> None:
    from apache_beam.io.aws.clients.s3.boto3_client import Client
    from botocore import exceptions as boto

    try:
        Client(options).client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise _Trouble(_NO_CREDENTIALS, error) from error
    except boto.ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        raise _refusal(status, error) from error
    except (boto.ConnectionError, boto.HTTPClientError) as error:
        raise _Trouble(_NO_ANSWER, error) from error


def _ask_gcs(options: Any, bucket: str, prefix: str) -> None:
    import google.auth
    from apache_beam.io.gcp.gcsio import create_storage_client
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth import exceptions as auth
    from requests import RequestException

    missing: Exception | None = None
    try:
        google.auth.default()
    except auth.DefaultCredentialsError as error:
        missing = error  # Which Beam tries again for half a minute, and then goes on without.
    try:
        client = create_storage_client(options, use_credentials=missing is None)
        _list_gcs(client, bucket, prefix)
    except GoogleAPICallError as error:
        refusal = _refusal(error.code, error)
        if missing is not None and refusal.line == _REFUSED:
            raise _Trouble(_NO_CREDENTIALS, missing) from error
        raise refusal from error
    except (auth.TransportError, RequestException) as error:
        cause = getattr(error.args[0], "reason", error)  # Without all that was tried.
        raise _Trouble(_NO_ANSWER, cause) from error
    except auth.GoogleAuthError as error:
        if missing is not None:
            raise _Trouble(_NO_CREDENTIALS, missing) from error
        raise _Trouble(_REFUSED, error.args[0]) from error


def _list_gcs(client: Any, bucket: str, prefix: str) -> None:
    """Raises the last error of all that were tried."""
    from google.api_core.exceptions import RetryError
    from google.cloud.storage.retry import DEFAULT_RETRY

    again = DEFAULT_RETRY.with_timeout(ANSWER_SECONDS / 2)
    try:
        for _ in client.list_blobs(bucket, prefix=prefix, max_results=1, retry=again):
            break
    except RetryError as error:
        raise error.cause or error from error


_STORES = {
    "s3": _Store(
        extra="aws",
        package="boto3",
        ask=_ask_s3,
        credentials="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        address="--s3_endpoint_url or AWS_ENDPOINT_URL",
    ),
    "gs": _Store(
        extra="gcp",
        package="google.cloud.storage",
        ask=_ask_gcs,
        credentials="`gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS",
        address="STORAGE_EMULATOR_HOST if it is set",
    ),
}
