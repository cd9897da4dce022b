"""The datasets that this project knows by name, and those that it has staged."""

from collections.abc import Mapping
from typing import Any

from msgspec import convert

from transforms.errors import InputError, first_line
from transforms.images import Segment
from transforms.inputs.dataset import (
    Dataset,
    ImageFile,
    Source,
    is_split_name,
    split_names,
)
from transforms.json_documents import (
    Header,
    check_shape,
    check_version,
    is_count,
    is_name,
    is_path_below,
    read_json,
)
from transforms.printable import is_unicode
from transforms.storage.files import exists, join_path

PUBLISHED_ROWS: dict[str, dict[str, int]] = {
    "sample": {"train": 1_500, "test": 297},
    "balanced": {"train": 112_800, "test": 18_800},
    "byclass": {"train": 697_932, "test": 116_323},
    "bymerge": {"train": 697_932, "test": 116_323},
    "letters": {"train": 124_800, "test": 20_800},
    "digits": {"train": 240_000, "test": 40_000},
    "mnist": {"train": 60_000, "test": 10_000},
}
"""Images in each split, as NIST publishes them; for plans made before the archive is there."""

DATASET_FILE = "dataset.json"
"""Written last: a staged dataset is there if, and only if, this file is."""

DATASET_VERSION = 1
"""The newest version of DATASET_FILE, and the one that is written."""

MAX_IMAGES = 1 << 32
"""In a dataset that was staged: one that says more was altered."""

_STAGED = {
    "name": str,
    "fingerprint": str,
    "characters": {...: str},
    "sources": [dict],
    "files": [
        {
            "path": is_path_below,
            "split": is_name,
            "rows": is_count,
            "first_image_id": is_count,
            "sha256": str,
        }
    ],
}


def counts_in_words(rows: Mapping[str, int]) -> str:
    """How many images each split has, for an error to say."""
    return " and ".join(f"{count:,} images of split {split}" for split, count in rows.items())


def staged_folder(data_dir: str, name: str) -> str:
    """Where a dataset is staged."""
    return join_path(data_dir, name)


def staged_dataset(data_dir: str, name: str) -> Dataset | None:
    """The dataset as it is staged, None where it is not.

    Raises InputError where its description cannot be read, or has a newer format.
    """
    folder = staged_folder(data_dir, name)
    path = join_path(folder, DATASET_FILE)
    if not exists(path):
        return None
    try:
        description = read_json(path)
        check_version(convert(description, Header), DATASET_VERSION, path)
        return _described(folder, description)
    except (ValueError, TypeError, OSError) as error:
        raise InputError(
            f"{path} is not what stage writes ({type(error).__name__}: {first_line(error)}): "
            f"remove {folder} and run it again"
        ) from error


def _described(folder: str, description: dict[str, Any]) -> Dataset:
    check_shape(description, _STAGED)
    images = sum(file["rows"] for file in description["files"])
    if images > MAX_IMAGES:
        raise ValueError(f"it says that there are {images:,} images")
    files = tuple(
        ImageFile(
            file["split"],
            Segment(
                join_path(folder, *file["path"].split("/")),
                "parquet",
                file["rows"],
                0,
                file["first_image_id"],
                sha256=file["sha256"],
            ),
        )
        for file in description["files"]
    )
    characters = {int(label): name for label, name in description["characters"].items()}
    if not all(map(is_split_name, split_names(files))):
        raise ValueError("a split is no name for a folder")
    if not all(map(is_unicode, characters.values())):
        raise ValueError("a character is no Unicode text")
    return Dataset(
        description["name"],
        files,
        characters,
        convert(description["sources"], tuple[Source, ...]),
        description["fingerprint"],
    )
