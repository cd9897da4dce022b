"""Which images a command reads: a dataset by its name, or files."""

from dataclasses import dataclass

EMNIST_NAMES = ("balanced", "byclass", "bymerge", "letters", "digits", "mnist")
DATASET_NAMES = ("sample", *EMNIST_NAMES)
ARCHIVE_URL = "https://biometrics.nist.gov/cs_links/EMNIST/matlab.zip"


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which images: `dataset` or `input`, one of the two. Paths are local, s3:// or gs://.

    input, labels: files, folders and globs.
    """

    dataset: str | None
    input: tuple[str, ...]
    labels: tuple[str, ...]
    orientation: str
    invert: str
    max_pixel: int | None
    member: str | None
    fit: bool
    max_unpacked_bytes: int
    data_dir: str
    archive_url: str
    quiet: bool
    debug: bool


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """Which dataset is staged, where, and how it is cut."""

    dataset: str
    data_dir: str
    archive_url: str
    shard_size: int
    batch_size: int
    resume: bool
    quiet: bool
    debug: bool
