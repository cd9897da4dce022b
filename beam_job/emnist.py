"""EMNIST through extra_keras_datasets, with its broken download mended from outside.

`extra_keras_datasets.emnist.load_data` takes what it finds in the Keras cache, and otherwise
downloads from an address that NIST has given up. So the archive is put into the cache first.
"""

import http.client
import os
import tempfile
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_job import __version__
from beam_job.datasets import Source
from beam_job.load_emnist import load_emnist
from beam_job.options import EMNIST_NAMES
from transforms.errors import InputError
from transforms.images import SIDE

# NIST has been seen to answer 403 to urllib's own name.
_USER_AGENT = f"emnist-latents/{__version__}"
_TIMEOUT_SECONDS = 60
_CHUNK_BYTES = 1 << 20
_ARCHIVE_NAME = "emnist_matlab.npz"


class Split(NamedTuple):
    """Upright images, uint8 (n, 28, 28), and labels, uint8 (n,)."""

    images: np.ndarray
    labels: np.ndarray


def archive_path() -> Path:
    """Where the Keras cache holds NIST's matlab.zip; whoever has it may put it there."""
    home = os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()
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


def _download(url: str, target: Path, wanted: Path, *, quiet: bool) -> None:
    if not url.startswith(("https://", "http://")):
        raise InputError(f"--archive_url={url} is no address to fetch from: give an https:// URL")
    from tqdm import tqdm

    try:
        request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT})  # noqa: S310
        with (
            urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response,  # noqa: S310
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
    with zipfile.ZipFile(path) as archive:
        missing = {_member(name) for name in EMNIST_NAMES} - set(archive.namelist())
        if missing:
            raise InputError(
                f"{shown} is not NIST's matlab.zip ({min(missing)} is not in it): {way_out}"
            )
        # A download is read to the end once; what lies in the cache was, when it came there.
        damaged = archive.testzip() if origin else None
    if damaged:
        raise InputError(f"{shown}: {damaged} in it is damaged: {way_out}")


def _member(name: str) -> str:
    return f"matlab/emnist-{name}.mat"


def archive_source(path: Path, name: str) -> Source:
    """The part of the archive that a dataset came from, with its compressed size."""
    with zipfile.ZipFile(path) as archive:
        return Source(
            f"matlab.zip/{_member(name)}", None, archive.getinfo(_member(name)).compress_size
        )


@contextmanager
def emnist_splits(name: str, archive: Path) -> Iterator[dict[str, Split]]:
    """The splits of an EMNIST dataset as extra_keras_datasets gives them, mapped from disk.

    Raises InputError where the archive does not hold what it should.
    """
    with tempfile.TemporaryDirectory(prefix="emnist-") as folder:
        # load_data writes ./NAME.mat into the current folder, sets up logging and keeps what it
        # loaded in memory; a process of its own, in a folder of its own, keeps all that apart.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                pool.submit(load_emnist, name, folder, str(archive), _ARCHIVE_NAME).result()
            except Exception as error:  # SciPy raises many kinds for a .mat that is none.
                raise InputError(
                    f"{_member(name)} in {archive} cannot be read ({_reason(error)}): "
                    "remove the archive to have it fetched again"
                ) from error
        splits = {split: _mapped(folder, split) for split in ("train", "test")}
        for split, (images, labels) in splits.items():
            if images.shape != (len(labels), SIDE, SIDE) or images.dtype != np.uint8:
                raise InputError(
                    f"{_member(name)} in {archive} holds {split} images of shape {images.shape} "
                    f"and {len(labels)} labels: remove the archive to have it fetched again"
                )
        yield splits


def _mapped(folder: str, split: str) -> Split:
    images = np.load(Path(folder, f"{split}-images.npy"), mmap_mode="r", allow_pickle=False)
    labels = np.load(Path(folder, f"{split}-labels.npy"), allow_pickle=False)
    return Split(images, labels)
