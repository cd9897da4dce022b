"""How a run becomes complete."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from typing import Any

from beam_job import publishing
from beam_job.datasets import Source, check_unchanged, with_checksums
from beam_job.decoded_sample import Sample, decoded_sample
from beam_job.publishing import Attempt
from beam_job.report import clipping_notes, report_html, sizes_report
from beam_job.run_directory import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    OWNED,
    REJECTS,
    REPORT,
    SIZES,
    versions,
)
from beam_job.shown import Shown, shown_of
from transforms.errors import InputError, RunError
from transforms.files import FileFacts, write_bytes
from transforms.images import Reject, too_many_rejects
from transforms.model_directory import find_model
from transforms.quantize import Quantization
from transforms.shard_files import ShardFile
from transforms.sizes import Sizes


@dataclass(frozen=True)
class Run:
    """All that is known of a run before it starts; JSON values, for any worker to write down.

    staged: images that there should be, by split. model: what identifies the encoder.
    decoder_engine: what decodes for the report, as load_decoder has it. model_path: where workers
    find the model; None for the one that comes with the package. created: when the run began.
    updated: as Dataset has it.
    """

    attempt: Attempt
    created: str
    dataset: str
    fingerprint: str | None
    updated: Mapping[str, float]
    sources: tuple[Source, ...]
    staged: dict[str, int]
    shards: dict[str, int]
    characters: dict[int, str]
    model: dict[str, Any]
    flags: dict[str, Any]
    max_rejects: int
    decoder_engine: str | None
    model_path: str | None
    warnings: tuple[str, ...]

    @property
    def quantization(self) -> Quantization | None:
        """How the latents are stored in whole numbers; None where they are floats."""
        described = self.model["quantization"]
        return None if described is None else Quantization.from_json(described)


def complete(
    run: Run,
    files: Sequence[ShardFile],
    sizes: Mapping[str, Sizes],
    rejects: Sequence[Reject],
    checksums: Mapping[str, str],
    sample: Sample,
) -> None:
    """Checks that everything arrived, and publishes the run, its manifest last.

    files: those of WriteLatents. sizes: by split. rejects: the images set aside. checksums:
    SHA-256 of source files by path. sample: what the report is drawn from. Raises RunError where
    images are missing, InputError where more were rejected than are borne, an input was written to
    meanwhile, or another run is there by now; then nothing is published.
    """
    if len(rejects) > run.max_rejects:
        ordered = sorted(rejects, key=lambda reject: (reject.split, reject.image_id))
        raise InputError(too_many_rejects(ordered, run.max_rejects))
    if publishing.is_published(run.attempt, MANIFEST, "run_id"):
        return
    check_counts(run.staged, sizes)
    check_files(run.shards, files)
    check_unchanged(run.updated)
    sizes = {split: sizes[split] for split in run.staged}  # In the order of the dataset.
    sources = with_checksums(run.sources, dict(checksums))
    report = sizes_report(sizes, sources)
    documents = {SIZES: _json(report)}
    if rejects:
        documents[REJECTS] = _rejects_lines(rejects)
    manifest = _manifest(run, files, sizes, sources)
    documents[REPORT] = report_html(manifest, report, _shown(run, report, sample)).encode()
    facts = {file.path: FileFacts(file.bytes, file.sha256) for file in files}
    for name, content in documents.items():
        facts[name] = write_bytes(publishing.child(run.attempt.folder, name), content)
        manifest["files"].append({"path": name, **facts[name]._asdict()})
    publishing.publish(
        run.attempt,
        facts,
        MANIFEST,
        _json(manifest),
        owned=OWNED,
        overwrite=run.flags["overwrite"],
    )


def _shown(run: Run, report: Mapping[str, Any], sample: Sample) -> Shown | None:
    model = replace(find_model(run.model_path), decoder_sha256=run.model["decoder_sha256"])
    compared = decoded_sample(sample, model, run.decoder_engine, run.quantization)
    total = report["total"]
    bytes_per_image = total["parquet_bytes"] / max(1, total["images"])
    return shown_of(compared, run.characters, bytes_per_image)


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
    """Raises RunError unless there is a file for each shard, InputError if image_ids overlap."""
    for split, expected in shards.items():
        paths = {file.path for file in files if file.split == split}
        if len(paths) != expected or len(paths) != sum(file.split == split for file in files):
            raise RunError(
                f"split {split}: {len(paths)} files for {expected} shards, so nothing is "
                "published: run it again, and report it if it happens again"
            )
        filled = sorted(file for file in files if file.split == split and file.rows)
        for before, after in pairwise(filled):
            if after.first_image_id <= before.last_image_id:  # type: ignore[operator]
                raise InputError(
                    f"split {split}: image_id {after.first_image_id} is in two places of the "
                    "input: give each image once, in order"
                )


def _rejects_lines(rejects: Sequence[Reject]) -> bytes:
    ordered = sorted(rejects, key=lambda reject: (reject.split, reject.image_id))
    return "".join(json.dumps(reject._asdict()) + "\n" for reject in ordered).encode()


def _manifest(
    run: Run, files: Sequence[ShardFile], sizes: Mapping[str, Sizes], sources: Sequence[Source]
) -> dict[str, Any]:
    splits = {
        split: {
            "images": run.staged[split],
            "shards": run.shards[split],
            "read": sizes[split].images_read,
            "rejected": sizes[split].images_rejected,
            "encoded": sizes[split].images_encoded,
            "written": sizes[split].images_written,
            "clipped_values": sizes[split].clipped_values,
            "clipped_images": sizes[split].clipped_images,
        }
        for split in run.staged
    }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "run_id": run.attempt.run_id,
        "created": run.created,
        "warnings": [*run.warnings, *clipping_notes(sizes)],
        "dataset": {
            "name": run.dataset,
            "fingerprint": run.fingerprint or _fingerprint(sources),
            "splits": splits,
            "sources": [source._asdict() for source in sources],
        },
        "model": run.model,
        "characters": run.characters,
        "flags": run.flags,
        "versions": versions(),
        "files": [file._asdict() for file in sorted(files)],
    }


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _fingerprint(sources: Sequence[Source]) -> str:
    """SHA-256 over the source files' own, in order, as `sha256sum` would list them by split."""
    lines = "".join(f"{source.sha256}  {source.split}\n" for source in sources)
    return sha256(lines.encode()).hexdigest()
