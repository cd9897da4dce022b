"""The graph of `reconstruct`, and running it."""

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from beam_job import run_directory
from beam_job.datasets import counts_in_words
from beam_job.lines import say, tell
from beam_job.options import ReconstructOptions, beam_options
from beam_job.outputs.attempt import Attempt, abandon, begin
from beam_job.outputs.resume import leave
from beam_job.outputs.seal import (
    PUBLISHED,
    interruptible,
    is_sealed,
    read_sealed,
    seal,
)
from beam_job.pictures import Compared, Picture, picks, sheet, triptych
from beam_job.pipelines import is_local, new_pipeline, run_to_end, submit
from beam_job.progress import Progress, tick
from beam_job.quality_report import Group, quality_lines, quality_report
from beam_job.reconstruct import RECONSTRUCTION, SEAL
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
from transforms.errors import InputError, RunError
from transforms.images import Shard, ShardKey, one_in
from transforms.inputs.dataset import Dataset, cut_shards
from transforms.model_directory import Model
from transforms.quality import ImageQuality, Quality, image_quality
from transforms.shard_files import FinishedShard, ShardFile
from transforms.staged import no_images, staged_pixels
from transforms.storage.files import FileFacts, child, facts_of, open_binary

QUALITY = "quality.json"
_ID = "reconstruction_id"
REPORT = "report.html"
SHEET_IMAGES = 128
PAGE_IMAGES = 500
"""About how many images the report's pictures and its plot are taken from."""

_FORMAT = "emnist-latents reconstruction"
_OTHER_IMAGES = (
    "note: the originals are other images than the run was made of: their checksums differ, though "
    "counts and image_ids agree"
)
_UNKNOWN_IMAGES = (
    "note: the run has no checksums of its images, so whether the originals are the same images is "
    "known only as far as counts, image_ids and labels go"
)
_NOTES = {True: (), False: (_OTHER_IMAGES,), None: (_UNKNOWN_IMAGES,)}
"""What is printed by whether the originals are the images that the run was made of."""


@dataclass(frozen=True)
class _Plan:
    """What is to be decoded, for any worker to write down. originals: their dataset's name."""

    attempt: Attempt
    run: CompleteRun
    model: Model
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
    attempt = begin(options.output, "--output")
    try:
        originals, name = None, None
        if options.originals is not None:
            dataset = open_dataset(options.originals)
            name = dataset.name
            _check_dataset(dataset, compressed)
            dataset = with_gzips_staged(dataset, attempt.folder)
            originals = _original_shards(dataset, compressed)
        shards = _latent_shards(compressed, originals)
        plan = _Plan(
            attempt,
            compressed,
            model,
            tuple(shards),
            name,
            options.batch_size,
            options.overwrite,
        )
        model_path = model_for(runner, model, model.name, attempt.folder)
        if options.no_wait:  # The attempt is the job's now.
            submit(build_pipeline(options, pipeline_options, plan, model_path))
            if not options.quiet:
                say(f"submitted: {options.output} is complete when its {SEAL} is there")
            return
        with interruptible(attempt, RECONSTRUCTION):
            _run_pipeline(options, pipeline_options, plan, model_path)
    except BaseException as error:
        if (left := leave(attempt, RECONSTRUCTION, error)) is not None:
            raise left from error
    abandon(attempt)
    if not options.quiet:
        try:
            _show(options.output, plan)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(PUBLISHED) from interrupt


def _check_dataset(dataset: Dataset, compressed: CompleteRun) -> None:
    """Raises InputError where the originals and those of the run are two datasets by name."""
    made_of = compressed.manifest["dataset"]
    is_named = compressed.manifest["flags"]["dataset"] is not None
    if is_named and dataset.fingerprint not in (None, made_of["fingerprint"]):
        raise InputError(
            f"--originals={dataset.name} is another dataset than {made_of['name']}, which the "
            f"run in {compressed.folder} was made of (their fingerprints differ): give that one"
        )


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
            child(compressed.folder, file.path),
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
    finished = (
        decoded
        | "ImagesAlone" >> beam.Map(_without_originals)
        | "WriteImages"
        >> WriteImages(plan.attempt.folder, plan.run.characters, options.batch_size, noted=True)
    )
    files = finished | "Files" >> beam.Map(_file)
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
            beam.pvalue.AsDict(decoded | "Digests" >> beam.FlatMap(_digest)),
            beam.pvalue.AsList(decoded | "SampleImages" >> beam.FlatMap(_sampled, plan.every)),
        )
    )
    return pipeline


def _decoder_handler(options: ReconstructOptions, model: Model, path: str | None) -> DecoderHandler:
    return DecoderHandler(path, options.engine, model.decoder_sha256)


def _file(finished: FinishedShard) -> ShardFile:
    return finished.file


def _without_originals(batch: DecodedBatch) -> DecodedBatch:
    return replace(batch, originals=None)


def _digest(batch: DecodedBatch) -> Iterator[tuple[str, str]]:
    """The name of a shard with the SHA-256 of all its originals, once all have been read."""
    if batch.originals_sha256:
        yield batch.shard.name, batch.originals_sha256


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
        digests: dict[str, str],
        sample: list[DecodedBatch],
    ) -> None:
        groups = {Group(*key): part for key, part in quality.items()}
        _complete(plan, files, groups, digests, sample)


def _complete(
    plan: _Plan,
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
    report = quality_report(quality, plan.run.characters) if plan.measured else None
    if report is not None:
        described = {
            "run": plan.run.folder,
            "model": plan.model.name,
            "originals": {
                "name": plan.originals,
                "same_files": _same_images(plan.run, digests),
            },
            **report,
        }
        documents[QUALITY] = _json(described)
    facts = {file.final_path: FileFacts(file.bytes, file.sha256) for file in files}
    sealed = _seal(plan, files)
    page = shown_of(_as_compared(shown), plan.run.characters, plan.run.bytes_per_image)
    if page is not None:
        page = page._replace(pictures=_pictures(plan, quality, files))
    documents[REPORT] = reconstruction_html(sealed, report, page).encode()
    facts |= {name: facts_of(content) for name, content in documents.items()}
    sealed["files"] = {name: fact._asdict() for name, fact in sorted(facts.items())}
    seal(
        plan.attempt,
        RECONSTRUCTION,
        {file.final_path: file.path for file in files},
        documents,
        _json(sealed),
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
    plan: _Plan, quality: Mapping[Group, ImageQuality], written: Sequence[ShardFile]
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
    chosen = picks(splits, labels, everything, plan.run.characters)
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
    plan: _Plan, wanted: Set[tuple[str, int]], written: Sequence[ShardFile]
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
        len(files) == len(expected) and {(file.final_path, file.rows) for file in files} == expected
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
    names = [QUALITY] if plan.measured else []
    sealed, *reports = read_sealed(output, RECONSTRUCTION, *names)
    for report in reports:
        say(*columns_of_text(quality_lines(report)), "")
    for path in dict.fromkeys(_folder(path) for path in (*sealed["files"], SEAL)):
        say(child(output, path))
    for report in reports:
        tell(*_NOTES[report["originals"]["same_files"]])


def _folder(path: str) -> str:
    """A file's folder where there are many of its kind, else the file."""
    return path.rpartition("/")[0] if path.startswith("images/") else path
