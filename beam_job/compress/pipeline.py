"""The graph of `compress`, and running it."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import TaggedOutput

from beam_job.compress.complete import Run, complete
from beam_job.compress.options import CompressOptions
from beam_job.datasets.staging import stage_named, with_packed_staged
from beam_job.outputs.attempt import Attempt, Job, JobDataset, now
from beam_job.outputs.model_record import latents_metadata, model_record
from beam_job.outputs.redaction import recorded_flags, recorded_options, recorded_source
from beam_job.outputs.resume import attempting, continued, describe
from beam_job.outputs.run_directory import RUN, versions
from beam_job.progress import tick
from beam_job.runners.beam_flags import BeamFlags
from beam_job.runners.pipelines import execute, is_local, new_pipeline
from beam_job.runners.runner import Runner, model_for
from transforms.encode import Encode, EncoderHandler
from transforms.images import Reject, Sample, Stretch, with_sample
from transforms.inputs.dataset import Dataset, cut_stretches
from transforms.latents import LATENTS_FOLDER, LatentBatch, ModelRecord
from transforms.models.choice import (
    INT8,
    Engine,
    choose_engine,
    decoder_engine,
    load_decoder,
    load_encoder,
)
from transforms.models.directory import Model, file_content
from transforms.models.keras_file import expects_bytes
from transforms.preprocess import NormalizeImages, ReshapeImages
from transforms.quantize import Quantization
from transforms.read_images import ReadShards
from transforms.settings import COMPATIBLE
from transforms.shard_files import FinishedShard, ShardFile, read_note, shard_path
from transforms.sizes import Sizes
from transforms.write_latents import ByteCounts, StoreLatents, WriteLatents

CANNOT_DECODE = (
    "The model is an encoder alone: its latents cannot be decoded, and what is lost is not known. "
    "`train` makes a model directory, with a decoder."
)
TAKES_BYTES = (
    "The model begins with a Rescaling from 0 to 255, so it was given pixels from 0 to 255."
)
SAMPLE_IMAGES = 500
"""About how many images the report's quality is measured on; `reconstruct` measures all."""

_DECIDING_FLAGS = (
    "batch_size",
    "fit",
    "invert",
    "max_pixel",
    "member",
    "orientation",
    "parquet",
    "shard_size",
)

REPORT_IMPORTS = ("matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2")
"""What takes longest to import of what the report is drawn with."""


def run(
    options: CompressOptions,
    beam_flags: BeamFlags,
    runner: Runner,
    model: Model,
    engine: Engine,
    quantization: Quantization | None,
    dataset: Dataset | None,
) -> None:
    """Compresses a dataset into a run directory, by a model that was checked.

    dataset: what the options name; None where it has to be staged first.
    """
    # Workers elsewhere load their engine themselves; here the lightest one knows the network too.
    here = choose_engine(model, None, engine.precision) if runner.workers_elsewhere else engine
    encoder = load_encoder(model, here)
    decodes = decoder_engine(here.name)
    record = model_record(model, engine, encoder, options.latent_dtype, quantization)
    warnings: tuple[str, ...] = () if model.decoder else (CANNOT_DECODE,)
    if model.card is None and expects_bytes(file_content(model.name, model.encoder)):
        warnings += (TAKES_BYTES,)
    if model.decoder:  # One that cannot be loaded is found now, not at the end.
        load_decoder(model, decodes)
    replace = options.overwrite or options.resume
    with attempting(options.output, RUN, replace=replace) as work:
        dataset = dataset or stage_named(options)
        job = _job(options, dataset, record)
        if options.resume:
            work.attempt = continued(work.attempt, job, strictly=True)
        created = describe(work.attempt, job)
        if not is_local(beam_flags.options):
            dataset = with_packed_staged(dataset, work.attempt.folder, here=True)
        stretches = cut_stretches(dataset, options.shard_size)
        keys = [shard.key for stretch in stretches for shard in stretch.shards]
        planned = Run(
            attempt=work.attempt,
            created=created,
            dataset=_recorded(dataset),
            shards={key.split: key.of for key in keys},
            model=record,
            flags={**recorded_options(vars(options)), "beam": recorded_flags(beam_flags.flags)},
            versions=job.versions,
            batch_size=options.batch_size,
            compatible=options.parquet == COMPATIBLE,
            max_rejects=options.max_rejects,
            overwrite=options.overwrite,
            decoder_engine=decodes,
            model_path=model_for(runner, model, options.model, work.attempt.folder),
            warnings=warnings,
            notes=dataset.notes,
        )
        work.stays = options.no_wait
        execute(
            partial(build_pipeline, planned, stretches, beam_flags.options),
            beam_flags.options,
            images=sum(dataset.rows.values()),
            waits=not options.no_wait,
            quiet=options.quiet,
            meanwhile=REPORT_IMPORTS,
        )


def _job(options: CompressOptions, dataset: Dataset, model: ModelRecord) -> Job:
    """What decides the content of a run's files."""
    flags = {name: getattr(options, name) for name in _DECIDING_FLAGS}
    return Job(
        created=now(), dataset=_recorded(dataset), model=model, flags=flags, versions=versions()
    )


