"""How a reconstruction becomes complete."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from beam_job.outputs import run_directory
from beam_job.outputs.attempt import Attempt
from beam_job.outputs.run_directory import CompleteRun
from beam_job.outputs.seal import (
    is_sealed,
    seal,
)
from beam_job.reconstruct.command import RECONSTRUCTION
from beam_job.reports.page import reconstruction_html
from beam_job.reports.pictures import ComparedImages, Picture, choose_images, sheet, triptych
from beam_job.reports.preview import make_preview
from beam_job.reports.quality import Group, Originals, ReconstructionQuality, report_quality
from transforms.decode import DecodedBatch
from transforms.errors import RunError
from transforms.json_documents import encode
from transforms.latents import ModelRecord
from transforms.models.directory import Model
from transforms.quality import ImageQuality, image_quality
from transforms.read_latents import LatentShard, original_pixels
from transforms.shard_files import ShardFile
from transforms.staged import no_images, staged_pixels
from transforms.storage.files import FileFacts, child, facts_of, open_binary

QUALITY = "quality.json"
REPORT = "report.html"
SHEET_IMAGES = 128
PAGE_IMAGES = 500
"""About how many images the report's pictures and its plot are taken from."""


class DecodedRun(msgspec.Struct, frozen=True):
    """The run that was decoded."""

    folder: str
    run_id: str


class Reconstruction(msgspec.Struct, frozen=True, kw_only=True):
    """reconstruction.json. files: bytes and SHA-256 of each, by its path."""

    format: str = "emnist-latents reconstruction"
    format_version: int = 1
    reconstruction_id: str
    run: DecodedRun
    dataset: str
    model: ModelRecord
    images: int
    versions: dict[str, str]
    files: dict[str, dict[str, int | str]] = {}


@dataclass(frozen=True)
class Plan:
    """What is to be decoded, for any worker to write down.

    model_path: where workers find the model. originals: their dataset's name, if they are given.
    """

    attempt: Attempt
    run: CompleteRun
    model: Model
    model_path: str | None
    engine: str | None
    shards: tuple[LatentShard, ...]
    originals: str | None
    batch_size: int
    overwrite: bool

    @property
    def measured(self) -> bool:
        """Whether the originals are given."""
        return self.originals is not None

    @property
    def every(self) -> int:
        """Every how manyth image is shown."""
        return -(-self.run.images // PAGE_IMAGES)


def complete(
    plan: Plan,
    files: Sequence[ShardFile],
    quality: Mapping[Group, ImageQuality],
    digests: Mapping[str, str],
    sample: Sequence[DecodedBatch],
) -> None:
    if is_sealed(plan.attempt, RECONSTRUCTION):
        return
    _check_files(plan, files, quality)
    shown = sorted(sample, key=lambda batch: (batch.shard, batch.image_ids[:1].tolist()))
    documents = _sheets(shown)
    report = None
    if plan.originals is not None:
        report = ReconstructionQuality(
            **msgspec.structs.asdict(report_quality(quality, plan.run.manifest.characters)),
            run=plan.run.folder,
            model=plan.model.name,
            originals=Originals(plan.originals, _same_images(plan.run, digests)),
        )
        documents[QUALITY] = encode(report)
    facts = {file.final_path: FileFacts(file.bytes, file.sha256) for file in files}
    sealed = _sealed(plan, files)
    page = make_preview(_as_compared(shown), plan.run.manifest.characters, plan.run.bytes_per_image)
    if page is not None:
        page = replace(page, pictures=_pictures(plan, quality, files))
    documents[REPORT] = reconstruction_html(sealed, report, page).encode()
    facts |= {name: facts_of(content) for name, content in documents.items()}
    listed = {name: fact._asdict() for name, fact in sorted(facts.items())}
    seal(
        plan.attempt,
        RECONSTRUCTION,
        {file.final_path: file.path for file in files},
        documents,
        encode(msgspec.structs.replace(sealed, files=listed)),
        replace=plan.overwrite,
        blank=no_images(),
    )


def _same_images(compressed: CompleteRun, digests: Mapping[str, str]) -> bool | None:
    """Whether the originals are what the run was made of; None where the run does not say.

    digests: of the originals, by the names of their shards.
    """
    filled = [(key.name, file) for key, file in compressed.shard_files() if file.rows]
    if not all(file.images_sha256 for _, file in filled):
        return None
    return all(digests.get(name) == file.images_sha256 for name, file in filled)


def _pictures(
    plan: Plan, quality: Mapping[Group, ImageQuality], written: Sequence[ShardFile]
) -> dict[str, list[Picture]]:
    """The best, the median, the worst and one of each class of all images, not of a sample."""
    splits = np.concatenate([np.full(len(part), group.split) for group, part in quality.items()])
    labels = np.concatenate([np.full(len(part), group.label) for group, part in quality.items()])
    parts = list(quality.values())
    everything = ImageQuality(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("image_ids", "squared_errors", "ssims")
        )
    )
    chosen = choose_images(splits, labels, everything, plan.run.manifest.characters)
    wanted = {
        (str(splits[pick.row]), int(everything.image_ids[pick.row]))
        for group in chosen.values()
        for pick in group
    }
    found = _pixels(plan, wanted, written)
    return {
        heading: [
            triptych(*found[str(splits[row]), int(everything.image_ids[row])], caption)
            for row, caption in group
        ]
        for heading, group in chosen.items()
    }


