"""The graph of `compress`, and running it."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_job import publishing, resume
from beam_job.completion import Run, complete
from beam_job.datasets import Dataset, Source, cut_shards
from beam_job.decoded_sample import Sample, one_in
from beam_job.kept_shards import ReadKept
from beam_job.model_facts import STORED_DTYPES, latents_metadata, model_facts
from beam_job.options import CompressOptions, beam_options
from beam_job.pipelines import import_meanwhile, is_local, new_pipeline, run_to_end, submit
from beam_job.progress import Progress, tick
from beam_job.recorded import recorded_flags, recorded_options
from beam_job.remote import Runner, model_for
from beam_job.run_directory import MANIFEST
from beam_job.stage import open_dataset, with_gzips_staged
from transforms.encode import Encode, EncoderHandler
from transforms.engines.choice import (
    INT8,
    Engine,
    choose_engine,
    decoder_engine,
    load_decoder,
    load_encoder,
)
from transforms.errors import StoreFailedError
from transforms.files import file_facts
from transforms.images import ImageBatch, Reject, Shard
from transforms.latents import LatentBatch
from transforms.model_directory import Model
from transforms.preprocess import NormalizeImages, ReshapeImages
from transforms.quantize import Quantization
from transforms.read_images import ReadImages
from transforms.shard_files import ShardFile
from transforms.sizes import (
    ByteCounts,
    Sizes,
    sizes_encoded,
    sizes_prepared,
    sizes_read,
    sizes_written,
)
from transforms.write_latents import StoreLatents, WriteLatents

CANNOT_DECODE = (
    "The model is an encoder alone: its latents cannot be decoded, and what is lost is not known. "
    "`train` makes a model directory, with a decoder."
)
SAMPLE_IMAGES = 500
"""About how many images the report's quality is measured on; `reconstruct` measures all."""

_DECIDING_FLAGS = ("batch_size", "orientation", "shard_size")

REPORT_IMPORTS = ("matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2")
"""What takes longest to import of what the report is drawn with."""


def run(
    options: CompressOptions,
    beam_flags: Sequence[str],
    runner: Runner,
    model: Model,
    engine: Engine,
    quantization: Quantization | None,
) -> None:
    """Compresses what the options name into a run directory, by a model that was checked."""
    pipeline_options = beam_options(beam_flags)
    # Workers elsewhere load their engine themselves; here the lightest one knows the network too.
    here = choose_engine(model, None, engine.precision) if runner.workers_elsewhere else engine
    encoder = load_encoder(model, here)
    decodes = decoder_engine(here.name)
    facts = model_facts(model, engine, encoder, options.latent_dtype, quantization)
    if model.decoder:  # One that cannot be loaded is found now, not at the end.
        load_decoder(model, decodes)
    attempt = publishing.begin(options.output, "--output")
    try:
        dataset = open_dataset(options)
        job = _job(options, dataset, facts)
        if options.resume:
            attempt = resume.taken_over(attempt, job, strictly=True)
        created = resume.begun(attempt, job)
        dataset = with_gzips_staged(dataset, attempt.folder)
        shards = cut_shards(dataset, options.shard_size)
        planned = Run(
            attempt=attempt,
            created=created,
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            updated=dataset.updated,
            sources=dataset.sources,
            staged=dataset.rows,
            shards={shard.key.split: shard.key.of for shard in shards},
            characters=dataset.characters,
            model=facts,
            flags={**recorded_options(vars(options)), "beam": recorded_flags(beam_flags)},
            max_rejects=options.max_rejects,
            decoder_engine=decodes,
            model_path=model_for(runner, model, options.model, attempt.folder),
            warnings=() if model.decoder else (CANNOT_DECODE,),
        )
        if options.no_wait:  # The attempt is the job's now.
            submit(build_pipeline(options, pipeline_options, planned, shards))
            return
        _run_pipeline(options, pipeline_options, planned, shards)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            with contextlib.suppress(StoreFailedError):  # What is told then is of the interrupt.
                publishing.is_published(attempt, MANIFEST, "run_id")  # Which the line told knows.
        raise resume.leave(attempt, error) from error
    publishing.abandon(attempt)


def _job(options: CompressOptions, dataset: Dataset, model: dict[str, Any]) -> dict[str, Any]:
    """What decides the content of a run's files."""
    return resume.job_of(
        {
            "dataset": {
                "name": dataset.name,
                "fingerprint": dataset.fingerprint,
                "images": dataset.rows,
                "sources": [source.to_json() for source in dataset.sources],
                "characters": dataset.characters,
            },
            "model": model,
            "flags": {name: getattr(options, name) for name in _DECIDING_FLAGS},
        }
    )


def _run_pipeline(
    options: CompressOptions,
    pipeline_options: PipelineOptions,
    planned: Run,
    shards: Sequence[Shard],
) -> None:
    if not is_local(pipeline_options):
        run_to_end(build_pipeline(options, pipeline_options, planned, shards))
        return
    import_meanwhile(*REPORT_IMPORTS)
    with Progress(sum(planned.staged.values()), quiet=options.quiet) as progress:
        run_to_end(build_pipeline(options, pipeline_options, planned, shards, progress.path))


