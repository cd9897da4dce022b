"""The graph of `reconstruct`, and running it."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from beam_job import publishing, run_directory
from beam_job.datasets import Dataset, check_unchanged, counts_in_words, cut_shards
from beam_job.decoded_sample import one_in
from beam_job.lines import say, tell
from beam_job.options import ReconstructOptions, beam_options
from beam_job.pictures import Compared, Picture, picks, sheet, triptych
from beam_job.pipelines import is_local, new_pipeline, run_to_end, submit
from beam_job.progress import Progress, tick
from beam_job.publishing import Attempt
from beam_job.quality_report import Group, quality_lines, quality_report
from beam_job.reconstruct import SEAL
from beam_job.remote import Runner, model_for
from beam_job.report import columns_of_text, reconstruction_html
from beam_job.run_directory import CompleteRun
from beam_job.shown import shown_of
from beam_job.stage import open_dataset, with_gzips_staged
from transforms.decode import (
    Decode,
    DecodedBatch,
    DecoderHandler,
    LatentShard,
    ReadLatents,
    WriteImages,
    original_pixels,
)
from transforms.engines.choice import load_decoder
from transforms.errors import InputError, RunError, StoreFailedError
from transforms.files import FileFacts, file_facts, read_bytes, write_bytes
from transforms.images import Shard, ShardKey
from transforms.model_directory import Model
from transforms.quality import ImageQuality, Quality, image_quality
from transforms.shard_files import ShardFile
from transforms.staged import staged_pixels

QUALITY = "quality.json"
_ID = "reconstruction_id"
REPORT = "report.html"
SHEET_IMAGES = 128
PAGE_IMAGES = 500
"""About how many images the report's pictures and its plot are taken from."""

_FORMAT = "emnist-latents reconstruction"


