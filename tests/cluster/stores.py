"""Object stores on loopback, each a process of its own: S3 by moto, GCS by gcs_server.

Both are read back by the store's own client, not by what the project reads with.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import boto3
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.cluster.processes import free_port, is_open, run_command, server

BUCKET = "bucket"
SECONDS = 30
"""How long anything wrong may take until a person is told."""


class Store(NamedTuple):
    """A store with a BUCKET. env: what a process needs to use it; client: the store's own."""

    scheme: str
    address: str
    env: dict[str, str]
    client: Any

    def url(self, name: str) -> str:
        return f"{self.scheme}://{BUCKET}/{name}"

    def names(self, folder: str) -> set[str]:
        """What there is below a folder, named from it."""
        if self.scheme == "s3":
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=BUCKET, Prefix=f"{folder}/"
            )
            keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        else:
            keys = [blob.name for blob in self.client.list_blobs(BUCKET, prefix=f"{folder}/")]
        return {key.removeprefix(f"{folder}/") for key in keys}

    def read(self, name: str) -> bytes:
        if self.scheme == "s3":
            return self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return self.client.bucket(BUCKET).blob(name).download_as_bytes()

    def write(self, name: str, content: bytes) -> None:
        if self.scheme == "s3":
            self.client.put_object(Bucket=BUCKET, Key=name, Body=content)
        else:
            self.client.bucket(BUCKET).blob(name).upload_from_string(content)

    def remove(self, folder: str) -> None:
        """Removes what there is below a folder."""
        for name in self.names(folder):
            self.delete(f"{folder}/{name}")

    def delete(self, name: str) -> None:
        if self.scheme == "s3":
            self.client.delete_object(Bucket=BUCKET, Key=name)
        else:
            self.client.bucket(BUCKET).blob(name).delete()

    def at(self, address: str) -> dict[str, str]:
        """What a process needs to use it by another address."""
        return {**self.env, self.address_variable: address}

    @property
    def address_variable(self) -> str:
        """Where a process is told its address."""
        return "AWS_ENDPOINT_URL" if self.scheme == "s3" else "STORAGE_EMULATOR_HOST"

    def tree(self, folder: str) -> dict[str, bytes]:
        """Every file below a folder with its content."""
        return {name: self.read(f"{folder}/{name}") for name in sorted(self.names(folder))}

    def allow(self, requests: float) -> None:
        """Refuses all credentials after so many requests; S3 alone can."""
        address = f"{self.address}/moto-api/reset-auth"
        plain = {"Content-Type": "text/plain"}
        urlopen(Request(address, str(requests).encode(), plain)).close()


def job(*flags: str, env: dict[str, str], seconds: float = 300) -> tuple[int, str]:
    """(exit status, stderr) of a command, which has to end in time."""
    done = run_command(*flags, environment=env, seconds=seconds)
    return done.returncode, done.stderr


def refused(*flags: str, env: dict[str, str]) -> str:
    """The one line that a command is refused with, in time, without a traceback."""
    status, said = job(*flags, env=env, seconds=SECONDS)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert (status, "Traceback" in said) == (2, False), said
    return line


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with s3_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with gcs_store(tmp_path_factory.mktemp("gcs")) as store:
        yield store


@contextmanager
def s3_store(folder: Path) -> Iterator[Store]:
    """S3, as long as the block lasts. folder: for its log."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    settings = {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client(
        "s3",
        endpoint_url=address,
        region_name=settings["AWS_DEFAULT_REGION"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with server(command, folder / "log", lambda: is_open(port)):
        client.create_bucket(Bucket=BUCKET)
        yield Store("s3", address, {**os.environ, **keys, **settings}, client)


@contextmanager
def gcs_store(folder: Path) -> Iterator[Store]:
    """GCS, as long as the block lasts. folder: for its log and an account."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    module = [sys.executable, "-m", "tests.cluster.gcs_server"]
    place = [f"--port={port}", f"--bucket={BUCKET}"]
    with (
        server([*module, *place], folder / "log", lambda: is_open(port)),
        google_account(folder) as account,
    ):
        env = {**os.environ, "STORAGE_EMULATOR_HOST": address, **account}
        client = storage.Client(
            project="project",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": address},
        )
        yield Store("gs", address, env, client)


@contextmanager
def google_account(folder: Path, *, status: int = 200) -> Iterator[dict[str, str]]:
    """What makes a process use an account of Google's, and who gives tokens for it, or refuses to.

    Without credentials Beam looks for them for half a minute, and asks the store as nobody then.
    """
    token = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}
    token["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
    refusal = {"error": "invalid_grant", "error_description": "no such account"}

    class Tokens(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(token if status == 200 else refusal).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Tokens) as tokens:
        threading.Thread(target=tokens.serve_forever, daemon=True).start()
        (folder / "subject").write_text("subject")
        account = {
            "type": "external_account",
            "audience": "audience",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"http://127.0.0.1:{tokens.server_port}/token",
            "credential_source": {"file": str(folder / "subject")},
        }
        (folder / "account.json").write_text(json.dumps(account))
        key = str(folder / "account.json")
        yield {"GOOGLE_APPLICATION_CREDENTIALS": key, "GOOGLE_CLOUD_PROJECT": "project"}
        tokens.shutdown()