def build_pipeline(
    options: CompressOptions,
    pipeline_options: PipelineOptions,
    planned: Run,
    shards: Sequence[Shard],
    progress_path: str | None = None,
) -> beam.Pipeline:
    """The graph. progress_path: where to note images done, on this machine; None for nowhere."""
    every = -(-sum(planned.staged.values()) // SAMPLE_IMAGES)
    pipeline = new_pipeline(pipeline_options)
    kept = resume.kept_shards(planned.attempt, shards) if options.resume else []
    done = None
    if kept:
        done = (
            pipeline
            | "KeptShards" >> beam.Create(kept, reshuffle=False)
            | "ReadKept" >> ReadKept(options.batch_size, every, planned.model)
        )
    finished = {shard.key for shard, _, _ in kept}
    left = [shard for shard in shards if shard.key not in finished]
    to_read = pipeline | "Shards" >> beam.Create(left, reshuffle=False)
    batches, rejects = _with_kept(to_read, done, ReadKept.AGAIN) | "ReadImages" >> ReadImages(
        options.batch_size, options.max_rejects
    )
    images = (
        batches
        | "NormalizeImages" >> beam.ParDo(NormalizeImages())
        | "ReshapeImages" >> beam.ParDo(ReshapeImages())
    )
    latents = (
        images
        | "Encode" >> Encode(_encoder_handler(planned.model_path, planned.model))
        | "StoreLatents"
        >> beam.ParDo(StoreLatents(STORED_DTYPES[options.latent_dtype], planned.quantization))
    )
    if progress_path is not None:
        _ = latents | "ShowProgress" >> beam.Map(_note_progress, progress_path)
    files = latents | "WriteLatents" >> WriteLatents(
        planned.attempt.folder, planned.characters, latents_metadata(planned.dataset, planned.model)
    )
    if done is not None and progress_path is not None:
        _ = done[ReadKept.FILES] | "ShowKept" >> beam.Map(_note_kept, progress_path)
    sizes = (
        (
            batches | "CountRead" >> beam.Map(sizes_read),
            images | "CountPrepared" >> beam.Map(sizes_prepared),
            latents | "CountEncoded" >> beam.Map(sizes_encoded),
            files | "CountWritten" >> beam.Map(sizes_written),
            *(() if done is None else (done[ReadKept.SIZES],)),
        )
        | "AllCounts" >> beam.Flatten()
        | "ByteCounts" >> beam.CombinePerKey(ByteCounts())
    )
    images_shown = batches | "SampleImages" >> beam.FlatMap(_sampled, every)
    latents_shown = latents | "SampleLatents" >> beam.FlatMap(_sampled, every)
    checksums = (
        pipeline
        | "SourceFiles" >> beam.Create([source.path for source in _unread_sources(planned)])
        | "SourceChecksums" >> beam.Map(_path_and_sha256)
    )
    _ = (
        pipeline
        | "Run" >> beam.Create([planned], reshuffle=False)
        | "CompleteRun"
        >> beam.ParDo(
            _CompleteRun(),
            beam.pvalue.AsList(_with_kept(files, done, ReadKept.FILES)),
            beam.pvalue.AsDict(sizes),
            beam.pvalue.AsList(_with_kept(rejects, done, ReadKept.REJECTS)),
            beam.pvalue.AsDict(checksums),
            beam.pvalue.AsList(_with_kept(images_shown, done, ReadKept.IMAGES)),
            beam.pvalue.AsList(_with_kept(latents_shown, done, ReadKept.LATENTS)),
        )
    )
    return pipeline


def _with_kept(made: Any, done: Any, tag: str) -> Any:
    """A PCollection of this run's together with its like of the shards that were kept, if any."""
    return made if done is None else (made, done[tag]) | f"WithKept_{tag}" >> beam.Flatten()


def _encoder_handler(name: str | None, facts: dict[str, Any]) -> EncoderHandler:
    engine = Engine(facts["engine"], facts["precision"])
    sha256 = facts["int8_sha256" if engine.precision == INT8 else "sha256"]
    return EncoderHandler(name, engine, sha256)


_Batch = TypeVar("_Batch", ImageBatch, LatentBatch)


def _sampled(batch: _Batch, every: int) -> Iterator[_Batch]:
    """The part of a batch that the report is drawn from: always the same images."""
    chosen = one_in(batch.image_ids, every)
    if chosen.any():
        yield batch.take(chosen)


def _note_progress(batch: LatentBatch, path: str) -> None:
    tick(path, batch.rows)


def _note_kept(file: ShardFile, path: str) -> None:
    tick(path, file.rows)


def _unread_sources(planned: Run) -> Iterable[Source]:
    """Staged datasets know their fingerprint; other files are read once more for their checksum."""
    return () if planned.fingerprint else planned.sources


def _path_and_sha256(path: str) -> tuple[str, str]:
    return path, file_facts(path).sha256


class _CompleteRun(beam.DoFn):
    """Checks what arrived and publishes the run, on a worker: nobody has to wait for the job."""

    def process(
        self,
        planned: Run,
        files: list[ShardFile],
        sizes: dict[str, Sizes],
        rejects: list[Reject],
        checksums: dict[str, str],
        images: list[ImageBatch],
        latents: list[LatentBatch],
    ) -> None:
        sample = Sample(images, latents)
        complete(planned, files, sizes, rejects, checksums, sample)
