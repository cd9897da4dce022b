"""EMNIST through extra_keras_datasets, with its broken download mended from outside.

`extra_keras_datasets.emnist.load_data` takes what it finds in the Keras cache, and otherwise
downloads from an address that NIST has given up. So the archive is put into the cache first.
"""

import http.client
import ipaddress
import lzma
import os
import struct
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beam_job import __version__
from beam_job.datasets import load_emnist
from beam_job.datasets.selection import EMNIST_NAMES
from transforms.errors import InputError, first_line
from transforms.images import MAX_LABEL, SIDE
from transforms.inputs.dataset import Source

# NIST has been seen to answer 403 to urllib's own name.
_USER_AGENT = f"emnist-latents/{__version__}"
_TIMEOUT_SECONDS = 60
_CHUNK_BYTES = 1 << 20
_ARCHIVE_NAME = "emnist_matlab.npz"

_MAX_ARCHIVE_BYTES = 2 << 30
"""NIST's matlab.zip has about 0.7 GB."""
_MAX_MEMBER_BYTES = 1 << 30
"""byclass has 638 MB of pixels, and they are packed within its .mat already."""
_UNREADABLE = (
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile raises for bytes that are no zip, or one that is packed in ways of its own."""


class Split(NamedTuple):
    """Upright images, uint8 (n, 28, 28), and labels, uint8 (n,)."""

    images: np.ndarray
    labels: np.ndarray


def archive_path() -> Path:
    """Where the Keras cache holds NIST's matlab.zip; whoever has it may put it there.

    Raises InputError where the user has no home.
    """
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")  # noqa: PTH111
    if home.startswith("~"):
        raise InputError(
            "this user has no home folder: set KERAS_HOME to the folder that EMNIST's archive is in"
        )
    return Path(home, "datasets", _ARCHIVE_NAME)


def fetch_archive(url: str, *, quiet: bool) -> Path:
    """The checked archive in the Keras cache, downloaded if it is not there.

    Raises InputError where it cannot be had, or is not NIST's archive; nothing is left behind.
    """
    path = archive_path()
    if path.exists():
        check_archive(path, f"remove {path} to have it fetched again, or put matlab.zip there")
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot be made ({error.strerror}): set KERAS_HOME to a folder that can "
            "be written"
        ) from error
    # A name of its own, so that two runs at once do not write into each other's file.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        _download(url, temporary, path, quiet=quiet)
        check_archive(temporary, f"give another --archive_url, or put matlab.zip at {path}", url)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _is_trusted(url: str) -> bool:
    """Whether nobody on the way can alter what comes from there: https, or this machine."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class _TrustedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *request: Any) -> urllib.request.Request | None:
        new_url = request[-1]
        if not _is_trusted(new_url):
            raise urllib.error.URLError(f"it leads on to {new_url}, which is not https")
        return super().redirect_request(*request)


def _download(url: str, target: Path, wanted: Path, *, quiet: bool) -> None:
    """Fetches the archive over https, or from this machine.

    NIST publishes no checksum of it. What is checked: the size that the server says, that it is no
    more than _MAX_ARCHIVE_BYTES, and later the CRC-32 of every file in it (check_archive).
    """
    if not _is_trusted(url):
        raise InputError(
            f"--archive_url={url} is no address to fetch from: give an https:// URL (http:// is "
            "for this machine alone)"
        )
    from tqdm import tqdm

    opener = urllib.request.build_opener(_TrustedRedirects)
    try:
        request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT})  # noqa: S310
        with (
            opener.open(request, timeout=_TIMEOUT_SECONDS) as response,
            target.open("wb") as file,
        ):
            size = response.headers.get("Content-Length")
            total = int(size) if size else None
            with tqdm(
                total=total, unit="B", unit_scale=True, desc="matlab.zip", disable=quiet or None
            ) as bar:
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
                    bar.update(len(chunk))
                    if file.tell() > _MAX_ARCHIVE_BYTES:
                        raise OSError(f"it has more than {_MAX_ARCHIVE_BYTES:,} bytes")
            if total is not None and file.tell() != total:
                raise OSError(f"the connection closed after {file.tell():,} of {total:,} bytes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f"EMNIST's archive cannot be fetched from {url} ({_reason(error)}): try again, give "
            f"another --archive_url, or put matlab.zip at {wanted} (--dataset=sample needs none)"
        ) from error


def _reason(error: Exception) -> object:
    # An HTTPError is a URLError too, and says more itself ("HTTP Error 404: Not Found").
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return error.reason
    return error


