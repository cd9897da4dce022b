"""Google Cloud Storage on loopback, in memory: what is used here of its XML and of its JSON API.

`python -m tests.cluster.gcs_server --port=4443 --bucket=bucket`

obstore speaks XML; Google's own client, and Beam by it, speak JSON. What one writes the other
reads. An object has a new generation, and so a new ETag, whenever it is written; older ones are not
kept. Credentials are not looked at.
"""

import argparse
import base64
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email import message_from_bytes, message_from_string
from email.message import Message
from email.utils import format_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import google_crc32c  # Google's client takes no upload for done without this checksum.

PAGE = 1000
"""Names that a listing answers with at most."""


class Request(NamedTuple):
    """What is asked. path: still quoted."""

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: bytes

    @property
    def generation(self) -> int | None:
        """Which generation has to be there; 0 for none."""
        given = self.query.get("ifGenerationMatch", self.headers["x-goog-if-generation-match"])
        return None if given is None else int(given)


class Answer(NamedTuple):
    """What is answered."""

    body: bytes = b""
    headers: Mapping[str, str] | None = None
    status: int = HTTPStatus.OK


class Refusal(Exception):  # noqa: N818
    """A request is answered by an error. code: its name, as in the XML API."""

    def __init__(self, status: HTTPStatus, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Object(NamedTuple):
    """An object as it was written at one time."""

    bucket: str
    name: str
    content: bytes
    generation: int
    updated: datetime

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def etag(self) -> str:
        return f'"{self.generation}"'

    @property
    def time(self) -> str:
        return f"{self.updated:%Y-%m-%dT%H:%M:%S.%fZ}"

    @property
    def crc32c(self) -> str:
        return base64.b64encode(google_crc32c.Checksum(self.content).digest()).decode()

    @property
    def headers(self) -> dict[str, str]:
        modified = format_datetime(self.updated, usegmt=True)
        generation = {"x-goog-generation": str(self.generation)}
        return {"ETag": self.etag, "Last-Modified": modified, **generation}

    @property
    def resource(self) -> dict[str, str]:
        """What the JSON API tells of it."""
        names = {"kind": "storage#object", "bucket": self.bucket, "name": self.name}
        version = {"generation": str(self.generation), "etag": self.etag, "updated": self.time}
        content = {"size": str(self.size), "crc32c": self.crc32c}
        return {**names, **version, **content, "contentType": "application/octet-stream"}


@dataclass
class Upload:
    """An upload in several requests. parts: of XML by number; of JSON all that came is part 0.

    done: what it became; whoever asks again is told again.
    """

    parts: dict[int, bytes] = field(default_factory=dict)
    done: Object | None = None


class Gcs:
    """Buckets with objects by name. requests: how many there were of each kind, as `PUT write`."""

    def __init__(self, *buckets: str) -> None:
        self.requests: Counter[str] = Counter()
        self._buckets: dict[str, dict[str, Object]] = {name: {} for name in buckets}
        self._uploads: dict[str, Upload] = {}
        self._numbers = itertools.count(time.time_ns() // 1000)
        self._lock = RLock()

    def answer(self, request: Request) -> Answer:
        """Answers one request at a time: nothing changes between a condition and its act."""
        given = {"", *request.query, *map("=".join, request.query.items())}
        with self._lock:
            for method, path, marker, operation in _ROUTES:
                names = re.fullmatch(path, request.path)
                marked = marker in given or marker in request.headers
                if method == request.method and names and marked:
                    self.requests[f"{method} {operation.__name__}"] += 1
                    try:
                        return operation(self, request, *map(unquote, names.groups()))
                    except Refusal as refusal:
                        return _refused(request, refusal)
        return Answer(status=HTTPStatus.METHOD_NOT_ALLOWED)

    def batch(self, request: Request) -> Answer:
        """Answers each of the requests that are in one."""
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        parts = message_from_bytes(head + request.body).get_payload()
        answers = [self.answer(_inner_request(part.get_payload())) for part in parts]
        start = "--batch\r\nContent-Type: application/http\r\n\r\nHTTP/1.1"
        texts = [f"{start} {int(a.status)} -\r\n\r\n{a.body.decode()}\r\n" for a in answers]
        body = "".join([*texts, "--batch--"]).encode()
        return Answer(body, {"Content-Type": "multipart/mixed; boundary=batch"})

    def make_bucket(self, request: Request) -> Answer:
        name = json.loads(request.body)["name"]
        if name in self._buckets:
            raise Refusal(HTTPStatus.CONFLICT, "BucketAlreadyOwnedByYou")
        self._buckets[name] = {}
        return self.bucket(request, name)

    def bucket(self, _: Request, bucket: str) -> Answer:
        self._objects(bucket)
        return _json({"kind": "storage#bucket", "id": bucket, "name": bucket})

    def json_list(self, request: Request, bucket: str) -> Answer:
        objects, folders, token = self._page(request, bucket, "maxResults", "pageToken")
        found = {"items": [each.resource for each in objects], "prefixes": folders}
        return _json({**found, **({"nextPageToken": token} if token else {})})

    def xml_list(self, request: Request, bucket: str) -> Answer:
        found, folders, token = self._page(request, bucket, "max-keys", "continuation-token")
        objects = [
            {"Key": each.name, "LastModified": each.time, "ETag": each.etag, "Size": each.size}
            for each in found
        ]
        told = {"Contents": objects, "CommonPrefixes": [{"Prefix": name} for name in folders]}
        return _xml("ListBucketResult", {**told, "NextContinuationToken": [token] if token else []})

    def stat(self, request: Request, bucket: str, name: str) -> Answer:
        return _json(self._wanted(request, bucket, name).resource)

    def read(self, request: Request, bucket: str, name: str) -> Answer:
        """The content of an object, or the range of it that is asked for."""
        found = self._wanted(request, bucket, name)
        headers = {**found.headers, "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if not asked:
            return Answer(found.content, {**headers, "x-goog-hash": f"crc32c={found.crc32c}"})
        first, last = asked.groups()
        start = int(first) if first else max(0, found.size - int(last))
        end = min(found.size, int(last) + 1) if first and last else found.size
        if start >= end:
            raise Refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "InvalidRange")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
        return Answer(found.content[start:end], headers, HTTPStatus.PARTIAL_CONTENT)

    def delete(self, request: Request, bucket: str, name: str) -> Answer:
        self._wanted(request, bucket, name)
        del self._buckets[bucket][name]
        return Answer(status=HTTPStatus.NO_CONTENT)

    def json_copy(self, request: Request, *names: str) -> Answer:
        """Tells what copyTo does, and what rewriteTo does."""
        copy = self._copy(request, *names)
        sizes = {"totalBytesRewritten": str(copy.size), "objectSize": str(copy.size)}
        return _json({**copy.resource, "resource": copy.resource, "done": True, **sizes})

    def xml_copy(self, request: Request, *target: str) -> Answer:
        source = request.headers["x-goog-copy-source"].lstrip("/").split("/", 1)
        copy = self._copy(request, *map(unquote, source), *target)
        told = {"ETag": copy.etag, "LastModified": copy.time}
        return _xml("CopyObjectResult", told, headers=copy.headers)

    def json_write(self, request: Request, bucket: str) -> Answer:
        """Writes the second part of a body; the first tells of it."""
        mark = f"\r\n--{request.headers.get_boundary()}".encode()
        parts = (b"\r\n" + request.body).split(mark)[1:-1]
        told, content = (part.partition(b"\r\n\r\n")[2] for part in parts)
        name = request.query.get("name") or json.loads(told)["name"]
        return _json(self._put(bucket, name, content, request.generation).resource)

    def xml_write(self, request: Request, bucket: str, name: str) -> Answer:
        made = self._put(bucket, name, request.body, request.generation)
        return Answer(headers=made.headers)

    def json_start(self, request: Request, bucket: str) -> Answer:
        """Starts an upload; the address for what follows holds what was asked."""
        name = request.query.get("name") or json.loads(request.body)["name"]
        query = urlencode({**request.query, "name": name, "uploadId": self._start(bucket)})
        place = f"http://{request.headers['Host']}{request.path}?{query}"
        return Answer(headers={"Location": place})

    def json_part(self, request: Request, bucket: str) -> Answer:
        """Takes the next bytes of an upload, or none, and tells how many there are."""
        upload = self._upload(request)
        asked = request.headers["Content-Range"]
        start, total = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", asked).groups()
        content = upload.parts.get(0, b"")
        if start:
            content = upload.parts[0] = content[: int(start)] + request.body
        if not upload.done and total == str(len(content)):
            upload.done = self._put(bucket, request.query["name"], content, request.generation)
        if upload.done:
            return _json(upload.done.resource)
        there = {"Range": f"bytes=0-{len(content) - 1}"} if content else {}
        return Answer(headers=there, status=HTTPStatus.PERMANENT_REDIRECT)

    def xml_start(self, _: Request, bucket: str, __: str) -> Answer:
        return _xml("InitiateMultipartUploadResult", {"UploadId": self._start(bucket)})

    def xml_part(self, request: Request, *_: str) -> Answer:
        number = int(request.query["partNumber"])
        self._upload(request).parts[number] = request.body
        return Answer(headers={"ETag": f'"{number}"'})

    def xml_complete(self, request: Request, bucket: str, name: str) -> Answer:
        """Writes the parts that are told as one."""
        upload = self._upload(request)
        told = ElementTree.fromstring(request.body).iterfind("{*}Part/{*}PartNumber")
        if not upload.done:
            content = b"".join(upload.parts.pop(int(str(each.text))) for each in told)
            upload.done = self._put(bucket, name, content, None)
        made = upload.done
        return _xml("CompleteMultipartUploadResult", {"ETag": made.etag}, headers=made.headers)

    def abort(self, request: Request, *_: str) -> Answer:
        self._upload(request)
        del self._uploads[request.query["uploadId"]]
        return Answer(status=HTTPStatus.NO_CONTENT)

    def _objects(self, bucket: str) -> dict[str, Object]:
        if bucket not in self._buckets:
            raise Refusal(HTTPStatus.NOT_FOUND, "NoSuchBucket")
        return self._buckets[bucket]

    def _get(self, bucket: str, name: str) -> Object:
        if name not in self._objects(bucket):
            raise Refusal(HTTPStatus.NOT_FOUND, "NoSuchKey")
        return self._buckets[bucket][name]

    def _wanted(self, request: Request, bucket: str, name: str) -> Object:
        """The object that is asked for, if it is as it has to be."""
        found = self._get(bucket, name)
        if request.query.get("generation", str(found.generation)) != str(found.generation):
            raise Refusal(HTTPStatus.NOT_FOUND, "NoSuchKey")
        _check(request.generation in (None, found.generation))
        _check(request.headers.get("If-Match") in (None, "*", found.etag))
        if request.headers.get("If-None-Match") in ("*", found.etag):
            raise Refusal(HTTPStatus.NOT_MODIFIED, "NotModified")
        return found

    def _put(self, bucket: str, name: str, content: bytes, generation: int | None) -> Object:
        objects = self._objects(bucket)
        _check(generation in (None, objects[name].generation if name in objects else 0))
        now = datetime.now(timezone.utc)
        objects[name] = Object(bucket, name, content, next(self._numbers), now)
        return objects[name]

    def _copy(self, request: Request, bucket: str, name: str, *target: str) -> Object:
        source = self._get(bucket, name)
        for given in ("sourceGeneration", "ifSourceGenerationMatch"):
            _check(request.query.get(given) in (None, str(source.generation)))
        to_bucket, to_name = target
        return self._put(to_bucket, to_name, source.content, request.generation)

    def _start(self, bucket: str) -> str:
        """The id of a new upload."""
        self._objects(bucket)
        number = str(next(self._numbers))
        self._uploads[number] = Upload()
        return number

    def _upload(self, request: Request) -> Upload:
        if request.query["uploadId"] not in self._uploads:
            raise Refusal(HTTPStatus.NOT_FOUND, "NoSuchUpload")
        return self._uploads[request.query["uploadId"]]

    def _page(
        self, request: Request, bucket: str, size: str, token: str
    ) -> tuple[list[Object], list[str], str]:
        """(objects, folders, where the next page goes on). size, token: what they are asked by."""
        objects, query = self._objects(bucket), request.query
        prefix, after = query.get("prefix", ""), query.get("start-after", "")
        names = (name for name in objects if name.startswith(prefix) and name > after)
        delimiter = query.get("delimiter", "")
        entries = {_entry(name, prefix, delimiter) for name in names}
        listed = sorted(entry for entry in entries if entry > query.get(token, ""))
        shown = listed[: min(PAGE, int(query.get(size, PAGE)))]
        ends = (delimiter,) if delimiter else ()
        folders = [entry for entry in shown if entry.endswith(ends) and entry != prefix]
        found = [objects[entry] for entry in shown if entry not in folders]
        return found, folders, shown[-1] if len(shown) < len(listed) else ""


_B, _O = "/storage/v1/b", "/storage/v1/b/([^/]+)/o"
_XML_BUCKET, _XML_OBJECT = "/([^/]+)/?", "/([^/]+)/(.+)"
_ROUTES: tuple[tuple[str, str, str, Any], ...] = (
    ("POST", "/batch/storage/v1", "", Gcs.batch),
    ("POST", _B, "", Gcs.make_bucket),
    ("GET", f"{_B}/([^/]+)", "", Gcs.bucket),
    ("GET", _O, "", Gcs.json_list),
    ("GET", f"{_O}/([^/]+)", "", Gcs.stat),
    ("GET", f"/download{_O}/([^/]+)", "", Gcs.read),
    ("DELETE", f"{_O}/([^/]+)", "", Gcs.delete),
    ("POST", f"{_O}/([^/]+)/(?:copyTo|rewriteTo)/b/([^/]+)/o/([^/]+)", "", Gcs.json_copy),
    ("PUT", f"/upload{_O}", "uploadId", Gcs.json_part),
    ("DELETE", f"/upload{_O}", "uploadId", Gcs.abort),
    ("POST", f"/upload{_O}", "uploadType=resumable", Gcs.json_start),
    ("POST", f"/upload{_O}", "", Gcs.json_write),
    ("GET", _XML_BUCKET, "", Gcs.xml_list),
    ("GET", _XML_OBJECT, "", Gcs.read),
    ("HEAD", _XML_OBJECT, "", Gcs.read),
    ("PUT", _XML_OBJECT, "x-goog-copy-source", Gcs.xml_copy),
    ("PUT", _XML_OBJECT, "uploadId", Gcs.xml_part),
    ("PUT", _XML_OBJECT, "", Gcs.xml_write),
    ("POST", _XML_OBJECT, "uploads", Gcs.xml_start),
    ("POST", _XML_OBJECT, "uploadId", Gcs.xml_complete),
    ("DELETE", _XML_OBJECT, "uploadId", Gcs.abort),
    ("DELETE", _XML_OBJECT, "", Gcs.delete),
)
"""(method, path, what the query or the headers have to hold, operation): the first that fits."""


def _check(holds: bool) -> None:
    if not holds:
        raise Refusal(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")


def _entry(name: str, prefix: str, delimiter: str) -> str:
    """What a name is listed as: itself, or the folder that it lies in."""
    end = name.find(delimiter, len(prefix)) if delimiter else -1
    return name if end < 0 else name[: end + len(delimiter)]


def _json(told: Mapping[str, Any], status: int = HTTPStatus.OK) -> Answer:
    return Answer(json.dumps(told).encode(), {"Content-Type": "application/json"}, status)


def _xml(
    tag: str, told: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>{_element(tag, told)}'.encode()
    return Answer(body, {**(headers or {}), "Content-Type": "application/xml"}, status)


def _element(tag: str, told: Any) -> str:
    """An element with what it is told to hold; of a list, one for each."""
    if isinstance(told, list):
        return "".join(_element(tag, each) for each in told)
    if isinstance(told, dict):
        return f"<{tag}>{''.join(itertools.starmap(_element, told.items()))}</{tag}>"
    return f"<{tag}>{escape(str(told))}</{tag}>"


def _refused(request: Request, refusal: Refusal) -> Answer:
    """The error in the words of the API that was asked."""
    status, code = refusal.status, refusal.code
    if "/storage/v1" in request.path:
        return _json({"error": {"code": status, "message": code}}, status)
    return _xml("Error", {"Code": code, "Message": status.phrase}, status)


def _request(method: str, target: str, headers: Message, body: bytes) -> Request:
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Request(method, parts.path, query, headers, body)


def _inner_request(text: str) -> Request:
    """One of those in a batch."""
    line, _, rest = text.partition("\n")
    method, target, _ = line.split(" ")
    return _request(method, target, message_from_string(rest), b"")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # Or the body of an answer waits for the receipt of its head.
    gcs: Gcs

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.gcs.answer(_request(self.command, self.path, self.headers, body))
        self.send_response(answer.status)
        for name, value in (answer.headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD" and answer.status != HTTPStatus.NOT_MODIFIED:
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Serves GCS with these buckets on loopback. port: 0 for any that is free."""

    request_queue_size = 128

    def __init__(self, *buckets: str, port: int = 0) -> None:
        self.gcs = Gcs(*buckets)
        super().__init__(("127.0.0.1", port), type("Handler", (_Handler,), {"gcs": self.gcs}))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def gcs_server(*buckets: str) -> Iterator[Server]:
    """Serves GCS from this process until the block ends."""
    with Server(*buckets) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves GCS until it is killed.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bucket", required=True)
    flags = parser.parse_args()
    Server(flags.bucket, port=flags.port).serve_forever()
