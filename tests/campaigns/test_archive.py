"""The archive of NIST: where it may come from, and archives that were made to do harm."""

import io
import struct
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from beam_job.datasets.emnist import archive_path, check_archive, emnist_splits, fetch_archive
from tests.support.nist import SIX
from transforms.errors import InputError


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


class Redirects:
    """A server on loopback that sends everybody on to `target`."""

    def __init__(self) -> None:
        self.target = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("Location", outer.target)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/matlab.zip"


@pytest.fixture
def redirects() -> Iterator[Redirects]:
    running = Redirects()
    threading.Thread(target=running.server.serve_forever, daemon=True).start()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/matlab.zip",
        "http://127.0.0.1.example.com/matlab.zip",
        "http://localhost@example.com/",
        "http://10.0.0.1/matlab.zip",
        "ftp://localhost/matlab.zip",
        "file:///etc/passwd",
        "matlab.zip",
    ],
)
def test_what_anybody_on_the_way_can_alter_is_not_fetched(url):
    with pytest.raises(InputError, match="give an https:// URL"):
        fetch_archive(url, quiet=True)
    assert not list(archive_path().parent.glob("*"))


@pytest.mark.parametrize(
    "target", ["http://192.0.2.1/x", "file:///etc/passwd", "ftp://localhost/x"]
)
def test_a_redirect_leads_nowhere_but_to_https(redirects, target):
    redirects.target = target
    with pytest.raises(InputError, match=r"leads on to .*, which is not https|not allowed"):
        fetch_archive(redirects.url, quiet=True)
    assert not list(archive_path().parent.glob("*"))


@pytest.mark.parametrize("url", ["http://localhost:9/", "http://[::1]:9/", "http://127.0.0.1:9/"])
def test_this_machine_is_asked_without_tls(url):
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch_archive(url, quiet=True)


def archive(folder: Path, **mats: bytes) -> Path:
    path = folder / "matlab.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in SIX:
            zipped.writestr(f"matlab/emnist-{name}.mat", mats.get(name, b"none"))
    return path


def with_size(path: Path, size: int) -> Path:
    """The archive whose directory says so of the size of its first member."""
    content = bytearray(path.read_bytes())
    place = content.find(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


def test_a_member_that_says_it_unpacks_to_gigabytes_is_refused(tmp_path):
    path = with_size(archive(tmp_path), 2**32 - 2)
    with pytest.raises(InputError, match="unpacks to 4,294,967,294 bytes"):
        check_archive(path, "fetch it again")


def test_a_member_that_unpacks_to_more_than_it_says_is_damaged(tmp_path):
    path = with_size(archive(tmp_path, balanced=bytes(100 << 20)), 1000)
    check_archive(path, "fetch it again")
    with pytest.raises(InputError, match="is not NIST's"):
        check_archive(path, "fetch it again", "https://there")
    with (
        pytest.raises(InputError, match=r"cannot be read .*CRC"),
        emnist_splits("balanced", path) as _,
    ):
        pass


def mat_of_cells(dimensions: tuple[int, int]) -> bytes:
    """A .mat of 1x1 cells that says that there are many."""
    content = io.BytesIO()
    savemat(content, {"dataset": np.array([[np.zeros(1)]], object)}, do_compression=False)
    one, many = struct.pack("<ii", 1, 1), struct.pack("<ii", *dimensions)
    assert content.getvalue().count(one) >= 1
    return content.getvalue().replace(one, many, 1)


@pytest.mark.long
def test_a_mat_that_speaks_of_a_billion_arrays_takes_no_memory(tmp_path):
    path = archive(tmp_path, mnist=mat_of_cells((2**15, 2**15)))  # 8 GiB of pointers.
    with (
        pytest.raises(InputError, match=r"emnist-mnist\.mat in .* cannot be read"),
        emnist_splits("mnist", path) as _,
    ):
        pass


@pytest.mark.long
@pytest.mark.parametrize(
    ("labels", "said"),
    [(np.array([["a"]]), "labels"), (np.array([[70_000]], np.uint32), "not from 0 to 65535")],
    ids=["text", "300"],
)
def test_labels_of_another_kind_are_told(labels, said, tmp_path):
    images = np.zeros((1, 784), np.uint8)
    split = {"images": images, "labels": labels}
    content = io.BytesIO()
    savemat(content, {"dataset": {"train": split, "test": split}})
    path = archive(tmp_path, mnist=content.getvalue())
    with pytest.raises(InputError, match=said), emnist_splits("mnist", path) as _:
        pass
