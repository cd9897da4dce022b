"""Brings images to where all workers can read them, as sharded Parquet.

`python -m beam_job stage --dataset=sample --data_dir=DIR`
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from beam_job import publishing, resume
from beam_job.datasets import (
    CHARACTERS,
    DATASET_FILE,
    DATASET_VERSION,
    Dataset,
    ImageFile,
    Source,
    shard_keys,
    staged_dataset,
    staged_folder,
)
from beam_job.emnist import Split, archive_source, emnist_splits, fetch_archive
from beam_job.inputs import (
    GZIP,
    IDX_HEADER_BYTES,
    GzipReader,
    check_file_system,
    check_length,
    files_dataset,
)
from beam_job.lines import say
from beam_job.options import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_SHARD_SIZE,
    EMNIST_NAMES,
    ImageOptions,
    StageOptions,
)
from beam_job.sample import sample_splits
from transforms.errors import FilledError, InputError
from transforms.files import FileFacts, exists, file_facts, write_bytes
from transforms.images import (
    LABEL_COLUMN,
    NO_LABEL,
    PIXELS,
    ImageBatch,
    Segment,
    ShardKey,
    upright,
    with_sha256,
)
from transforms.shard_files import ShardFile, ShardNote, note_path
from transforms.staged import staged_bytes, staged_table


def run(options: StageOptions) -> int:
    """Stages the dataset unless it is there, and says where it is."""
    check_file_system("data_dir", options.data_dir)
    dataset = ensure_staged(options.dataset, options)
    if not options.quiet:
        counts = ", ".join(f"{rows:,} {split}" for split, rows in dataset.rows.items())
        say(f"{options.dataset}: {counts} images in {len(dataset.files)} files")
        say(staged_folder(options.data_dir, options.dataset))
    return 0


def known_dataset(images: ImageOptions) -> Dataset | None:
    """The dataset as far as it can be known without staging it; None where it must be staged."""
    if images.input is not None:
        return files_dataset(
            images.input, images.labels, images.orientation, images.max_unpacked_bytes
        )
    return staged_dataset(images.data_dir, str(images.dataset))


def open_dataset(images: ImageOptions) -> Dataset:
    """The dataset that the options name, staged now where it has to be and is not."""
    dataset = known_dataset(images)
    if dataset is not None:
        return dataset
    # The staged files are there for every later run, so they are not cut by this one's sizes.
    staging = StageOptions(
        dataset=str(images.dataset),
        data_dir=images.data_dir,
        archive_url=images.archive_url,
        shard_size=DEFAULT_SHARD_SIZE,
        batch_size=DEFAULT_BATCH_SIZE,
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
    attempt = publishing.begin(folder, "--data_dir")
    try:
        job = _job(name, options)
        # All that is kept is compared with the images, so it needs no flag to be kept.
        attempt = resume.taken_over(attempt, job, strictly=options.resume)
        resume.begun(attempt, job)
        description = _stage(name, attempt, options)
        files = {
            file["path"]: FileFacts(file["bytes"], file["sha256"]) for file in description["files"]
        }
        content = json.dumps(description, indent=2).encode()
        # Somebody else may have been faster; then theirs stays.
        with suppress(FilledError):
            publishing.publish(
                attempt, files, DATASET_FILE, content, owned=("images",), overwrite=False
            )
    except BaseException as error:
        raise resume.leave(attempt, error) from error
    publishing.abandon(attempt)
    dataset = staged_dataset(options.data_dir, name)
    if dataset is None:
        raise InputError(f"{folder} was removed while {name} was staged: run it again")
    return dataset


def _job(name: str, options: StageOptions) -> dict[str, Any]:
    """What decides the content of staged files."""
    flags = {"shard_size": options.shard_size, "batch_size": options.batch_size}
    return resume.job_of({"dataset": name, "flags": flags})


def _stage(name: str, attempt: publishing.Attempt, options: StageOptions) -> dict[str, Any]:
    """Writes a dataset's staged files; what DATASET_FILE is to say of them."""
    from tqdm import tqdm

    writer = _Writer(attempt.folder, CHARACTERS[name], options.batch_size, attempt.output)
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
        return {
            "format": "emnist-latents staged dataset",
            "format_version": DATASET_VERSION,
            "name": name,
            "fingerprint": fingerprint.hexdigest(),
            "splits": {split: len(images) for split, (images, _) in splits.items()},
            "shard_size": options.shard_size,
            "characters": CHARACTERS[name],
            "sources": [source._asdict() for source in sources],
            "files": [file.description for file in files],
        }


class _StagedFile(NamedTuple):
    name: str
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
    """Writes staged files below a folder; a row group a batch.

    output: where an attempt that was interrupted while it published has moved some of them.
    """

    folder: str
    characters: Mapping[int, str]
    batch_size: int
    output: str | None = None

    def write(
        self, key: ShardKey, first_image_id: int, images: np.ndarray, labels: np.ndarray
    ) -> _StagedFile:
        """images: upright, uint8, 784 bytes each. labels: NO_LABEL where there is none."""
        name = f"images/{key.name}.parquet"
        image_ids = np.arange(first_image_id, first_image_id + key.rows)
        batch = with_sha256(ImageBatch(key, key.rows, image_ids, labels.astype(np.int16), images))
        facts = self._kept(name, batch)
        if facts is None:
            content = staged_bytes(
                staged_table(image_ids, labels, images), self.characters, self.batch_size
            )
            facts = write_bytes(publishing.child(self.folder, name), content)
            ends = (first_image_id, first_image_id + key.rows - 1)
            note = ShardNote(ShardFile(name, key.split, key.rows, *facts, *ends), batch.sha256)
            write_bytes(publishing.child(self.folder, note_path(key)), note.to_json())
        return _StagedFile(name, key, first_image_id, facts)

    def _kept(self, name: str, batch: ImageBatch) -> FileFacts | None:
        """The file that an earlier attempt wrote of the same images, if it is still as it was."""
        note = resume.read_note(publishing.child(self.folder, note_path(batch.shard)))
        if note is None or note.images_sha256 != batch.sha256:
            return None
        facts = FileFacts(note.file.bytes, note.file.sha256)
        places = [publishing.child(place, name) for place in (self.folder, self.output) if place]
        there = next(filter(exists, places), None)
        return facts if there is not None and file_facts(there) == facts else None


def with_gzips_staged(dataset: Dataset, folder: str) -> Dataset:
    """The dataset with its gzips, which cannot be read from the middle, as Parquet in `folder`."""
    files: list[ImageFile] = []
    for position, file in enumerate(dataset.files):
        if file.segment.format == GZIP:
            target = publishing.child(folder, f"staged/{position}")
            writer = _Writer(target, dataset.characters, DEFAULT_BATCH_SIZE)
            files.extend(_stage_gzip(file, writer))
        else:
            files.append(file)
    return replace(dataset, files=tuple(files))


def _stage_gzip(file: ImageFile, writer: _Writer) -> Iterator[ImageFile]:
    segment = file.segment
    with GzipReader(segment.path) as unzipped:
        unzipped.read(IDX_HEADER_BYTES)
        for start, key in shard_keys(file.split, segment.rows, DEFAULT_SHARD_SIZE):
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
                    sha256=staged.facts.sha256,
                ),
            )
        if unzipped.read(1):  # How much more a gzip may take days to unpack.
            raise InputError(
                f"{segment.path}: too long: more follows {segment.rows:,} images: fetch it again"
            )
