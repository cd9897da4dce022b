"""What there is in a run directory, and whether a run may be written to one."""

import os
import platform
from dataclasses import dataclass
from typing import Any

from beam_job import __version__, publishing
from beam_job.datasets import SOURCE, is_split_name, shard_keys
from beam_job.installed import versions_if_installed, versions_of
from beam_job.model_facts import MODEL_FACTS
from transforms import json_documents
from transforms.errors import InputError, first_line
from transforms.files import exists, is_local, list_files
from transforms.images import ShardKey
from transforms.json_documents import check_shape, check_version, is_count, is_path_below
from transforms.latents import LATENTS_FOLDER
from transforms.quantize import Quantization
from transforms.shard_files import SHARD_FILE, ShardFile

MANIFEST = "manifest.json"
SIZES = "sizes.json"
REPORT = "report.html"
REJECTS = "rejects/rejects.jsonl"
FORMAT = "emnist-latents run"
FORMAT_VERSION = 1
"""The newest version of FORMAT, and the one that is written."""
OWNED = (LATENTS_FOLDER, "rejects")
"""The folders of an output that are a run's."""
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


def check_output(output: str, *, overwrite: bool, resume: bool) -> None:
    """Raises InputError unless a run may be written to `output`; writes nothing.

    resume: an unfinished run may be there, to go on with.
    """
    publishing.check_is_folder(output)
    publishing.check_no_links(output, OWNED)
    if not list_files(publishing.child(output, "**")):
        return
    complete = is_run(output)
    unfinished = list_files(publishing.child(output, f"{publishing.ATTEMPT_PREFIX}*/**"))
    if not complete and not unfinished:
        raise InputError(f"--output={output} holds files that are no run: give another folder")
    if complete and unfinished and not overwrite:
        raise InputError(
            f"--output={output} holds a run already, and beside it an unfinished one: --overwrite "
            "--resume goes on with that, --overwrite starts anew"
        )
    if complete and not overwrite:
        raise InputError(
            f"--output={output} holds a run already: give another folder, or --overwrite"
        )
    if unfinished and not complete and not overwrite and not resume:
        raise InputError(
            f"--output={output} holds an unfinished run already: --resume goes on with it, "
            "--overwrite starts anew"
        )


def is_run(output: str) -> bool:
    """Whether there is a manifest, and it is one of ours."""
    if not exists(publishing.child(output, MANIFEST)):
        return False
    try:
        return read_json(output, MANIFEST).get("format") == FORMAT
    except (ValueError, AttributeError, OSError):
        return False


def versions() -> dict[str, str]:
    """The versions of what makes a run."""
    return {
        "emnist-latents": __version__,
        "python": platform.python_version(),
        **versions_of(_VERSIONS_OF),
        **versions_if_installed(_VERSIONS_IF_INSTALLED),
    }


def read_json(output: str, name: str) -> dict[str, Any]:
    """A JSON file of a run directory. Raises ValueError or OSError where there is none."""
    content: dict[str, Any] = json_documents.read_json(publishing.child(output, name))
    return content


@dataclass(frozen=True)
class CompleteRun:
    """A run that is there, as its manifest describes it."""

    folder: str
    manifest: dict[str, Any]

    @property
    def staged(self) -> dict[str, int]:
        """Images that the run was made of, by split, rejects among them."""
        splits: dict[str, dict[str, int]] = self.manifest["dataset"]["splits"]
        return {split: counts["images"] for split, counts in splits.items()}

    @property
    def images(self) -> int:
        """Images whose latents are there."""
        return sum(file.rows for _, file in self.shard_files())

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
        described = self.manifest["model"]["quantization"]
        return None if described is None else Quantization.from_json(described)

    @property
    def bytes_per_image(self) -> float:
        """Bytes of Parquet an image."""
        files = [file for _, file in self.shard_files()]
        return sum(file.bytes for file in files) / max(1, sum(file.rows for file in files))

    def shard_files(self) -> list[tuple[ShardKey, ShardFile]]:
        """The files of latents, each with the shard that it was made of."""
        files = {
            file["path"]: ShardFile(**file)
            for file in self.manifest["files"]
            if file["path"].startswith(f"{LATENTS_FOLDER}/")
        }
        return [
            (key, files[f"{LATENTS_FOLDER}/{key.name}.parquet"])
            for split, rows in self.staged.items()
            for _, key in shard_keys(split, rows, self.shard_size)
        ]


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
    if shards > len(manifest["files"]):  # Before so many are gone through.
        raise ValueError(f"{len(manifest['files'])} files for {shards:,} shards")
    for file in manifest["files"]:
        if file["path"].startswith(f"{LATENTS_FOLDER}/"):
            check_shape(file, SHARD_FILE, file["path"])


def complete_run(folder: str) -> CompleteRun:
    """The run in a folder.

    Raises InputError where there is none, or its manifest is not whole or has a newer format.
    """
    path = publishing.child(folder, MANIFEST)
    # Path's own raises where the name is one that no folder can have.
    if is_local(folder) and not os.path.isdir(folder):  # noqa: PTH112
        raise InputError(f"--input={folder} is no folder: give a run directory")
    if not exists(path):
        raise InputError(
            f"--input={folder} has no {MANIFEST}, so there is no complete run: give a run "
            "directory, or run compress again"
        )
    try:
        run = CompleteRun(folder, read_json(folder, MANIFEST))
        if run.manifest["format"] != FORMAT:
            raise ValueError(f"its format is {run.manifest['format']!r}")
        check_version(run.manifest, FORMAT_VERSION, path)
        _check_manifest(run)
        if not all(map(is_split_name, run.staged)):
            raise ValueError("a split is no name for a folder")
        _ = run.shard_files(), run.characters  # What is missing is found now.
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{path} is not what compress writes ({type(error).__name__}: {first_line(error)}): it "
            "was altered; run compress again"
        ) from error
    return run
