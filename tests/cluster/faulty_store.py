"""A proxy before an object store, on loopback, that fails as stores do, by a plan with a seed."""

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SHARE = 0.15
"""Of the requests that something goes wrong with now and then."""
DELAY_SECONDS = 2.0
STEPS = ("content-length", "transfer-encoding", "connection")
"""What a proxy says for itself."""


class Fault(Enum):
    """What goes wrong with a request."""

    ERROR_500 = "answers 500"
    ERROR_503 = "answers 503"
    NO_ANSWER = "cuts before the answer, having done it"
    HALF_ANSWER = "cuts within the answer"
    HALF_UPLOAD = "cuts within what is sent to it"
    DELAY = "answers late"
    SILENCE = "says nothing"


@dataclass
class Plan:
    """Which requests a fault befalls: from the one of this number on, or a share of them all."""

    fault: Fault
    seed: int
    starts_at: int | None = None
    requests: int = 0
    befallen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, request: str) -> Fault | None:
        """What befalls the next request."""
        with self.lock:
            self.requests += 1
            if self.starts_at is None:
                hit = random.Random(f"{self.seed} {self.requests}").random() < SHARE
            else:
                hit = self.requests >= self.starts_at
            if hit:
                self.befallen.append(request)
            return self.fault if hit else None


class _Cut(Exception):  # noqa: N818
    """The connection is to be closed, without another byte."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan: Plan
    backend: str

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (_Cut, ConnectionError):
            self.close_connection = True

    def do(self) -> None:
        fault = self.plan.next(f"{self.command} {self.path}")
        length = int(self.headers.get("Content-Length", 0))
        assert "Transfer-Encoding" not in self.headers
        if fault is Fault.HALF_UPLOAD:
            self.rfile.read(length // 2)
            raise _Cut
        body = self.rfile.read(length)
        if fault is Fault.SILENCE:
            self._wait_until_left()
        if fault in (Fault.ERROR_500, Fault.ERROR_503):
            status = 500 if fault is Fault.ERROR_500 else 503
            self._answer(status, [("Content-Type", "text/plain")], b"injected")
            return
        if fault is Fault.DELAY:
            time.sleep(DELAY_SECONDS)
        status, headers, answer = self._ask_backend(body)
        if fault is Fault.NO_ANSWER:
            raise _Cut
        self._answer(status, headers, answer, half=fault is Fault.HALF_ANSWER)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do  # noqa: N815

    def _wait_until_left(self) -> None:
        self.connection.settimeout(600)
        self.connection.recv(1)
        raise _Cut

    def _ask_backend(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        own = self.headers["Host"]
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("expect", "host")
        }
        headers["Host"] = self.backend
        connection = http.client.HTTPConnection(self.backend, timeout=60)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            # GCS tells where else to ask, and keeps that with each object: not to be asked there.
            told = [(name, value.replace(self.backend, own)) for name, value in answer.getheaders()]
            if "octet-stream" not in (answer.getheader("Content-Type") or ""):
                content = content.replace(self.backend.encode(), own.encode())
            return answer.status, told, content

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, half: bool = False
    ) -> None:
        """half: of the body, or none of all where there is no body."""
        sent = b"" if self.command == "HEAD" else body
        if half and not sent:
            raise _Cut
        self.send_response_only(status)
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        for name, value in headers:
            if name.lower() not in STEPS:
                self.send_header(name, value)
        # The answer to HEAD tells the length of what GET would answer.
        self.send_header("Content-Length", (lengths or [str(len(body))])[0])
        self.end_headers()
        self.wfile.write(sent[: len(sent) // 2] if half else sent)
        if half:
            raise _Cut

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who was cut off, or left, is no news."""


@contextmanager
def faulty(address: str, plan: Plan) -> Iterator[str]:
    """The address of a proxy before a store, whose requests go by a plan, until the block ends."""
    handler = type("Handler", (_Handler,), {"plan": plan, "backend": urlsplit(address).netloc})
    with _Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