@dataclass(frozen=True)
class _Plan:
    """What is to be decoded, for any worker to write down. updated: as the originals have it."""

    attempt: Attempt
    run: CompleteRun
    model: Model
    shards: tuple[LatentShard, ...]
    originals: dict[str, Any] | None
    updated: Mapping[str, float]
    overwrite: bool

    @property
    def measured(self) -> bool:
        """Whether the originals are at hand."""
        return self.originals is not None

    @property
    def every(self) -> int:
        """Every how manyth image is shown."""
        return -(-self.run.images // PAGE_IMAGES)


def run(
    options: ReconstructOptions,
    beam_flags: Sequence[str],
    runner: Runner,
    compressed: CompleteRun,
    model: Model,
) -> None:
    """Decodes a run by its model, and shows what came of it."""
    pipeline_options = beam_options(beam_flags)
    load_decoder(model, options.engine)
    attempt = publishing.begin(options.output, "--output")
    try:
        originals, facts = None, None
        updated: Mapping[str, float] = {}
        if options.originals is not None:
            dataset = open_dataset(options.originals)
            facts, updated = _originals_facts(dataset, compressed), dataset.updated
            dataset = with_gzips_staged(dataset, attempt.folder)
            originals = _original_shards(dataset, compressed)
        shards = _latent_shards(compressed, originals)
        plan = _Plan(attempt, compressed, model, tuple(shards), facts, updated, options.overwrite)
        model_path = model_for(runner, model, model.name, attempt.folder)
        if options.no_wait:  # The attempt is the job's now.
            submit(build_pipeline(options, pipeline_options, plan, model_path))
            if not options.quiet:
                say(f"submitted: {options.output} is complete when its {SEAL} is there")
            return
        _run_pipeline(options, pipeline_options, plan, model_path)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            with contextlib.suppress(StoreFailedError):  # What is told then is of the interrupt.
                publishing.is_published(attempt, SEAL, _ID)  # Which the line that is told knows.
        publishing.abandon(attempt)
        raise
    publishing.abandon(attempt)
    if not options.quiet:
        _show(options.output, plan)


def _originals_facts(dataset: Dataset, compressed: CompleteRun) -> dict[str, Any]:
    """What the originals are, and whether the run was made of these very files.

    Raises InputError where both are datasets by name, and not the same.
    """
    made_of = compressed.manifest["dataset"]
    if dataset.fingerprint is not None:
        same = dataset.fingerprint == made_of["fingerprint"]
        if not same and compressed.manifest["flags"]["dataset"] is not None:
            raise InputError(
                f"--originals={dataset.name} is another dataset than {made_of['name']}, which the "
                f"run in {compressed.folder} was made of (their fingerprints differ): give that one"
            )
    else:
        known = {source["sha256"] for source in made_of["sources"]}
        same = {file_facts(source.path).sha256 for source in dataset.sources} <= known
    return {"name": dataset.name, "same_files": same}


def _original_shards(dataset: Dataset, compressed: CompleteRun) -> dict[ShardKey, Shard]:
    """The originals cut as the run was; raises InputError where their counts differ."""
    if dataset.rows != compressed.staged:
        raise InputError(
            f"--originals holds {counts_in_words(dataset.rows)}, and the run in "
            f"{compressed.folder} was made of {counts_in_words(compressed.staged)}: give the "
            "images that it was made of"
        )
    return {shard.key: shard for shard in cut_shards(dataset, compressed.shard_size)}


def _latent_shards(
    compressed: CompleteRun, originals: Mapping[ShardKey, Shard] | None
) -> list[LatentShard]:
    """The run's files of latents, each with its originals."""
    return [
        LatentShard(
            key._replace(rows=file.rows),
            publishing.child(compressed.folder, file.path),
            file.sha256,
            compressed.manifest["model"],
            None if originals is None else originals[key],
        )
        for key, file in compressed.shard_files()
        if file.rows
    ]


def _run_pipeline(
    options: ReconstructOptions,
    pipeline_options: PipelineOptions,
    plan: _Plan,
    model_path: str | None,
) -> None:
    if not is_local(pipeline_options):
        run_to_end(build_pipeline(options, pipeline_options, plan, model_path))
        return
    with Progress(plan.run.images, quiet=options.quiet) as progress:
        run_to_end(build_pipeline(options, pipeline_options, plan, model_path, progress.path))


def build_pipeline(
    options: ReconstructOptions,
    pipeline_options: PipelineOptions,
    plan: _Plan,
    model_path: str | None,
    progress_path: str | None = None,
) -> beam.Pipeline:
    """The graph. model_path: where workers find the model.

    progress_path: where to note images done, on this machine; None for nowhere.
    """
    pipeline = new_pipeline(pipeline_options)
    decoded = (
        pipeline
        | "Shards" >> beam.Create(list(plan.shards), reshuffle=False)
        | "SpreadShards" >> beam.Reshuffle()
        | "ReadLatents" >> beam.ParDo(ReadLatents(plan.run.quantization, options.batch_size))
        | "Decode" >> Decode(_decoder_handler(options, plan.model, model_path))
    )
    if progress_path is not None:
        _ = decoded | "ShowProgress" >> beam.Map(_note_progress, progress_path)
    files = decoded | "WriteImages" >> WriteImages(
        plan.attempt.folder, plan.run.characters, options.batch_size
    )
    quality = (
        decoded | "Compare" >> beam.FlatMap(_compared) | "Quality" >> beam.CombinePerKey(Quality())
    )
    _ = (
        pipeline
        | "Plan" >> beam.Create([plan], reshuffle=False)
        | "CompleteReconstruction"
        >> beam.ParDo(
            _CompleteReconstruction(),
            beam.pvalue.AsList(files),
            beam.pvalue.AsDict(quality),
            beam.pvalue.AsList(decoded | "SampleImages" >> beam.FlatMap(_sampled, plan.every)),
        )
    )
    return pipeline


def _decoder_handler(options: ReconstructOptions, model: Model, path: str | None) -> DecoderHandler:
    return DecoderHandler(path, options.engine, model.decoder_sha256)


def _note_progress(batch: DecodedBatch, path: str) -> None:
    tick(path, batch.rows)


def _compared(batch: DecodedBatch) -> Iterator[tuple[tuple[str, int], ImageQuality]]:
    """The quality of the images of each class in a batch."""
    if batch.originals is None:
        return
    quality = image_quality(batch.image_ids, batch.originals, batch.pixels)
    for label in np.unique(batch.labels):
        yield (batch.shard.split, int(label)), quality.take(batch.labels == label)


def _sampled(batch: DecodedBatch, every: int) -> Iterator[DecodedBatch]:
    chosen = one_in(batch.image_ids, every)
    if chosen.any():
        yield batch.take(chosen)


class _CompleteReconstruction(beam.DoFn):
    """Checks what arrived and publishes it, on a worker: nobody has to wait for the job."""

    def process(
        self,
        plan: _Plan,
        files: list[ShardFile],
        quality: dict[tuple[str, int], ImageQuality],
        sample: list[DecodedBatch],
    ) -> None:
        _complete(plan, files, {Group(*key): part for key, part in quality.items()}, sample)


def _complete(
    plan: _Plan,
    files: Sequence[ShardFile],
    quality: Mapping[Group, ImageQuality],
    sample: Sequence[DecodedBatch],
) -> None:
    if publishing.is_published(plan.attempt, SEAL, _ID):
        return
    _check_files(plan, files, quality)
    check_unchanged(plan.updated)
    shown = sorted(sample, key=lambda batch: (batch.shard, batch.image_ids[:1].tolist()))
    documents = _sheets(shown)
    report = quality_report(quality, plan.run.characters) if plan.measured else None
    if report is not None:
        described = {
            "run": plan.run.folder,
            "model": plan.model.name,
            "originals": plan.originals,
            **report,
        }
        documents[QUALITY] = _json(described)
    facts = {file.path: FileFacts(file.bytes, file.sha256) for file in files}
    seal = _seal(plan, files)
    page = shown_of(_as_compared(shown), plan.run.characters, plan.run.bytes_per_image)
    if page is not None:
        page = page._replace(pictures=_pictures(plan, quality))
    documents[REPORT] = reconstruction_html(seal, report, page).encode()
    for name, content in documents.items():
        facts[name] = write_bytes(publishing.child(plan.attempt.folder, name), content)
    seal["files"] = {name: fact._asdict() for name, fact in sorted(facts.items())}
    owned = ("images", "sheets")
    publishing.publish(plan.attempt, facts, SEAL, _json(seal), owned, overwrite=plan.overwrite)


def _pictures(plan: _Plan, quality: Mapping[Group, ImageQuality]) -> dict[str, list[Picture]]:
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
    chosen = picks(splits, labels, everything, plan.run.characters)
    wanted = {
        (str(splits[pick.row]), int(everything.image_ids[pick.row]))
        for group in chosen.values()
        for pick in group
    }
    found = _pixels(plan, wanted)
    return {
        heading: [
            triptych(*found[str(splits[row]), int(everything.image_ids[row])], caption)
            for row, caption in group
        ]
        for heading, group in chosen.items()
    }


def _pixels(
    plan: _Plan, wanted: Set[tuple[str, int]]
) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """(original, decoded), uint8 (784,) each, of images by split and image_id."""
    found = {}
    files = {key._replace(rows=file.rows): file for key, file in plan.run.shard_files()}
    for shard in plan.shards:
        first, last = files[shard.key].first_image_id or 0, files[shard.key].last_image_id or 0
        image_ids = np.array(
            sorted(i for split, i in wanted if split == shard.key.split and first <= i <= last),
            np.int64,
        )
        if len(image_ids) and shard.originals is not None:
            originals = original_pixels(shard.originals, image_ids)
            path = publishing.child(plan.attempt.folder, f"images/{shard.key.name}.parquet")
            decoded = staged_pixels(read_bytes(path), image_ids)
            for place, image_id in enumerate(image_ids.tolist()):
                found[shard.key.split, image_id] = (originals[place], decoded[place])
    return found


def _check_files(
    plan: _Plan, files: Sequence[ShardFile], quality: Mapping[Group, ImageQuality]
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
        len(files) == len(expected) and {(file.path, file.rows) for file in files} == expected
    )
    if not is_whole or (plan.measured and measured != plan.run.images):
        raise RunError(
            f"{plan.run.images:,} latents in {len(expected)} files, {written:,} images written in "
            f"{len(files)}, {measured:,} measured: these must agree, so nothing is published; run "
            "it again, and report it if it happens again"
        )


def _seal(plan: _Plan, files: Sequence[ShardFile]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "format_version": 1,
        _ID: plan.attempt.run_id,
        "run": {"folder": plan.run.folder, "run_id": plan.run.manifest["run_id"]},
        "dataset": plan.run.manifest["dataset"]["name"],
        "model": plan.run.manifest["model"],
        "images": sum(file.rows for file in files),
        "versions": run_directory.versions(),
    }


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


def _as_compared(shown: Sequence[DecodedBatch]) -> Compared | None:
    originals = _originals(shown)
    if originals is None:
        return None
    image_ids, labels, decoded = (
        np.concatenate([getattr(batch, name) for batch in shown])
        for name in ("image_ids", "labels", "pixels")
    )
    return Compared(
        np.concatenate([np.full(len(batch), batch.shard.split) for batch in shown]),
        labels,
        image_quality(image_ids, originals, decoded),
        originals,
        decoded,
    )


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _show(output: str, plan: _Plan) -> None:
    seal, *reports = publishing.read_published(output, SEAL, *([QUALITY] if plan.measured else []))
    for report in reports:
        say(*columns_of_text(quality_lines(report)), "")
    for path in dict.fromkeys(_folder(path) for path in (*seal["files"], SEAL)):
        say(publishing.child(output, path))
    if plan.originals is not None and not plan.originals["same_files"]:
        tell(
            "note: the originals are other files than the run was made of; that they are the same "
            "images is known only as far as counts, image_ids and labels go"
        )


def _folder(path: str) -> str:
    """A file's folder where there are many of its kind, else the file."""
    return path.rpartition("/")[0] if path.startswith("images/") else path
