"""THE job: images to latents in Parquet, and what that saves in bytes.

`python -m beam_job compress --dataset=sample --output=out/sample`
"""

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_job import publishing, run_directory
from beam_job.datasets import (
    PUBLISHED_ROWS,
    Dataset,
    Source,
    cut_shards,
    shard_keys,
    staged_dataset,
    staged_folder,
)
from beam_job.emnist import archive_path
from beam_job.inputs import check_file_system, files_dataset
from beam_job.logs import worker_processes_held_back
from beam_job.options import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_SHARD_SIZE,
    EMNIST_NAMES,
    CompressOptions,
    StageOptions,
    beam_options,
    without_secrets,
)
from beam_job.pipelines import has_worker_processes, is_local, run_to_end
from beam_job.progress import Progress, tick
from beam_job.report import MEGABYTE, terminal_table
from beam_job.run_directory import Run
from beam_job.stage import ensure_staged, with_gzips_staged
from transforms.autoencoder import LATENT_SIZE, UNTRAINED_SEED, Encoder, load_encoder
from transforms.encode import Encode, KerasEncoderHandler
from transforms.errors import InputError
from transforms.files import file_facts
from transforms.images import PIXELS, ReadImages, Reject, Shard
from transforms.latents import LatentBatch, LatentFile, WriteLatents
from transforms.preprocess import NormalizeImages, ReshapeImages
from transforms.sizes import (
    ByteCounts,
    Sizes,
    sizes_encoded,
    sizes_prepared,
    sizes_read,
    sizes_written,
)

UNTRAINED_WARNING = (
    "The encoder is untrained: its weights are random, from a fixed seed. The latents show what "
    "the job does and what it costs; they are not meant to be decoded. Give a trained encoder by "
    "--model."
)


def run(options: CompressOptions, beam_flags: Sequence[str]) -> int:
    """Compresses what the options name, and shows what came of it."""
    pipeline_options = beam_options(beam_flags)
    FileSystems.set_options(pipeline_options)
    for flag in ("input", "labels", "model", "data_dir", "output"):
        check_file_system(flag, getattr(options, flag))
    if options.model and not FileSystems.exists(options.model):
        raise InputError(f"--model={options.model} is not there: give a .keras file that exists")
    run_directory.check_output(options.output, overwrite=options.overwrite)
    dataset = _known_dataset(options)
    if options.plan:
        print(_plan(options, dataset, pipeline_options))
        return 0
    encoder = load_encoder(options.model)
    attempt = publishing.begin(options.output, "--output")
    try:
        if dataset is None:
            dataset = ensure_staged(str(options.dataset), _staging(options))
        dataset = with_gzips_staged(dataset, attempt.folder)
        shards = cut_shards(dataset, options.shard_size)
        planned = Run(
            attempt=attempt,
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            sources=dataset.sources,
            staged=dataset.rows,
            shards={shard.key.split: shard.key.of for shard in shards},
            model=_model_facts(encoder),
            flags={**vars(options), "beam": without_secrets(beam_flags)},
            max_rejects=options.max_rejects,
            warnings=() if encoder.trained else (UNTRAINED_WARNING,),
        )
        _run_pipeline(options, pipeline_options, planned, shards, dataset.characters)
    finally:
        publishing.abandon(attempt)
    if not options.quiet:
        _show(options.output)
    return 0


def _staging(options: CompressOptions) -> StageOptions:
    """How compress stages: the staged files are there for every later run, so not by its sizes."""
    return StageOptions(
        dataset=str(options.dataset),
        data_dir=options.data_dir,
        archive_url=options.archive_url,
        shard_size=DEFAULT_SHARD_SIZE,
        batch_size=DEFAULT_BATCH_SIZE,
        quiet=options.quiet,
        debug=options.debug,
    )


def _known_dataset(options: CompressOptions) -> Dataset | None:
    """The dataset as far as it can be known without staging it; None where it must be staged."""
    if options.input is not None:
        return files_dataset(options.input, options.labels, options.orientation)
    return staged_dataset(options.data_dir, str(options.dataset))


def _model_facts(encoder: Encoder) -> dict[str, Any]:
    return {
        "name": encoder.name,
        "sha256": encoder.sha256,
        "trained": encoder.trained,
        "seed": None if encoder.trained else UNTRAINED_SEED,
        "parameters": encoder.model.count_params(),
        "input": list(encoder.model.input_shape[1:]),
        "latent_size": encoder.latent_size,
        "latent_dtype": "float32",
        "latent_bytes": encoder.latent_size * 4,
    }


def _run_pipeline(
    options: CompressOptions,
    pipeline_options: PipelineOptions,
    planned: Run,
    shards: Sequence[Shard],
    characters: Mapping[int, str],
) -> None:
    if not is_local(pipeline_options):
        run_to_end(build_pipeline(options, pipeline_options, planned, shards, characters))
        return
    loud = has_worker_processes(pipeline_options) and not options.debug
    held_back = worker_processes_held_back() if loud else contextlib.nullcontext()
    total = sum(planned.staged.values())
    with held_back, Progress(total, quiet=options.quiet) as progress:
        run_to_end(
            build_pipeline(options, pipeline_options, planned, shards, characters, progress.path)
        )


