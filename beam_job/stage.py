"""Brings images to where all workers can read them, as sharded Parquet.

`python -m beam_job stage --dataset=sample --data_dir=DIR`
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from beam_job import publishing
from beam_job.datasets import (
    CHARACTERS,
    DATASET_FILE,
    Dataset,
    ImageFile,
    dataset_description,
    staged_dataset,
    staged_folder,
)
from beam_job.emnist import Split, archive_source, emnist_splits, fetch_archive
from beam_job.inputs import GZIP, IDX_HEADER_BYTES, STAGED_METADATA_KEY, GzipReader, check_length
from beam_job.options import EMNIST_NAMES, CompressOptions, StageOptions
from beam_job.sample import sample_splits
from transforms.errors import InputError
from transforms.files import write_bytes
from transforms.images import (
    IMAGE_COLUMN,
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    NO_LABEL,
    PIXELS,
    STAGED_IMAGE_TYPE,
    Segment,
    ShardKey,
    upright,
)

_SCHEMA = pa.schema(
    [
        pa.field(IMAGE_ID_COLUMN, pa.int64(), nullable=False),
        pa.field(LABEL_COLUMN, pa.uint8()),
        pa.field(IMAGE_COLUMN, STAGED_IMAGE_TYPE, nullable=False),
    ]
)


def run(options: StageOptions) -> int:
    """Stages the dataset unless it is there, and says where it is."""
    dataset = ensure_staged(options.dataset, options)
    if not options.quiet:
        counts = ", ".join(f"{rows:,} {split}" for split, rows in dataset.rows.items())
        print(f"{options.dataset}: {counts} images in {len(dataset.files)} files")
        print(staged_folder(options.data_dir, options.dataset))
    return 0


def ensure_staged(name: str, options: StageOptions | CompressOptions) -> Dataset:
    """The staged dataset, staged now where it is not there."""
    dataset = staged_dataset(options.data_dir, name)
    if dataset is not None:
        return dataset
    folder = staged_folder(options.data_dir, name)
    attempt = publishing.begin(folder, "--data_dir")
    try:
        staged = _stage(name, attempt, options)
        # Somebody else may have been faster; then theirs stays.
        if staged_dataset(options.data_dir, name) is None:
            description = dataset_description(
                staged.dataset, [file.description for file in staged.files], options.shard_size
            )
            content = json.dumps(description, indent=2).encode()
            names = [file.name for file in staged.files]
            publishing.publish(attempt, folder, names, DATASET_FILE, content, owned=("images",))
    finally:
        publishing.abandon(attempt, folder)
    published = staged_dataset(options.data_dir, name)
    if published is None:
        raise InputError(f"{folder} was removed while {name} was staged: run it again")
    return published


class _StagedFile(NamedTuple):
    name: str
    key: ShardKey
    first_image_id: int
    bytes: int
    sha256: str

    @property
    def description(self) -> dict[str, Any]:
        return {
            "path": self.name,
            "split": self.key.split,
            "rows": self.key.rows,
            "first_image_id": self.first_image_id,
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


class _Staged(NamedTuple):
    dataset: Dataset
    files: list[_StagedFile]


def _stage(name: str, folder: str, options: StageOptions | CompressOptions) -> _Staged:
    with _splits(name, options) as (splits, sources):
        writer = _Writer(folder, CHARACTERS[name], options.batch_size)
        fingerprint = hashlib.sha256()
        files: list[_StagedFile] = []
        total = sum(len(split.images) for split in splits.values())
        with tqdm(
            total=total, unit=" images", desc=f"staging {name}", disable=options.quiet or None
        ) as bar:
            for split, (images, labels) in splits.items():
                fingerprint.update(f"{split} {len(images)}\n".encode())
                for key, start in _shard_keys(split, len(images), options.shard_size):
                    pixels = np.ascontiguousarray(images[start : start + key.rows])
                    some = np.asarray(labels[start : start + key.rows])
                    fingerprint.update(pixels.tobytes() + some.astype(np.uint8).tobytes())
                    files.append(writer.write(key, start, pixels, some))
                    bar.update(key.rows)
    image_files = [
        ImageFile(
            file.key.split,
            Segment(file.name, "parquet", file.key.rows, 0, file.first_image_id),
        )
        for file in files
    ]
    dataset = Dataset(
        name, tuple(image_files), CHARACTERS[name], tuple(sources), fingerprint.hexdigest()
    )
    return _Staged(dataset, files)


@contextmanager
def _splits(
    name: str, options: StageOptions | CompressOptions
) -> Iterator[tuple[dict[str, Split], list[Any]]]:
    if name in EMNIST_NAMES:
        archive = fetch_archive(options.archive_url, quiet=options.quiet)
        with emnist_splits(name, archive) as splits:
            yield splits, [archive_source(archive, name)]
    else:
        yield sample_splits(), []


def _shard_keys(split: str, rows: int, shard_size: int) -> Iterator[tuple[ShardKey, int]]:
    starts = range(0, rows, shard_size)
    for index, start in enumerate(starts):
        yield ShardKey(split, index, len(starts), min(shard_size, rows - start)), start


@dataclass(frozen=True)
class _Writer:
    """Writes staged files below a folder; a row group a batch."""

    folder: str
    characters: Mapping[int, str]
    batch_size: int

    def write(
        self, key: ShardKey, first_image_id: int, images: np.ndarray, labels: np.ndarray
    ) -> _StagedFile:
        """images: upright, uint8, 784 bytes each. labels: NO_LABEL where there is none."""
        name = f"images/{key.name}.parquet"
        missing = labels == NO_LABEL
        table = pa.Table.from_arrays(
            [
                pa.array(np.arange(first_image_id, first_image_id + key.rows)),
                pa.array(np.where(missing, 0, labels).astype(np.uint8), mask=missing),
                pa.Array.from_buffers(
                    STAGED_IMAGE_TYPE, key.rows, [None, pa.py_buffer(images.tobytes())]
                ),
            ],
            schema=_SCHEMA.with_metadata(
                {STAGED_METADATA_KEY: json.dumps({"characters": dict(self.characters)})}
            ),
        )
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            row_group_size=self.batch_size,
            compression="zstd",
            use_dictionary=[LABEL_COLUMN],
            column_encoding={IMAGE_ID_COLUMN: "DELTA_BINARY_PACKED"},
        )
        facts = write_bytes(publishing.child(self.folder, name), sink.getvalue().to_pybytes())
        return _StagedFile(name, key, first_image_id, facts.bytes, facts.sha256)


def with_gzips_staged(dataset: Dataset, folder: str, options: CompressOptions) -> Dataset:
    """The dataset with its gzips, which cannot be read from the middle, as Parquet in `folder`."""
    files: list[ImageFile] = []
    for position, file in enumerate(dataset.files):
        if file.segment.format == GZIP:
            target = publishing.child(folder, f"staged/{position}")
            writer = _Writer(target, dataset.characters, options.batch_size)
            files.extend(_stage_gzip(file, writer, options.shard_size))
        else:
            files.append(file)
    return replace(dataset, files=tuple(files))


def _stage_gzip(file: ImageFile, writer: _Writer, shard_size: int) -> Iterator[ImageFile]:
    segment = file.segment
    with GzipReader(segment.path) as unzipped:
        unzipped.read(IDX_HEADER_BYTES)
        for key, start in _shard_keys(file.split, segment.rows, shard_size):
            content = unzipped.read(key.rows * PIXELS)
            if len(content) < key.rows * PIXELS:
                check_length(segment.path, start * PIXELS + len(content), segment.rows)
            pixels = np.frombuffer(content, np.uint8)
            if segment.transposed:
                pixels = upright(pixels)
            labels = np.full(key.rows, NO_LABEL, np.int16)
            if segment.labels is not None:
                labels[:] = np.frombuffer(segment.labels, np.uint8)[start : start + key.rows]
            first = segment.first_image_id + start
            staged = writer.write(key, first, pixels, labels)
            yield ImageFile(
                file.split,
                Segment(
                    publishing.child(writer.folder, staged.name),
                    "parquet",
                    key.rows,
                    first_row=0,
                    first_image_id=first,
                    label_column=LABEL_COLUMN,
                ),
            )
        excess = sum(len(chunk) for chunk in iter(lambda: unzipped.read(1 << 20), b""))
        check_length(segment.path, segment.rows * PIXELS + excess, segment.rows)