def check_archive(path: Path, way_out: str, origin: str | None = None) -> None:
    """Raises InputError unless the file is a whole zip with EMNIST's six .mat files in it."""
    shown = origin or str(path)
    if path.is_dir():
        raise InputError(f"{shown} is a folder, not NIST's matlab.zip: {way_out}")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            head = file.read(15)
        raise InputError(f"{shown} is not NIST's matlab.zip (it begins with {head!r}): {way_out}")
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = _wrong_in(archive, read=origin is not None)
    except _UNREADABLE as error:
        wrong = first_line(error)
    if wrong:
        raise InputError(f"{shown} is not NIST's matlab.zip ({wrong}): {way_out}")


def _wrong_in(archive: zipfile.ZipFile, *, read: bool) -> str | None:
    """What is wrong with the archive; None for nothing.

    read: also its files' content, as is done once with a download; what lies in the cache was read
    when it came there.
    """
    for name in EMNIST_NAMES:
        if _member(name) not in archive.namelist():
            return f"{_member(name)} is not in it"
        size = archive.getinfo(_member(name)).file_size
        if size > _MAX_MEMBER_BYTES:
            return f"{_member(name)} in it unpacks to {size:,} bytes"
        if read:
            _read_through(archive, name)
    return None


def _read_through(archive: zipfile.ZipFile, name: str) -> None:
    """Reads a member to its end; raises BadZipFile where its size or CRC-32 is another."""
    with archive.open(_member(name)) as member:
        while member.read(_CHUNK_BYTES):
            pass


def _member(name: str) -> str:
    return f"matlab/emnist-{name}.mat"


def archive_source(path: Path, name: str) -> Source:
    """The part of the archive that a dataset came from, with its compressed size."""
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo(_member(name)).compress_size
    return Source(f"matlab.zip/{_member(name)}", None, size)


@contextmanager
def emnist_splits(name: str, archive: Path) -> Iterator[dict[str, Split]]:
    """The splits of an EMNIST dataset as extra_keras_datasets gives them, mapped from disk.

    Raises InputError where the archive does not hold what it should.
    """
    with tempfile.TemporaryDirectory(prefix="emnist-") as folder:
        try:
            with zipfile.ZipFile(archive) as opened:
                _read_through(opened, name)
            _load(name, archive, folder)
            splits = saved_splits(folder)
        except (*_UNREADABLE, _NotEmnistError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise InputError(
                    f"{archive} cannot be read ({error.strerror}): let it be read, or put another "
                    "matlab.zip there"
                ) from error
            raise InputError(
                f"{_member(name)} in {archive} cannot be read ({_reason(error)}): "
                "remove the archive to have it fetched again"
            ) from error
        yield splits


class _NotEmnistError(Exception):
    """What is in the archive cannot be read as EMNIST."""


def _load(name: str, archive: Path, folder: str) -> None:
    """Has load_data save a dataset in `folder`, in a process of its own.

    load_data writes ./NAME.mat into the current folder, sets up logging and keeps what it loaded in
    memory. A .mat that makes it die, or take more memory than it may, takes nothing else with it.
    """
    command = [sys.executable, "-m", load_emnist.__name__, name, folder]
    # Nothing in the current folder is taken for a library there.
    here = {"", str(Path.cwd())} - {str(Path(__file__).parents[2])}
    paths = [path for path in sys.path if path not in here]
    done = subprocess.run(  # noqa: S603
        [*command, str(archive.resolve()), _ARCHIVE_NAME],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == load_emnist.NOT_EMNIST:
        raise _NotEmnistError(Path(folder, load_emnist.REASON_FILE).read_text("utf-8"))
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1] if said else f"it was ended by signal {-done.returncode}"
        raise InputError(
            f"EMNIST's archive is whole, and the process that reads it failed ({reason}): remedy "
            "that, then run it again"
        )


def saved_splits(folder: str) -> dict[str, Split]:
    """What load_emnist has saved; raises ValueError unless it is images and their labels."""
    splits = {split: _mapped(folder, split) for split in ("train", "test")}
    for split, (images, labels) in splits.items():
        if images.shape != (len(labels), SIDE, SIDE) or images.dtype != np.uint8:
            raise ValueError(
                f"it holds {split} images of shape {images.shape} and {len(labels)} labels"
            )
        if not np.issubdtype(labels.dtype, np.unsignedinteger) or (labels > MAX_LABEL).any():
            raise ValueError(f"it holds {split} labels that are not from 0 to {MAX_LABEL}")
    return splits


def _mapped(folder: str, split: str) -> Split:
    images = np.load(Path(folder, f"{split}-images.npy"), mmap_mode="r", allow_pickle=False)
    labels = np.load(Path(folder, f"{split}-labels.npy"), allow_pickle=False)
    return Split(images, labels)
