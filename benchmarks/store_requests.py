"""How many requests a file takes of an object store, counted by an S3 server on this machine."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from beam_job.outputs.attempt import begin
from beam_job.outputs.run_directory import RUN
from beam_job.outputs.seal import seal
from beam_job.runners.beam_flags import BeamFlags, set_up_stores
from transforms.images import PIXELS, Segment, Shard, ShardKey
from transforms.inputs.files import files_dataset
from transforms.inputs.read import read_shard
from transforms.staged import staged_bytes, staged_table
from transforms.storage import stores
from transforms.storage.files import child, write_bytes

WRITES = ("COPY", "LIST", "POST", "PUT")
"""The kinds that cost what a write costs; DELETE is free, GET and HEAD are reads."""

_FILES = (32, 48)
"""Of more than 16 files, 16 are looked at, whatever their number."""
_ROWS = 64
_BUCKET = "s3://scaling"


def requests_a_file() -> dict[str, dict[str, float]]:
    """What a further file takes of each kind of request, by what is done with it."""
    few, many = (_requests(files) for files in _FILES)
    more = _FILES[1] - _FILES[0]
    return {
        phase: {
            kind: (count - few[phase][kind]) / more
            for kind, count in sorted(counts.items())
            if count != few[phase][kind]
        }
        for phase, counts in many.items()
    }


def _requests(files: int) -> Mapping[str, Counter[str]]:
    """All requests for as many files, by what is done with them, then by kind."""
    phases: dict[str, Counter[str]] = {}
    inputs = [f"{_BUCKET}/in/split=all/{number:02}.parquet" for number in range(files)]
    names = [f"latents/split=all/{number:02}.parquet" for number in range(files)]
    with s3_server() as counted:
        for number, path in enumerate(inputs):
            write_bytes(path, _staged_content(number))
        phases["inspect"] = counted(lambda: files_dataset(f"{_BUCKET}/in/*/*", None, "auto"))
        phases["read"] = counted(lambda: _read(inputs))
        attempt = begin(f"{_BUCKET}/out-{files}", "--output")
        published = {name: name for name in names}
        phases["write"] = counted(
            lambda: [write_bytes(child(attempt.folder, name), b"1") for name in names]
        )
        phases["publish"] = counted(lambda: seal(attempt, RUN, published, {}, b"{}", replace=True))
    return phases


def _staged_content(number: int) -> bytes:
    image_ids = np.arange(number * _ROWS, (number + 1) * _ROWS)
    images = np.zeros((_ROWS, PIXELS), np.uint8)
    return staged_bytes(staged_table(image_ids, image_ids % 10, images), {}, _ROWS)


def _read(paths: Sequence[str]) -> None:
    for number, path in enumerate(paths):
        segment = Segment(path, "parquet", _ROWS, 0, number * _ROWS)
        shard = Shard(ShardKey("all", number, len(paths), _ROWS), (segment,))
        for _ in read_shard(shard, _ROWS):
            pass


@contextmanager
def s3_server() -> Iterator[Callable[[Callable[[], Any]], Counter[str]]]:
    """An S3 server with a bucket, which this process is pointed at.

    Gives a function that calls another, and counts the requests that are made meanwhile.
    """
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    seen: Counter[str] = Counter()
    application = DomainDispatcherApplication(create_backend_app)

    def counting(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen[_kind(environ)] += 1
        answer: Iterable[bytes] = application(environ, start_response)
        return answer

    def counted(action: Callable[[], Any]) -> Counter[str]:
        before = seen.copy()
        action()
        return seen - before

    server = make_server("127.0.0.1", 0, counting, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        _use(f"http://127.0.0.1:{server.server_port}")
        yield counted
    finally:
        server.shutdown()
        serving.join()


def _kind(environ: Mapping[str, Any]) -> str:
    """What a request is, as stores bill it."""
    method, query = str(environ["REQUEST_METHOD"]), str(environ["QUERY_STRING"])
    if "HTTP_X_AMZ_COPY_SOURCE" in environ:
        return "COPY"
    if method == "POST" and query.startswith("delete"):
        return "DELETE"
    return "LIST" if method == "GET" and "prefix=" in query else method


def _use(url: str) -> None:
    import boto3

    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    store = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    store.create_bucket(Bucket=_BUCKET.removeprefix("s3://"))
    named = {"endpoint_url": url, "access_key_id": "any", "secret_access_key": "any"}
    set_up_stores(BeamFlags(tuple(f"--s3_{name}={value}" for name, value in named.items())))
    stores.client.cache_clear()
