"""What is wrong with a store is told in one line, in time, and before anything is done."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import socket

import pytest

from tests.cluster.stores import BUCKET, SECONDS, Store, google_account, refused
from transforms.storage.check import ANSWER_SECONDS


@pytest.fixture(scope="module", params=["s3", "gcs"])
def store(request: pytest.FixtureRequest) -> Store:
    store: Store = request.getfixturevalue(request.param)
    return store


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections, and says nothing."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def compress(store: Store, **paths: str) -> list[str]:
    """A command that is right but for the paths given."""
    flags = {"data_dir": store.url("data"), "output": store.url("out"), **paths}
    images = [] if "input" in flags else ["--dataset=sample"]
    return ["compress", *images, *(f"--{name}={path}" for name, path in flags.items())]


@pytest.mark.parametrize("flag", ["input", "data_dir", "model", "output"])
def test_a_bucket_that_is_missing(store: Store, flag: str):
    path = f"{store.scheme}://no-such-bucket/folder/file"
    line = refused(*compress(store, **{flag: path}), env=store.env)
    assert line == (
        f"error: --{flag}={path}: there is no bucket no-such-bucket: make it, or correct the name"
    )
    assert not store.names("out")


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["stage", "--dataset=sample"], "data_dir"),
        (["reconstruct", "--output=out"], "input"),
        (["train", "--dataset=sample"], "output"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_other_commands_ask_too(store: Store, command: list[str], flag: str):
    path = f"{store.scheme}://no-such-bucket/folder"
    line = refused(*command, f"--{flag}={path}", env=store.env)
    assert line.startswith(f"error: --{flag}={path}: there is no bucket no-such-bucket")


def test_a_model_that_is_missing(store: Store):
    model = store.url("nosuch")
    line = refused(*compress(store, model=model), env=store.env)
    assert line.startswith(f"error: --model={model} is neither a folder with a model.json")


def test_input_that_is_missing(store: Store):
    images = store.url("nosuch/*.npy")
    line = refused(*compress(store, input=images), env=store.env)
    assert line.startswith(f"error: --input={images} matches no file")


def test_a_store_where_nobody_listens(store: Store):
    with socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
        line = refused(*compress(store), env=store.at(nowhere))
    assert line.startswith(f"error: --data_dir={store.url('data')}: its store does not answer (")
    assert store.address_variable in line


def test_a_store_that_says_nothing(store: Store, silent: str):
    assert ANSWER_SECONDS + 5 < SECONDS
    line = refused(*compress(store), env=store.at(silent))
    assert line.startswith(
        f"error: --data_dir={store.url('data')}: its store does not answer (nothing in 20 s)"
    )


def without(env: dict[str, str], *names: str) -> dict[str, str]:
    """An environment without some variables, and without the credentials files of whoever runs."""
    nobody = {"HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true"}
    return {**{name: value for name, value in env.items() if name not in names}, **nobody}


@pytest.mark.parametrize(
    "names", [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_SECRET_ACCESS_KEY",)]
)
def test_credentials_that_are_missing_in_s3(s3: Store, names: tuple[str, ...]):
    line = refused(*compress(s3), env=without(s3.env, *names))
    assert line.startswith(f"error: --data_dir={s3.url('data')}: there are no credentials for it (")
    assert line.endswith("give some by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")


def test_credentials_that_s3_refuses(s3: Store):
    s3.allow(0)
    try:
        line = refused(*compress(s3), env=s3.env)
    finally:
        s3.allow(float("inf"))
    assert line.startswith(f"error: --data_dir={s3.url('data')}: its store refuses the credentials")
    assert "InvalidAccessKeyId" in line
    assert f"or have them allowed to list, read and write in {BUCKET}" in line


@contextmanager
def reader(s3: Store) -> Iterator[dict[str, str]]:
    """Keys of somebody who may list and read and no more, while the store minds who asks."""
    import boto3

    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    iam = boto3.client("iam", endpoint_url=s3.address, region_name="us-east-1", **keys)
    iam.create_user(UserName="reader")
    may = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    iam.put_user_policy(UserName="reader", PolicyName="reader", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    s3.allow(0)
    try:
        yield {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
    finally:
        s3.allow(float("inf"))


def test_credentials_that_may_not_write(s3: Store, tmp_path: Path):
    with reader(s3) as keys:
        line = refused(*compress(s3, data_dir=str(tmp_path)), env={**s3.env, **keys})
    assert line.startswith(f"error: --output={s3.url('out')} cannot be written (")
    assert "AccessDenied" in line
    assert not s3.names("out")


@contextmanager
def google_that_answers(status: int, message: str) -> Iterator[str]:
    """An address that answers everything as Google does what it refuses."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"error": {"code": status, "message": message}}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_credentials_that_are_missing_in_gcs(gcs: Store):
    with google_that_answers(401, "Anonymous caller does not have access") as there:
        env = without(gcs.env, "GOOGLE_APPLICATION_CREDENTIALS")
        line = refused(*compress(gcs), env={**env, "STORAGE_EMULATOR_HOST": there})
    assert f"--data_dir={gcs.url('data')}: there are no credentials for it (" in line
    assert "give some by `gcloud auth application-default login`" in line


def test_credentials_that_gcs_refuses(gcs: Store):
    with google_that_answers(403, "test does not have storage.objects.list access") as there:
        line = refused(*compress(gcs), env={**gcs.env, "STORAGE_EMULATOR_HOST": there})
    assert f"--data_dir={gcs.url('data')}: its store refuses the credentials (" in line
    assert "test does not have storage.objects.list access" in line


def test_credentials_that_google_refuses(gcs: Store, tmp_path: Path):
    with google_account(tmp_path, status=400) as account:
        line = refused(*compress(gcs), env={**gcs.env, **account})
    assert line.startswith(
        f"error: --data_dir={gcs.url('data')}: its store refuses the credentials "
        "(Error code invalid_grant: no such account): give others by"
    )
    assert "GOOGLE_APPLICATION_CREDENTIALS" in line
