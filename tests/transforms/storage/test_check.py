"""What is said of a store that cannot be used: a real one, one that refuses, and none at all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from socket import socket

import pytest

from tests.support.s3 import s3_at
from transforms.errors import StoreError
from transforms.storage.check import check_store
from transforms.storage.stores import client

needs_boto3 = pytest.mark.skipif(find_spec("boto3") is None, reason="boto3 is not installed")


@pytest.mark.parametrize(
    "path",
    ["s3://bucket", "s3://bucket/", " S3://bucket/a/c", "s3://bucket/a/x-?.npy", "s3://bucket/*"],
)
@pytest.mark.usefixtures("s3")
def test_a_store_that_can_be_used_passes(path: str):
    check_store(path)


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_missing():
    with pytest.raises(StoreError) as raised:
        check_store("s3://no-such-bucket/a")
    assert str(raised.value) == "there is no bucket no-such-bucket: make it, or correct the name"


@contextmanager
def store_that_answers(status: int) -> Iterator[None]:
    """S3 that answers everything as it does what it refuses."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<Error><Code>Some</Code><Message>why</Message></Error>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with s3_at(f"http://127.0.0.1:{server.server_port}"):
            yield
        server.shutdown()


@needs_boto3
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "there is no bucket b: make it, or correct the name"),
        (401, "its store refuses the credentials (Some: why): give others by AWS_ACCESS_KEY_ID"),
        (403, "its store refuses the credentials (Some: why): give others by AWS_ACCESS_KEY_ID"),
        (400, "its store cannot be used (Some: why): correct the path, or --s3_endpoint_url"),
    ],
)
def test_an_answer_that_is_no_listing(status: int, said: str):
    with store_that_answers(status), pytest.raises(StoreError) as raised:
        check_store("s3://b/a")
    assert str(raised.value).startswith(said)


@needs_boto3
def test_a_store_that_fails_is_asked_again_and_waited_for_to_the_end():
    with store_that_answers(500), pytest.raises(StoreError) as raised:
        check_store("s3://b/a", seconds=20)
    assert str(raised.value).startswith(
        ("its store fails (Some: why): run it again when the store", "its store does not answer (")
    )


@pytest.fixture
def silent() -> Iterator[None]:
    """A store that takes connections, and says nothing."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        with s3_at(f"http://127.0.0.1:{listener.getsockname()[1]}"):
            yield


@needs_boto3
@pytest.mark.usefixtures("silent")
def test_a_store_that_says_nothing_is_not_waited_for():
    with pytest.raises(StoreError, match=r"does not answer \(nothing in 0.1 s\): correct --s3_end"):
        check_store("s3://b/a", seconds=0.1)


@needs_boto3
def test_credentials_that_are_missing(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client.cache_clear()
    with pytest.raises(StoreError) as raised:
        check_store("s3://other/a")
    assert str(raised.value) == (
        "there are no credentials for it (Unable to locate credentials): give some by "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    )


@needs_boto3
@pytest.mark.parametrize("path", ["s3:///a", "s3://", "s3:///"])
def test_a_path_without_a_bucket(path: str):
    with pytest.raises(StoreError, match="names no bucket: give s3://BUCKET/"):
        check_store(path)


@pytest.mark.parametrize("path", ["hdfs://host/a", "mem://a", "file:///a"])
def test_a_scheme_that_has_no_store(path: str):
    with pytest.raises(StoreError) as raised:
        check_store(path)
    assert str(raised.value) == (
        "there is no such file system: give a path on this machine, s3:// or gs://"
    )


@pytest.mark.parametrize(
    ("path", "package", "extra"), [("s3://b/a", "boto3", "aws"), ("gs://b/a", "google.auth", "gcp")]
)
def test_what_is_not_installed_is_named(path: str, package: str, extra: str):
    if _is_there(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(StoreError, match=rf"pip install 'emnist-latents\[{extra}\]'"):
        check_store(path)


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
