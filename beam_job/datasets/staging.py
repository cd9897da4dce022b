"""Brings images to where all workers can read them, as sharded Parquet.

`python -m beam_job stage --dataset=sample --data_dir=DIR`
"""

import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from msgspec import to_builtins

from beam_job.datasets.catalog import DATASET_FILE, DATASET_VERSION, staged_dataset, staged_folder
from beam_job.datasets.emnist import Split, archive_source, emnist_splits, fetch_archive
from beam_job.datasets.sample import sample_splits
from beam_job.datasets.selection import EMNIST_NAMES, ImageOptions, StageOptions
from beam_job.outputs.attempt import (
    Attempt,
    Flag,
    Job,
    Kind,
    folder_of,
    now,
    sealed_id,
)
from beam_job.outputs.resume import attempting, continued, describe
from beam_job.outputs.run_directory import versions
from beam_job.outputs.seal import seal
from transforms.errors import FilledError, InputError
from transforms.images import (
    ImageBatch,
    Segment,
    ShardKey,
    with_sha256,
)
from transforms.inputs.dataset import (
    CHARACTERS,
    Dataset,
    ImageFile,
    Source,
    cut_stretches,
    shard_keys,
)
from transforms.inputs.files import files_dataset
from transforms.inputs.read import read_stretch
from transforms.settings import BATCH_SIZE, SHARD_SIZE
from transforms.shard_files import FinishedShard, ShardFile, read_note, shard_path, write_note
from transforms.sizes import Sizes
from transforms.staged import no_images, staged_bytes, staged_table
from transforms.storage.files import FileFacts, child, remove, write_bytes

_PATIENCE_SECONDS, _POLL_SECONDS = 30.0, 0.2
"""How long a command waits for another one that is about to become the dataset."""

STAGED = Kind("dataset", DATASET_FILE, owned=("images",), resumable=True)
"""What `stage` writes."""


def known_dataset(images: ImageOptions) -> Dataset | None:
    """The dataset as far as it can be known without staging it; None where it must be staged."""
    if images.input:
        return files_dataset(
            images.input,
            images.labels,
            images.orientation,
            images.max_unpacked_bytes,
            invert=images.invert,
            max_pixel=images.max_pixel,
            member=images.member,
            fit=images.fit,
        )
    return staged_dataset(images.data_dir, str(images.dataset))


def open_dataset(images: ImageOptions) -> Dataset:
    """The dataset that the options name, staged now where it has to be and is not."""
    return known_dataset(images) or stage_named(images)


def stage_named(images: ImageOptions) -> Dataset:
    """The dataset of a name, staged now where it is not there."""
    # The staged files are there for every later run, so they are not cut by this one's sizes.
    staging = StageOptions(
        dataset=str(images.dataset),
        data_dir=images.data_dir,
        archive_url=images.archive_url,
        shard_size=SHARD_SIZE,
        batch_size=BATCH_SIZE,
        resume=False,
        quiet=images.quiet,
        debug=images.debug,
    )
    return ensure_staged(str(images.dataset), staging)


def ensure_staged(name: str, options: StageOptions) -> Dataset:
    """The staged dataset, staged now where it is not there."""
    dataset = staged_dataset(options.data_dir, name)
    if dataset is not None:
        return dataset
    folder = staged_folder(options.data_dir, name)
    with attempting(folder, STAGED, "--data_dir") as work:
        job = _job(name, options)
        # All that is kept is compared with the images, so it needs no flag to be kept.
        work.attempt = continued(work.attempt, job, strictly=options.resume)
        describe(work.attempt, job)
        files, description = _stage(name, work.attempt, options)
        content = json.dumps(description, indent=2).encode()
        _seal(work.attempt, files, content)
    dataset = staged_dataset(options.data_dir, name)
    if dataset is None:
        raise InputError(
            f"{folder} was removed, or is being written by another command, while {name} was "
            "staged: run it again"
        )
    return dataset


def _seal(attempt: Attempt, files: Mapping[str, str], content: bytes) -> None:
    """Makes an attempt the staged dataset, unless another one has become it, or is about to."""
    started = time.monotonic()
    trying = attempt._replace(replaces=())
    while sealed_id(attempt.output, STAGED) is None:  # One that stages the same is as good.
        try:
            seal(trying, STAGED, files, {}, content, replace=False, blank=no_images())
        except FilledError:
            waited = time.monotonic() - started
            if waited > 2 * _PATIENCE_SECONDS:
                raise
            if waited > _PATIENCE_SECONDS:  # It was killed; there is no flag to say so.
                trying = attempt
            time.sleep(_POLL_SECONDS)
    for run_id in attempt.replaces:
        remove(folder_of(attempt.output, run_id))


def _job(name: str, options: StageOptions) -> Job:
    """What decides the content of staged files."""
    flags: dict[str, Flag] = {
        "shard_size": options.shard_size,
        "batch_size": options.batch_size,
    }
    return Job(created=now(), dataset=name, flags=flags, versions=versions())