def build_pipeline(
    options: CompressOptions,
    pipeline_options: PipelineOptions,
    planned: Run,
    shards: Sequence[Shard],
    characters: Mapping[int, str],
    progress_path: str | None = None,
) -> beam.Pipeline:
    """The graph. progress_path: where to note images done, on this machine; None for nowhere."""
    try:
        pipeline = beam.Pipeline(options=pipeline_options)
    except ValueError as error:  # Beam's own check of what a runner needs.
        raise InputError(f"the runner needs other flags: {error}") from error
    batches, rejects = (
        pipeline
        | "Shards" >> beam.Create(list(shards), reshuffle=False)
        | "ReadImages" >> ReadImages(options.batch_size, options.max_rejects)
    )
    images = (
        batches
        | "NormalizeImages" >> beam.ParDo(NormalizeImages())
        | "ReshapeImages" >> beam.ParDo(ReshapeImages())
    )
    latents = images | "Encode" >> Encode(KerasEncoderHandler(options.model))
    if progress_path is not None:
        _ = latents | "ShowProgress" >> beam.Map(_note_progress, progress_path)
    files = latents | "WriteLatents" >> WriteLatents(
        planned.attempt.folder, characters, latents_metadata(planned)
    )
    sizes = (
        (
            batches | "CountRead" >> beam.Map(sizes_read),
            images | "CountPrepared" >> beam.Map(sizes_prepared),
            latents | "CountEncoded" >> beam.Map(sizes_encoded),
            files | "CountWritten" >> beam.Map(sizes_written),
        )
        | "AllCounts" >> beam.Flatten()
        | "ByteCounts" >> beam.CombinePerKey(ByteCounts())
    )
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
            beam.pvalue.AsList(files),
            beam.pvalue.AsDict(sizes),
            beam.pvalue.AsList(rejects),
            beam.pvalue.AsDict(checksums),
        )
    )
    return pipeline


def latents_metadata(planned: Run) -> dict[str, Any]:
    """What each Parquet file says of itself; the same for every run of this dataset and model."""
    return {
        "dataset": planned.dataset,
        "model": planned.model,
        "encoding": "latent = encoder(pixels / 255), pixels upright, (28, 28, 1), from 0 to 255",
        "decoding": "image = decoder(latent), with the decoder that was trained with the model of "
        "this sha256"
        if planned.model["trained"]
        else "none: the encoder is untrained",
    }


def _note_progress(batch: LatentBatch, path: str) -> None:
    tick(path, batch.rows)


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
        files: list[LatentFile],
        sizes: dict[str, Sizes],
        rejects: list[Reject],
        checksums: dict[str, str],
    ) -> None:
        run_directory.complete(planned, files, sizes, rejects, checksums)


def _plan(
    options: CompressOptions, dataset: Dataset | None, pipeline_options: PipelineOptions
) -> str:
    """What would be done, in lines."""
    if dataset is None:
        rows = PUBLISHED_ROWS[str(options.dataset)]
        where = f"to be staged in {staged_folder(options.data_dir, str(options.dataset))}"
        if options.dataset in EMNIST_NAMES:
            where += f", from {_archive_plan(options)}"
    else:
        rows = dataset.rows
        where = f"{len(dataset.files)} files, first {dataset.files[0].segment.path}"
    model = options.model or (
        f"the reference encoder, untrained, seed {UNTRAINED_SEED}: {LATENT_SIZE} float32 an image, "
        f"{sum(rows.values()) * LATENT_SIZE * 4:,} bytes of latents"
    )
    documents = ", ".join((run_directory.SIZES, run_directory.REPORT, run_directory.MANIFEST))
    lines = [
        f"dataset   {options.dataset or options.input} ({where})",
        *(_split_plan(options, split, images) for split, images in rows.items()),
        f"model     {model}",
        f"runner    {pipeline_options.view_as(StandardOptions).runner}",
        f"output    {options.output}: latents/ as above, {documents}",
        "nothing was done: this is --plan",
    ]
    return "\n".join(lines)


def _archive_plan(options: CompressOptions) -> str:
    path = archive_path()
    if path.exists():
        return str(path)
    return f"{options.archive_url}, about 0.7 GB to download, as {path} is not there"


def _split_plan(options: CompressOptions, split: str, images: int) -> str:
    keys = [key for _, key in shard_keys(split, images, options.shard_size)]
    more = " ..." if len(keys) > 1 else ""
    return (
        f"split     {split}: {images:,} images, {images * PIXELS:,} bytes as uint8 "
        f"({images * PIXELS / MEGABYTE!r} MB), in {len(keys)} shards of {options.shard_size:,} "
        f"and batches of {options.batch_size:,}, to latents/{keys[0].name}.parquet{more}"
    )


def _show(output: str) -> None:
    manifest = run_directory.read_json(output, run_directory.MANIFEST)
    print(terminal_table(run_directory.read_json(output, run_directory.SIZES)))
    print()
    for path in dict.fromkeys(_folder(file["path"]) for file in manifest["files"]):
        print(publishing.child(output, path))
    print(publishing.child(output, run_directory.MANIFEST))
    sys.stdout.flush()
    for warning in manifest["warnings"]:
        print(f"note: {warning}", file=sys.stderr)


def _folder(path: str) -> str:
    """A file's folder where there are many of its kind, else the file."""
    return path.rpartition("/")[0] if path.startswith("latents/") else path
