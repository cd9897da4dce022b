"""What there is in a run directory: its documents, and reading a complete run."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import zip_longest

import msgspec

from beam_job import __version__
from beam_job.outputs.attempt import Flag, Kind
from beam_job.outputs.file_list import FILE_LIST, MAX_LIST_BYTES, listed_files
from beam_job.outputs.versions import versions_if_installed, versions_of
from transforms.errors import InputError, first_line
from transforms.images import ShardKey
from transforms.inputs.dataset import Source, is_split_name, shard_keys
from transforms.json_documents import (
    MAX_JSON_BYTES,
    Count,
    Header,
    check_path_below,
    check_version,
    decode,
)
from transforms.latents import LATENTS_FOLDER, ModelRecord
from transforms.shard_files import ShardFile
from transforms.storage.files import child, is_local, read_bytes, read_versioned

MANIFEST = "manifest.json"
SIZES = "sizes.json"
REPORT = "report.html"
REJECTS = "rejects/rejects.jsonl"
FORMAT = "emnist-latents run"
FORMAT_VERSION = 1
"""The newest version of FORMAT, and the one that is written."""
RUN = Kind(
    "run",
    MANIFEST,
    owned=(LATENTS_FOLDER, "rejects"),
    documents=(REPORT, "sample.parquet", FILE_LIST),
    resumable=True,
    format=FORMAT,
)
"""What `compress` writes."""
MEGABYTE = 1024 * 1024
"""1 MB as the reference counts it."""

_VERSIONS_OF = ("apache-beam", "keras", "numpy", "pyarrow", "tensorflow")
_VERSIONS_IF_INSTALLED = ("ai-edge-litert", "ncnn")


def versions() -> dict[str, str]:
    """The versions of what makes a run."""
    return {
        "emnist-latents": __version__,
        "python": platform.python_version(),
        **versions_of(_VERSIONS_OF),
        **versions_if_installed(_VERSIONS_IF_INSTALLED),
    }


class SplitCounts(msgspec.Struct, frozen=True):
    """How many images of a split each step saw; clipped_*: as Sizes, None in earlier runs."""

    images: Count
    shards: Count
    read: Count
    rejected: Count
    encoded: Count
    written: Count
    clipped_values: Count | None = None
    clipped_images: Count | None = None


class DatasetRecord(msgspec.Struct, frozen=True):
    """What a run was made of."""

    name: str
    fingerprint: str
    splits: dict[str, SplitCounts]
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        if not all(map(is_split_name, self.splits)):
            raise ValueError("the name of a split cannot be the name of a folder")


class ListedFile(msgspec.Struct, frozen=True):
    """Any file of a run. path: below the run directory."""

    path: str
    bytes: Count
    sha256: str

    def __post_init__(self) -> None:
        check_path_below(self.path)


class _CutBy(msgspec.Struct):
    """The recorded flags that are read again. dataset: the name that was given, if one was."""

    shard_size: Count
    dataset: str | None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """manifest.json, which makes a run complete.

    notes: what was assumed of the input. files: each a ListedFile, those of latents a ShardFile.
    """

    format: str = FORMAT
    format_version: Count = FORMAT_VERSION
    run_id: str
    created: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dataset: DatasetRecord
    model: ModelRecord
    characters: dict[int, str]
    flags: dict[str, Flag]
    versions: dict[str, str] = {}
    files: tuple[msgspec.Raw, ...]

    @cached_property
    def listed(self) -> list[ListedFile]:
        """The files that the manifest itself lists."""
        return [decode(raw, ListedFile) for raw in self.files]

    @cached_property
    def documents(self) -> list[ListedFile]:
        """Those that are not latents."""
        return [file for file in self.listed if not _holds_latents(file)]

    @cached_property
    def shard_files(self) -> list[ShardFile]:
        """Those that are; none where FILE_LIST lists them."""
        pairs = zip(self.listed, self.files, strict=True)
        return [decode(raw, ShardFile) for file, raw in pairs if _holds_latents(file)]

    @cached_property
    def cut_by(self) -> _CutBy:
        """The flags that say how the dataset was named and cut."""
        return msgspec.convert(self.flags, _CutBy)


def _holds_latents(file: ListedFile) -> bool:
    return file.path.startswith(f"{LATENTS_FOLDER}/")


@dataclass(frozen=True)
class CompleteRun:
    """A run that is there, as its manifest describes it.

    file_list: the content of the list of its files, where the manifest does not list them itself.
    """

    folder: str
    manifest: Manifest
    file_list: bytes | None = None

    @property
    def staged(self) -> dict[str, int]:
        """Images that the run was made of, by split, rejects among them."""
        return {split: counts.images for split, counts in self.manifest.dataset.splits.items()}

    @property
    def images(self) -> int:
        """Images whose latents are there."""
        return self._totals[0]

    @property
    def shard_size(self) -> int:
        """Images a shard."""
        return self.manifest.cut_by.shard_size

    @property
    def bytes_per_image(self) -> float:
        """Bytes of Parquet an image."""
        return self._totals[1] / max(1, self.images)

    @cached_property
    def _totals(self) -> tuple[int, int]:
        rows = size = 0
        for _, file in self.shard_files():
            rows, size = rows + file.rows, size + file.bytes
        return rows, size

    def shard_files(self) -> Iterator[tuple[ShardKey, ShardFile]]:
        """The files of latents, each with the shard that it was made of.

        Raises ValueError or KeyError where the list is not one of a file for each shard.
        """
        keys = (
            key
            for split in sorted(self.staged)
            for _, key in shard_keys(split, self.staged[split], self.shard_size)
        )
        if self.file_list is None:
            files = {file.path: file for file in self.manifest.shard_files}
            yield from ((key, files[_path(key)]) for key in keys)
            return
        for key, file in zip_longest(keys, listed_files(self.file_list)):
            if key is None or file is None or (file.path, file.split) != (_path(key), key.split):
                raise ValueError(f"{FILE_LIST} does not list a file for each shard, in order")
            yield key, file


def _path(key: ShardKey) -> str:
    return f"{LATENTS_FOLDER}/{key.name}.parquet"


def complete_run(folder: str) -> CompleteRun:
    """The run in a folder.

    Raises InputError where there is none, or its manifest is not whole or has a newer format.
    """
    path = child(folder, MANIFEST)
    # Path's own raises where the name is one that no folder can have.
    if is_local(folder) and not os.path.isdir(folder):  # noqa: PTH112
        raise InputError(f"--input={folder} is not a folder: give a run directory")
    if read_versioned(path) is None:
        raise InputError(
            f"--input={folder} has no {MANIFEST}, so there is no complete run: give a run "
            "directory, or run compress again"
        )
    try:
        manifest = _read_manifest(path)
        run = CompleteRun(folder, manifest, _read_list(folder, manifest))
        _check_shards(run)
        _ = run.images  # What is missing is found now.
    except (ValueError, KeyError, OSError) as error:
        raise InputError(
            f"{path} is not what compress writes ({type(error).__name__}: {first_line(error)}): it "
            "was altered; run compress again"
        ) from error
    return run


def _read_manifest(path: str) -> Manifest:
    content = read_bytes(path, MAX_JSON_BYTES)
    header = decode(content, Header)
    if header.format != FORMAT:
        raise ValueError(f"its format is {header.format!r}")
    check_version(header, FORMAT_VERSION, path)
    return decode(content, Manifest)


def _read_list(folder: str, manifest: Manifest) -> bytes | None:
    """The list of a run's files; None where the manifest lists them itself."""
    listed = next((file for file in manifest.listed if file.path == FILE_LIST), None)
    if listed is None:
        return None
    content = read_bytes(child(folder, FILE_LIST), MAX_LIST_BYTES)
    if (len(content), sha256(content).hexdigest()) != (listed.bytes, listed.sha256):
        raise ValueError(f"{FILE_LIST} is not the file that it names")
    return content


def _check_shards(run: CompleteRun) -> None:
    """Raises ValueError where a shard must lack its file, before all shards are gone through."""
    if not run.shard_size:
        raise ValueError("its shards have no images")
    shards = sum(-(-images // run.shard_size) for images in run.staged.values())
    if run.file_list is None and shards > len(run.manifest.files):
        raise ValueError(f"{len(run.manifest.files)} files for {shards:,} shards")
