"""Whether a store can be used for a path, asked once before anything starts, in bounded time."""

from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Thread

from transforms.errors import FileSystemError, NoCredentialsError, StoreError
from transforms.storage import answers, stores

ANSWER_SECONDS = 20.0
"""How long a store may take; a person who waits has to hear of it within 30 seconds, all told."""

_LIBRARIES = {"s3": ("boto3", "aws"), "gs": ("google.auth", "gcp")}
"""What finds a store's credentials, and our extra that brings it."""
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "`gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS",
}
_ADDRESSES = {
    "s3": "--s3_endpoint_url or AWS_ENDPOINT_URL",
    "gs": "STORAGE_EMULATOR_HOST if it is set",
}
_REFUSALS = (401, 403)


def check_store(path: str, seconds: float = ANSWER_SECONDS) -> None:
    """Raises StoreError unless the store of a path has its bucket, and lets it be listed."""
    try:
        where = stores.parse(path)
    except FileSystemError as error:
        raise StoreError(str(error).removeprefix(f"{path}: ")) from error
    library, extra = _LIBRARIES[where.scheme]
    if not _is_installed(library):
        raise StoreError(f"{where.scheme}:// needs more: pip install 'emnist-latents[{extra}]'")
    if not where.bucket:
        raise StoreError(f"it names no bucket: give {where.scheme}://BUCKET/...")
    failed = _failure_within(seconds, where)
    if failed is not None:
        raise StoreError(_line(where, failed)) from failed


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # Of what it is in.
        return False


def _failure_within(seconds: float, where: stores.StorePath) -> Exception | None:
    """What listing a bucket raises. Where it takes longer, a thread waits on, in nobody's way."""
    outcome: SimpleQueue[Exception | None] = SimpleQueue()

    def ask() -> None:
        try:
            listed = answers.again(where.client.list_with_delimiter)
            listed(where.name.partition("*")[0] or None)
        except Exception as error:  # noqa: BLE001  # Raised where somebody waits for it.
            outcome.put(error)
        else:
            outcome.put(None)

    Thread(target=ask, daemon=True).start()
    try:
        return outcome.get(timeout=seconds)
    except Empty:
        return TimeoutError(f"nothing in {seconds:g} s")


def _line(where: stores.StorePath, error: Exception) -> str:
    scheme, said, status = where.scheme, answers.reason(error), answers.http_status(error)
    missing = stores.why_no_google_credentials() if scheme == "gs" else None
    if isinstance(error, NoCredentialsError) or (missing and status in _REFUSALS):
        cause = missing or said
        return f"there are no credentials for it ({cause}): give some by {_CREDENTIALS[scheme]}"
    if status in _REFUSALS:
        return (
            f"its store refuses the credentials ({said}): give others by {_CREDENTIALS[scheme]}, "
            f"or have them allowed to list, read and write in {where.bucket}"
        )
    if status == 404:  # noqa: PLR2004
        return f"there is no bucket {where.bucket}: make it, or correct the name"
    if status is not None and status >= 500:  # noqa: PLR2004
        return f"its store fails ({said}): run it again when the store answers"
    if status is not None:
        return f"its store cannot be used ({said}): correct the path, or {_ADDRESSES[scheme]}"
    return (
        f"its store does not answer ({said}): correct {_ADDRESSES[scheme]}, or see to the network"
    )