def _recorded(dataset: Dataset) -> JobDataset:
    sources = tuple(recorded_source(source) for source in dataset.sources)
    return JobDataset(dataset.name, dataset.fingerprint, dataset.rows, sources, dataset.characters)


def build_pipeline(
    planned: Run,
    stretches: Sequence[Stretch],
    pipeline_options: PipelineOptions,
    progress_path: str | None = None,
) -> beam.Pipeline:
    """The graph. progress_path: where to note images done, on this machine; None for nowhere."""
    every = -(-sum(planned.dataset.images.values()) // SAMPLE_IMAGES)
    attempt, model = planned.attempt, planned.model
    pipeline = new_pipeline(pipeline_options)
    found = (
        pipeline
        | "Shards" >> beam.Create(list(stretches), reshuffle=False)
        | "SpreadShards" >> beam.Reshuffle()
        | "FindFinished"
        >> beam.ParDo(_FindFinished(attempt, model.latent_bytes)).with_outputs(
            _FindFinished.FINISHED, main="left"
        )
    )
    batches, _ = found["left"] | "ReadImages" >> ReadShards(planned.batch_size, planned.max_rejects)
    images = (
        batches
        | "ChooseSample" >> beam.Map(with_sample, every)
        | "NormalizeImages" >> beam.ParDo(NormalizeImages())
        | "ReshapeImages" >> beam.ParDo(ReshapeImages())
    )
    latents = (
        images
        | "Encode" >> Encode(_encoder_handler(planned.model_path, model))
        | "StoreLatents" >> beam.ParDo(StoreLatents(model.stored_dtype, model.quantization))
    )
    written = latents | "WriteLatents" >> WriteLatents(
        attempt.folder,
        planned.dataset.characters,
        latents_metadata(planned.dataset.name, model),
        compatible=planned.compatible,
        noted=True,
    )
    already = found[_FindFinished.FINISHED]
    finished = (written, already) | "FinishedShards" >> beam.Flatten()
    sizes = (
        finished | "Counts" >> beam.Map(_sizes) | "ByteCounts" >> beam.CombinePerKey(ByteCounts())
    )
    _ = (
        pipeline
        | "Run" >> beam.Create([planned], reshuffle=False)
        | "CompleteRun"
        >> beam.ParDo(
            _CompleteRun(),
            beam.pvalue.AsIter(finished | "Files" >> beam.Map(_file)),
            beam.pvalue.AsDict(sizes),
            beam.pvalue.AsList(finished | "Rejects" >> beam.FlatMap(_rejects)),
            beam.pvalue.AsList(finished | "Samples" >> beam.FlatMap(_samples)),
        )
    )
    if progress_path is not None:
        _ = latents | "ShowProgress" >> beam.Map(_note_progress, progress_path)
        _ = already | "ShowFinished" >> beam.Map(_note_finished, progress_path)
    return pipeline


class _FindFinished(beam.DoFn):
    """Stretch -> the shards of it that are left, and FINISHED: those that are done.

    An interrupted command, a runner's restart and a retry all find here what is done.
    """

    FINISHED = "finished"

    def __init__(self, attempt: Attempt, latent_bytes: int) -> None:
        self._attempt = attempt
        self._latent_bytes = latent_bytes

    def process(self, stretch: Stretch) -> Iterator[Any]:
        left = []
        for shard in stretch.shards:
            name = shard_path(LATENTS_FOLDER, shard.key)
            done = read_note(self._attempt.folder, name, self._latent_bytes)
            if done is None:
                left.append(shard)
            else:
                yield TaggedOutput(self.FINISHED, done)
        if left:
            yield Stretch(tuple(left))


def _sizes(finished: FinishedShard) -> tuple[str, Sizes]:
    return finished.file.split, finished.sizes


def _file(finished: FinishedShard) -> ShardFile:
    return finished.file


def _rejects(finished: FinishedShard) -> tuple[Reject, ...]:
    return finished.rejects


def _samples(finished: FinishedShard) -> Iterator[tuple[str, Sample]]:
    if finished.sample.image_ids:
        yield finished.file.split, finished.sample


def _encoder_handler(name: str | None, model: ModelRecord) -> EncoderHandler:
    sha256 = model.int8_sha256 if model.precision == INT8 else model.sha256
    return EncoderHandler(name, Engine(model.engine, model.precision), sha256)


def _note_progress(batch: LatentBatch, path: str) -> None:
    tick(path, batch.rows)


def _note_finished(finished: FinishedShard, path: str) -> None:
    tick(path, finished.file.rows)


class _CompleteRun(beam.DoFn):
    """Checks what arrived and seals the run, on a worker: nobody has to wait for the job."""

    def process(
        self,
        planned: Run,
        files: Iterable[ShardFile],
        sizes: dict[str, Sizes],
        rejects: list[Reject],
        samples: list[tuple[str, Sample]],
    ) -> None:
        complete(planned, files, sizes, rejects, samples)
