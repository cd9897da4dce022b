"""The graph of `reconstruct`, and running it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from beam_job.console import say, tell
from beam_job.datasets.catalog import counts_in_words
from beam_job.datasets.staging import open_dataset, with_packed_staged
from beam_job.outputs.resume import after_publication, attempting
from beam_job.outputs.run_directory import CompleteRun
from beam_job.outputs.seal import read_sealed
from beam_job.progress import tick
from beam_job.reconstruct.command import RECONSTRUCTION, SEAL
from beam_job.reconstruct.complete import QUALITY, Plan, Reconstruction, complete
from beam_job.reconstruct.options import ReconstructOptions
from beam_job.reports.quality import Group, ReconstructionQuality, quality_rows
from beam_job.reports.sizes import columns_of_text
from beam_job.runners.beam_flags import BeamFlags
from beam_job.runners.pipelines import execute, is_local, new_pipeline
from beam_job.runners.runner import Runner, model_for
from transforms.decode import Decode, DecodedBatch, DecoderHandler, ReadLatents, WriteImages
from transforms.errors import InputError
from transforms.images import Shard, ShardKey, one_in
from transforms.inputs.dataset import Dataset, cut_shards
from transforms.models.choice import load_decoder
from transforms.models.directory import Model
from transforms.quality import ImageQuality, Quality, image_quality
from transforms.read_latents import LatentShard
from transforms.shard_files import FinishedShard, ShardFile
from transforms.storage.files import child

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


def run(
    options: ReconstructOptions,
    beam_flags: BeamFlags,
    runner: Runner,
    compressed: CompleteRun,
    model: Model,
) -> None:
    """Decodes a run by its model, and shows what came of it."""
    load_decoder(model, options.engine)
    with attempting(options.output, RECONSTRUCTION) as work:
        originals, name = None, None
        if options.originals is not None:
            dataset = open_dataset(options.originals)
            name = dataset.name
            _check_dataset(dataset, compressed)
            here = not is_local(beam_flags.options)
            dataset = with_packed_staged(dataset, work.attempt.folder, here=here)
            originals = _original_shards(dataset, compressed)
        plan = Plan(
            attempt=work.attempt,
            run=compressed,
            model=model,
            model_path=model_for(runner, model, model.name, work.attempt.folder),
            engine=options.engine,
            shards=tuple(_latent_shards(compressed, originals)),
            originals=name,
            batch_size=options.batch_size,
            overwrite=options.overwrite,
        )
        work.stays = options.no_wait
        execute(
            partial(build_pipeline, plan, beam_flags.options),
            beam_flags.options,
            images=compressed.images,
            waits=not options.no_wait,
            quiet=options.quiet,
        )
    if options.quiet:
        return
    if options.no_wait:
        say(f"submitted: {options.output} is complete when its {SEAL} is there")
        return
    with after_publication():
        _show(options.output, plan)


def _check_dataset(dataset: Dataset, compressed: CompleteRun) -> None:
    """Raises InputError where the originals and those of the run are two datasets by name."""
    made_of = compressed.manifest.dataset
    is_named = compressed.manifest.cut_by.dataset is not None
    if is_named and dataset.fingerprint not in (None, made_of.fingerprint):
        raise InputError(
            f"--originals={dataset.name} is another dataset than {made_of.name}, which the "
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
            compressed.manifest.model,
            None if originals is None else originals[key],
        )
        for key, file in compressed.shard_files()
        if file.rows
    ]


def build_pipeline(
    plan: Plan, pipeline_options: PipelineOptions, progress_path: str | None = None
) -> beam.Pipeline:
    """The graph. progress_path: where to note images done, on this machine; None for nowhere."""
    manifest = plan.run.manifest
    pipeline = new_pipeline(pipeline_options)
    decoded = (
        pipeline
        | "Shards" >> beam.Create(list(plan.shards), reshuffle=False)
        | "SpreadShards" >> beam.Reshuffle()
        | "ReadLatents" >> beam.ParDo(ReadLatents(manifest.model.quantization, plan.batch_size))
        | "Decode"
        >> Decode(DecoderHandler(plan.model_path, plan.engine, plan.model.decoder_sha256))
    )
    if progress_path is not None:
        _ = decoded | "ShowProgress" >> beam.Map(_note_progress, progress_path)
    finished = (
        decoded
        | "ImagesAlone" >> beam.Map(_without_originals)
        | "WriteImages"
        >> WriteImages(plan.attempt.folder, manifest.characters, plan.batch_size, noted=True)
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
        plan: Plan,
        files: list[ShardFile],
        quality: dict[tuple[str, int], ImageQuality],
        digests: dict[str, str],
        sample: list[DecodedBatch],
    ) -> None:
        groups = {Group(*key): part for key, part in quality.items()}
        complete(plan, files, groups, digests, sample)


def _show(output: str, plan: Plan) -> None:
    sealed = read_sealed(output, SEAL, Reconstruction)
    reports = [read_sealed(output, QUALITY, ReconstructionQuality)] if plan.measured else []
    for report in reports:
        say(*columns_of_text(quality_rows(report)), "")
    for path in dict.fromkeys(_folder(path) for path in (*sealed.files, SEAL)):
        say(child(output, path))
    for report in reports:
        tell(*_NOTES[report.originals.same_files])


def _folder(path: str) -> str:
    """A file's folder where there are many of its kind, else the file."""
    return path.rpartition("/")[0] if path.startswith("images/") else path
