"""How a run of `compress` becomes complete."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from operator import attrgetter

import msgspec

from beam_job.outputs.attempt import Attempt, Flag, JobDataset
from beam_job.outputs.file_list import FILE_LIST, MAX_LISTED, file_list
from beam_job.outputs.run_directory import (
    REJECTS,
    RUN,
    SIZES,
    DatasetRecord,
    ListedFile,
    Manifest,
    SplitCounts,
    versions,
)
from beam_job.outputs.seal import is_sealed, seal
from beam_job.reports.dataset_card import DATASET_CARD, dataset_card
from beam_job.reports.run_report import SAMPLE, draw_report, sample_table_bytes
from beam_job.reports.sizes import clipping_notes, sizes_report
from transforms.errors import InputError, RunError
from transforms.images import Reject, Sample, too_many_rejects
from transforms.json_documents import encode
from transforms.latents import ModelRecord, no_latents
from transforms.shard_files import ShardFile
from transforms.sizes import Sizes
from transforms.storage.files import facts_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """All that is known of a run before it starts, for any worker to write down.

    created: when it began. shards: how many, by split. versions: of what began it. compatible: as
    WriteLatents has it. decoder_engine: what decodes for the report, as load_decoder has it.
    model_path: where workers find the model; None for the one that comes with the package. notes:
    what was assumed of the input.
    """

    attempt: Attempt
    created: str
    dataset: JobDataset
    shards: dict[str, int]
    model: ModelRecord
    flags: dict[str, Flag]
    versions: dict[str, str]
    batch_size: int
    compatible: bool
    max_rejects: int
    overwrite: bool
    decoder_engine: str | None
    model_path: str | None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def complete(
    run: Run,
    files: Iterable[ShardFile],
    sizes: Mapping[str, Sizes],
    rejects: Sequence[Reject],
    samples: Sequence[tuple[str, Sample]],
) -> None:
    """Checks that everything arrived, and seals the run; then draws its report.

    files: one for each shard. sizes: by split. samples: with their splits. Raises RunError where
    images are missing, InputError where more were rejected than are allowed, or another run is
    there by now; then nothing is published.
    """
    if is_sealed(run.attempt, RUN):
        return
    rejects = sorted(rejects, key=attrgetter("split", "image_id"))
    if len(rejects) > run.max_rejects:
        raise InputError(too_many_rejects(rejects, run.max_rejects))
    check_counts(run.dataset.images, sizes)
    ordered = sorted(files, key=attrgetter("order"))
    check_files(run.shards, ordered)
    sizes = {split: sizes[split] for split in run.dataset.images}  # In the order of the dataset.
    documents = {
        SIZES: encode(sizes_report(sizes, run.dataset.sources)),
        DATASET_CARD: dataset_card(run.dataset.name, run.model, sizes, str(run.flags["parquet"])),
    }
    if rejects:
        documents[REJECTS] = _lines(rejects)
    if samples:
        documents[SAMPLE] = sample_table_bytes(samples, run.model)
    listed: list[ShardFile | ListedFile] = []
    if len(ordered) > MAX_LISTED:
        documents[FILE_LIST] = file_list(ordered)
    else:
        listed += [file.published for file in ordered]
    listed += [ListedFile(name, *facts_of(content)) for name, content in documents.items()]
    seal(
        run.attempt,
        RUN,
        {file.final_path: file.path for file in ordered},
        documents,
        encode(_manifest(run, ordered, sizes, listed)),
        replace=run.overwrite,
        blank=no_latents(run.model.latent_size, run.model.stored_dtype),
    )
    _draw(run)


def _draw(run: Run) -> None:
    """Draws the report, without which a run is complete too."""
    try:
        draw_report(run.attempt.output, run.attempt.run_id, run.model_path, run.decoder_engine)
    except Exception as error:  # noqa: BLE001  # Whatever it is, no run fails for a picture.
        _LOG.warning(
            "note: %s is complete, and its report could not be drawn (%s): `emnist-latents report "
            "%s` draws it",
            run.attempt.output,
            error,
            run.attempt.output,
        )


def check_counts(staged: Mapping[str, int], sizes: Mapping[str, Sizes]) -> None:
    """Raises RunError, with the numbers, unless each step accounts for every staged image."""
    differences = [
        f"split {split}: {staged.get(split, 0):,} images staged, {seen.images_read:,} read "
        f"({seen.images_rejected:,} rejected), {seen.images_encoded:,} encoded, "
        f"{seen.images_written:,} written"
        for split, seen in sorted(({split: Sizes() for split in staged} | dict(sizes)).items())
        if staged.get(split, 0) != seen.images_read + seen.images_rejected
        or not seen.images_read == seen.images_encoded == seen.images_written
    ]
    if differences:
        raise RunError(
            f"{'; '.join(differences)}: these must agree, so nothing is published; run it again, "
            "and report it if it happens again"
        )


def check_files(shards: Mapping[str, int], files: Sequence[ShardFile]) -> None:
    """Raises RunError unless there is a file for each shard, InputError if image_ids overlap.

    files: in the order of their shards.
    """
    for split, expected in shards.items():
        of_split = [file for file in files if file.split == split]
        paths = {file.final_path for file in of_split}
        if len(paths) != expected or len(paths) != len(of_split):
            raise RunError(
                f"split {split}: {len(paths)} files for {expected} shards, so nothing is "
                "published: run it again, and report it if it happens again"
            )
        for before, after in pairwise(file for file in of_split if file.rows):
            if after.first_image_id <= before.last_image_id:  # type: ignore[operator]
                raise InputError(
                    f"split {split}: image_id {after.first_image_id} is in two places of the "
                    "input: give each image once, in order"
                )


def _lines(rejects: Sequence[Reject]) -> bytes:
    return "".join(json.dumps(reject._asdict()) + "\n" for reject in rejects).encode()


def _manifest(
    run: Run,
    files: Sequence[ShardFile],
    sizes: Mapping[str, Sizes],
    listed: Sequence[ShardFile | ListedFile],
) -> Manifest:
    splits = {
        split: SplitCounts(
            images=run.dataset.images[split],
            shards=run.shards[split],
            read=counted.images_read,
            rejected=counted.images_rejected,
            encoded=counted.images_encoded,
            written=counted.images_written,
            clipped_values=counted.clipped_values,
            clipped_images=counted.clipped_images,
        )
        for split, counted in sizes.items()
    }
    return Manifest(
        run_id=run.attempt.run_id,
        created=run.created,
        warnings=(*run.warnings, *clipping_notes(sizes), *_version_notes(run.versions)),
        notes=run.notes,
        dataset=DatasetRecord(
            run.dataset.name,
            run.dataset.fingerprint or _fingerprint(files),
            splits,
            run.dataset.sources,
        ),
        model=run.model,
        characters=run.dataset.characters,
        flags=run.flags,
        versions=run.versions,
        files=tuple(msgspec.Raw(msgspec.json.encode(file)) for file in listed),
    )


def _version_notes(launched: Mapping[str, str]) -> list[str]:
    """What a worker has in other versions than what began the run, in words."""
    here = versions()
    names = [name for name in {**launched, **here} if launched.get(name) != here.get(name)]
    differing = [f"{name} {here.get(name)}, not {launched.get(name)}" for name in names]
    return [f"Workers have other versions: {'; '.join(differing)}."] if differing else []


def _fingerprint(files: Sequence[ShardFile]) -> str:
    """SHA-256 over the shards' own, taken while their images were read, in order."""
    lines = "".join(f"{file.images_sha256}  {file.final_path}\n" for file in files)
    return sha256(lines.encode()).hexdigest()