def _stage(
    name: str, attempt: Attempt, options: StageOptions
) -> tuple[dict[str, str], dict[str, Any]]:
    """Writes a dataset's staged files: where each is, and what DATASET_FILE says of them."""
    from tqdm import tqdm

    writer = _Writer(attempt.folder, CHARACTERS[name], options.batch_size)
    files: list[_StagedFile] = []
    fingerprint = hashlib.sha256()
    with (
        _splits(name, options) as (splits, sources),
        tqdm(
            total=sum(len(split.images) for split in splits.values()),
            unit=" images",
            desc=f"staging {name}",
            disable=options.quiet or None,
        ) as bar,
    ):
        for split, (images, labels) in splits.items():
            # The pixels, then the labels: the same whatever the shard size.
            fingerprint.update(f"{split} {len(images)}\n".encode())
            for start, key in shard_keys(split, len(images), options.shard_size):
                pixels = np.ascontiguousarray(images[start : start + key.rows])
                fingerprint.update(pixels.data)
                files.append(writer.write(key, start, pixels, labels[start : start + key.rows]))
                bar.update(key.rows)
            fingerprint.update(np.ascontiguousarray(labels, np.uint8).data)
        description = {
            "format": "emnist-latents staged dataset",
            "format_version": DATASET_VERSION,
            "run_id": attempt.run_id,
            "name": name,
            "fingerprint": fingerprint.hexdigest(),
            "splits": {split: len(images) for split, (images, _) in splits.items()},
            "shard_size": options.shard_size,
            "characters": CHARACTERS[name],
            "sources": [to_builtins(source) for source in sources],
            "files": [file.description for file in files],
        }
        return {file.name: file.written for file in files}, description


class _StagedFile(NamedTuple):
    name: str
    written: str
    key: ShardKey
    first_image_id: int
    facts: FileFacts

    @property
    def description(self) -> dict[str, Any]:
        return {
            "path": self.name,
            "split": self.key.split,
            "rows": self.key.rows,
            "first_image_id": self.first_image_id,
            **self.facts._asdict(),
        }


@contextmanager
def _splits(name: str, options: StageOptions) -> Iterator[tuple[dict[str, Split], list[Source]]]:
    if name in EMNIST_NAMES:
        archive = fetch_archive(options.archive_url, quiet=options.quiet)
        with emnist_splits(name, archive) as splits:
            yield splits, [archive_source(archive, name)]
    else:
        yield sample_splits(), []


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
        name = shard_path("images", key)
        image_ids = np.arange(first_image_id, first_image_id + key.rows)
        batch = with_sha256(ImageBatch(key, key.rows, image_ids, labels.astype(np.int32), images))
        file = self._noted(name, batch)
        if file is None:
            content = staged_bytes(
                staged_table(image_ids, labels, images), self.characters, self.batch_size
            )
            written = f"images/{key.name}.{uuid.uuid4().hex[:12]}.parquet"
            facts = write_bytes(child(self.folder, written), content)
            ends = (first_image_id, first_image_id + key.rows - 1)
            file = ShardFile(written, key.split, key.rows, *facts, *ends, batch.sha256)
            file = write_note(self.folder, name, FinishedShard(file, Sizes())).file
        facts = FileFacts(file.bytes, file.sha256)
        return _StagedFile(name, file.path, key, first_image_id, facts)

    def _noted(self, name: str, batch: ImageBatch) -> ShardFile | None:
        """The file that an earlier command wrote of the same images, if it is still as it was."""
        note = read_note(self.folder, name)
        is_same = note is not None and note.file.images_sha256 == batch.sha256
        return note.file if note is not None and is_same else None


def with_packed_staged(dataset: Dataset, folder: str, *, here: bool = False) -> Dataset:
    """The dataset with what can be read from its beginning alone as Parquet in `folder`.

    So shards can be read apart, by any machine. here: stage what is on this machine alone, too.
    """
    files: list[ImageFile] = []
    for position, file in enumerate(dataset.files):
        if file.segment.packing or (here and file.segment.here):
            target = child(folder, f"staged/{position}")
            writer = _Writer(target, dataset.characters, BATCH_SIZE)
            files.extend(_stage_file(file, writer))
        else:
            files.append(file)
    return replace(dataset, files=tuple(files))


def _stage_file(file: ImageFile, writer: _Writer) -> Iterator[ImageFile]:
    """A file read once, in shards of staged images."""
    (stretch,) = cut_stretches(Dataset("", (file,), {}, ()), SHARD_SIZE)
    batches = (batch for batch, _ in read_stretch(stretch, BATCH_SIZE))
    for key, of_shard in groupby(batches, key=attrgetter("shard")):
        parts = list(of_shard)
        labels = np.concatenate([batch.labels for batch in parts])
        pixels = np.concatenate([batch.pixels for batch in parts])
        first = file.segment.first_image_id + key.number * SHARD_SIZE
        staged = writer.write(key, first, pixels, labels)
        yield ImageFile(
            file.split,
            Segment(
                child(writer.folder, staged.written),
                "parquet",
                key.rows,
                first_row=0,
                first_image_id=first,
                sha256=staged.facts.sha256,
            ),
        )
