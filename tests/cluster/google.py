"""What a machine of Google Cloud's has around it, on this one: a metadata server and a bucket."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.cluster.gcs_server import gcs_server

PROJECT, BUCKET = "project", "bucket"
ACCOUNT = "worker@project.iam.gserviceaccount.com"


_ANSWERS = {
    "/computeMetadata/v1/project/project-id": PROJECT,
    "/computeMetadata/v1/universe/universe-domain": "googleapis.com",
    "/computeMetadata/v1/instance/service-accounts/default/": json.dumps(
        {"aliases": ["default"], "email": ACCOUNT, "scopes": []}
    ),
    "token": json.dumps({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}),
}


class Cloud(NamedTuple):
    """environment: leads Google's clients in other processes here. bucket: gs://bucket."""

    environment: dict[str, str]
    bucket: storage.Bucket

    def read(self, prefix: str) -> dict[str, bytes]:
        """The content of every file whose path in the bucket begins like that, by path."""
        return {
            blob.name: blob.download_as_bytes() for blob in self.bucket.list_blobs(prefix=prefix)
        }


class _Metadata(BaseHTTPRequestHandler):
    """Answers as a machine with a service account does, whose tokens the storage doesn't check."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = _ANSWERS.get("token" if path.endswith("/token") else path, "")
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if "{" in answer else "text/plain")
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def google_cloud() -> Iterator[Cloud]:
    """Metadata server and storage on loopback, with one empty bucket."""
    metadata = ThreadingHTTPServer(("127.0.0.1", 0), _Metadata)
    Thread(target=metadata.serve_forever, daemon=True).start()
    metadata_host = f"127.0.0.1:{metadata.server_port}"
    try:
        with gcs_server(BUCKET) as gcs:
            client = storage.Client(
                PROJECT, AnonymousCredentials(), client_options={"api_endpoint": gcs.address}
            )
            yield Cloud(
                {
                    "STORAGE_EMULATOR_HOST": gcs.address,
                    "GCE_METADATA_HOST": metadata_host,
                    "GCE_METADATA_IP": metadata_host,
                },
                client.bucket(BUCKET),
            )
    finally:
        metadata.shutdown()
        metadata.server_close()