def _pixels(
    plan: Plan, wanted: Set[tuple[str, int]], written: Sequence[ShardFile]
) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """(original, decoded), uint8 (784,) each, of images by split and image_id."""
    found = {}
    files = {key._replace(rows=file.rows): file for key, file in plan.run.shard_files()}
    paths = {file.final_path: file.path for file in written}
    for shard in plan.shards:
        first, last = files[shard.key].first_image_id or 0, files[shard.key].last_image_id or 0
        image_ids = np.array(
            sorted(i for split, i in wanted if split == shard.key.split and first <= i <= last),
            np.int64,
        )
        if len(image_ids) and shard.originals is not None:
            originals = original_pixels(shard.originals, image_ids, plan.batch_size)
            path = paths[f"images/{shard.key.name}.parquet"]
            with open_binary(child(plan.attempt.folder, path)) as file:
                decoded = staged_pixels(file, image_ids)
            for place, image_id in enumerate(image_ids.tolist()):
                found[shard.key.split, image_id] = (originals[place], decoded[place])
    return found


def _check_files(
    plan: Plan, files: Sequence[ShardFile], quality: Mapping[Group, ImageQuality]
) -> None:
    """Raises RunError unless every latent came back as an image, and was measured."""
    expected = {
        (f"images/{key.name}.parquet", file.rows)
        for key, file in plan.run.shard_files()
        if file.rows
    }
    written = sum(file.rows for file in files)
    measured = sum(len(part) for part in quality.values())
    is_whole = (
        len(files) == len(expected) and {(file.final_path, file.rows) for file in files} == expected
    )
    if not is_whole or (plan.measured and measured != plan.run.images):
        raise RunError(
            f"{plan.run.images:,} latents in {len(expected)} files, {written:,} images written in "
            f"{len(files)}, {measured:,} measured: these must agree, so nothing is published; run "
            "it again, and report it if it happens again"
        )


def _sealed(plan: Plan, files: Sequence[ShardFile]) -> Reconstruction:
    manifest = plan.run.manifest
    return Reconstruction(
        reconstruction_id=plan.attempt.run_id,
        run=DecodedRun(plan.run.folder, manifest.run_id),
        dataset=manifest.dataset.name,
        model=manifest.model,
        images=sum(file.rows for file in files),
        versions=run_directory.versions(),
    )


def _sheets(shown: Sequence[DecodedBatch]) -> dict[str, bytes]:
    """A PNG of some of the images of each split."""
    sheets = {}
    for split in dict.fromkeys(batch.shard.split for batch in shown):
        batches = [batch for batch in shown if batch.shard.split == split]
        decoded = np.concatenate([batch.pixels for batch in batches])[:SHEET_IMAGES]
        originals = _originals(batches)
        sheets[f"sheets/{split}.png"] = sheet(
            None if originals is None else originals[:SHEET_IMAGES], decoded
        )
    return sheets


def _originals(batches: Sequence[DecodedBatch]) -> np.ndarray | None:
    parts = [batch.originals for batch in batches if batch.originals is not None]
    return np.concatenate(parts) if parts else None


def _as_compared(shown: Sequence[DecodedBatch]) -> ComparedImages | None:
    originals = _originals(shown)
    if originals is None:
        return None
    image_ids, labels, decoded = (
        np.concatenate([getattr(batch, name) for batch in shown])
        for name in ("image_ids", "labels", "pixels")
    )
    return ComparedImages(
        np.concatenate([np.full(len(batch), batch.shard.split) for batch in shown]),
        labels,
        image_quality(image_ids, originals, decoded),
        originals,
        decoded,
    )
