"""What there is in a run directory, and whether a run may be written to one."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import zip_longest
from typing import Any

import msgspec

from beam_job import __version__
from beam_job.outputs.attempt import Kind
from beam_job.outputs.file_list import FILE_LIST, MAX_LIST_BYTES, listed_files
from beam_job.outputs.model_record import MODEL_FACTS
from beam_job.outputs.versions import versions_if_installed, versions_of
from transforms.errors import InputError, first_line
from transforms.images import ShardKey
from transforms.inputs.dataset import SOURCE, is_split_name, shard_keys
from transforms.json_documents import (
    check_shape,
    check_version,
    is_count,
    is_path_below,
    read_json,
)
from transforms.latents import LATENTS_FOLDER
from transforms.quantize import Quantization
from transforms.shard_files import SHARD_FILE, ShardFile
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

_COUNTS = ("images", "shards", "read", "rejected", "encoded", "written")
CLIPPED = ("clipped_values", "clipped_images")
"""Counts that earlier runs do not have."""
_MANIFEST = {
    "run_id": str,
    "dataset": {
        "name": str,
        "fingerprint": str,
        "splits": {...: dict.fromkeys(_COUNTS, is_count)},
        "sources": [SOURCE],
    },
    "model": MODEL_FACTS,
    "characters": {...: str},
    "flags": {"shard_size": is_count, "dataset": (str, None)},
    "files": [{"path": is_path_below, "bytes": is_count, "sha256": str}],
}


def versions() -> dict[str, str]:
    """The versions of what makes a run."""
    return {
        "emnist-latents": __version__,
        "python": platform.python_version(),
        **versions_of(_VERSIONS_OF),
        **versions_if_installed(_VERSIONS_IF_INSTALLED),
    }


@dataclass(frozen=True)
class CompleteRun:
    """A run that is there, as its manifest describes it.

    file_list: the content of the list of its files, where the manifest does not list them itself.
    """

    folder: str
    manifest: dict[str, Any]
    file_list: bytes | None = None

    @property
    def staged(self) -> dict[str, int]:
        """Images that the run was made of, by split, rejects among them."""
        splits: dict[str, dict[str, int]] = self.manifest["dataset"]["splits"]
        return {split: counts["images"] for split, counts in splits.items()}

    @property
    def images(self) -> int:
        """Images whose latents are there."""
        return self._totals[0]

    @property
    def shard_size(self) -> int:
        """Images a shard."""
        return int(self.manifest["flags"]["shard_size"])

    @property
    def characters(self) -> dict[int, str]:
        """What each label stands for, where known."""
        return {int(label): name for label, name in self.manifest["characters"].items()}

    @property
    def quantization(self) -> Quantization | None:
        """How the latents are stored in whole numbers; None where they are floats."""
        return msgspec.convert(self.manifest["model"]["quantization"], Quantization | None)

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
            files = {file.path: file for file in self._listed()}
            yield from ((key, files[_path(key)]) for key in keys)
            return
        for key, file in zip_longest(keys, listed_files(self.file_list)):
            if key is None or file is None or (file.path, file.split) != (_path(key), key.split):
                raise ValueError(f"{FILE_LIST} does not list a file for each shard, in order")
            yield key, file

    def _listed(self) -> Iterator[ShardFile]:
        for file in self.manifest["files"]:
            if file["path"].startswith(f"{LATENTS_FOLDER}/"):
                yield ShardFile(**file)


def _path(key: ShardKey) -> str:
    return f"{LATENTS_FOLDER}/{key.name}.parquet"


def _check_manifest(run: CompleteRun) -> None:
    """Raises ValueError unless all is there that will be asked of a manifest."""
    manifest = run.manifest
    check_shape(manifest, _MANIFEST)
    quantization, size = run.quantization, manifest["model"]["latent_size"]
    if quantization is not None and len(quantization.scale) != size:
        raise ValueError(f"{len(quantization.scale)} scales for {size} values a latent")
    for split, counts in manifest["dataset"]["splits"].items():
        clipped = {name: counts[name] for name in CLIPPED if name in counts}
        check_shape(clipped, {...: is_count}, f"dataset.splits.{split}")
    if not run.shard_size:
        raise ValueError("its shards have no images")
    shards = sum(-(-images // run.shard_size) for images in run.staged.values())
    # Before so many are gone through.
    if run.file_list is None and shards > len(manifest["files"]):
        raise ValueError(f"{len(manifest['files'])} files for {shards:,} shards")
    for file in manifest["files"]:
        if file["path"].startswith(f"{LATENTS_FOLDER}/"):
            # Runs of the first edition have no checksums of their images.
            check_shape({"images_sha256": "", **file}, SHARD_FILE, file["path"])


def _read_list(folder: str, manifest: dict[str, Any]) -> bytes | None:
    """The list of a run's files; None where the manifest lists them itself."""
    check_shape(manifest, {"files": _MANIFEST["files"]})
    listed = next((file for file in manifest["files"] if file["path"] == FILE_LIST), None)
    if listed is None:
        return None
    content = read_bytes(child(folder, FILE_LIST), MAX_LIST_BYTES)
    if (len(content), sha256(content).hexdigest()) != (listed["bytes"], listed["sha256"]):
        raise ValueError(f"{FILE_LIST} is not the file that it names")
    return content


def complete_run(folder: str) -> CompleteRun:
    """The run in a folder.

    Raises InputError where there is none, or its manifest is not whole or has a newer format.
    """
    path = child(folder, MANIFEST)
    # Path's own raises where the name is one that no folder can have.
    if is_local(folder) and not os.path.isdir(folder):  # noqa: PTH112
        raise InputError(f"--input={folder} is no folder: give a run directory")
    if read_versioned(path) is None:
        raise InputError(
            f"--input={folder} has no {MANIFEST}, so there is no complete run: give a run "
            "directory, or run compress again"
        )
    try:
        manifest = read_json(path)
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}")
        check_version(manifest, FORMAT_VERSION, path)
        run = CompleteRun(folder, manifest, _read_list(folder, manifest))
        _check_manifest(run)
        if not all(map(is_split_name, run.staged)):
            raise ValueError("a split is no name for a folder")
        _ = run.images, run.characters  # What is missing is found now.
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{path} is not what compress writes ({type(error).__name__}: {first_line(error)}): it "
            "was altered; run compress again"
        ) from error
    return run
