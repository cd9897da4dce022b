"""THE job: images to latents in Parquet, and what that saves in bytes.

`python -m beam_job compress --dataset=sample --output=out/sample`

What can be wrong is found before Beam and an engine are imported, which takes longer than to say
so; the graph is in pipeline.
"""

from collections.abc import Sequence

from beam_job.compress.options import CompressOptions
from beam_job.console import say, tell
from beam_job.datasets.catalog import PUBLISHED_ROWS, staged_folder
from beam_job.datasets.emnist import archive_path
from beam_job.datasets.selection import EMNIST_NAMES
from beam_job.datasets.staging import known_dataset
from beam_job.exit_status import DONE, WITH_REJECTS
from beam_job.outputs import run_directory
from beam_job.outputs.attempt import check_output
from beam_job.outputs.resume import after_publication
from beam_job.outputs.run_directory import MEGABYTE, RUN, Manifest
from beam_job.outputs.seal import read_sealed
from beam_job.runners.beam_flags import BeamFlags, set_up_stores
from beam_job.runners.runner import check_runner, engine_for
from beam_job.stores import check_file_system
from transforms.errors import InputError
from transforms.images import PIXELS
from transforms.inputs.dataset import Dataset, shard_keys
from transforms.latents import LATENTS_FOLDER
from transforms.models.choice import Engine, choose_engine
from transforms.models.directory import Model, find_model
from transforms.quantize import Quantization
from transforms.quiet import no_collection
from transforms.storage.files import child, exists


def run(options: CompressOptions, beam_flags: BeamFlags) -> int:
    """Compresses what the options name, and shows what came of it."""
    set_up_stores(beam_flags)
    runner = check_runner(beam_flags, _paths(options), waits=not options.no_wait)
    for flag in ("input", "labels", "model", "data_dir", "output"):
        check_file_system(flag, getattr(options, flag))
    model = find_model(options.model)
    quantization = _quantization(model, options)
    wanted = engine_for(runner, options.engine, options.precision)
    engine = choose_engine(model, wanted, options.precision)
    check_output(options.output, RUN, overwrite=options.overwrite, resume=options.resume)
    dataset = known_dataset(options)
    if options.plan:
        say(*_plan(options, dataset, model, engine, runner.name))
        return DONE
    with no_collection():
        from beam_job.compress import pipeline

    pipeline.run(options, beam_flags, runner, model, engine, quantization, dataset)
    if options.no_wait:
        if not options.quiet:
            say(
                f"submitted: {options.output} is complete when its {run_directory.MANIFEST} is "
                "there"
            )
        return DONE
    with after_publication():
        manifest = read_sealed(options.output, run_directory.MANIFEST, Manifest)
        rejected = sum(counts.rejected for counts in manifest.dataset.splits.values())
        if not options.quiet:
            _show(options, manifest, rejected)
    return WITH_REJECTS if rejected else DONE


def _paths(options: CompressOptions) -> dict[str, str | Sequence[str] | None]:
    """What the workers read and write, by flag."""
    staged_in = options.data_dir if options.dataset else None
    return {"input": options.input, "data_dir": staged_in, "output": options.output}


def _quantization(model: Model, options: CompressOptions) -> Quantization | None:
    """How the latents go into whole numbers; None where they stay floats."""
    if options.latent_dtype != "int8":
        return None
    quantization = model.quantization(options.latent_bits)
    if quantization is None:
        raise InputError(
            f"--latent_dtype=int8 needs a model that train calibrated, and --model={model.name} is "
            "an encoder alone: give a model directory, or another --latent_dtype"
        )
    return quantization


def _plan(
    options: CompressOptions,
    dataset: Dataset | None,
    model: Model,
    engine: Engine,
    runner: str,
) -> list[str]:
    """What would be done, in lines."""
    if dataset is None:
        rows = PUBLISHED_ROWS[str(options.dataset)]
        where = f"to be staged in {staged_folder(options.data_dir, str(options.dataset))}"
        if options.dataset in EMNIST_NAMES:
            where += f", from {_archive_plan(options)}"
    else:
        rows = dataset.rows
        where = f"{len(dataset.files)} files, first {dataset.files[0].segment.path}"
    notes = () if dataset is None else dataset.notes
    bits = f", {options.latent_bits} bits" if options.latent_dtype == "int8" else ""
    documents = ", ".join((run_directory.SIZES, run_directory.REPORT, run_directory.MANIFEST))
    return [
        f"dataset   {options.dataset or ', '.join(options.input)} ({where})",
        *(_split_plan(options, split, images) for split, images in rows.items()),
        *(f"note      {note}" for note in notes),
        f"model     {model.name} ({model.encoder}), latents as {options.latent_dtype}{bits}",
        f"engine    {engine.name}, {engine.precision}",
        f"runner    {runner}",
        f"output    {options.output}: latents/ as above, {documents}",
        "nothing was done: this is --plan",
    ]


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


def _show(options: CompressOptions, manifest: Manifest, rejected: int) -> None:
    from beam_job.reports.sizes import RunSizes, terminal_table

    output = options.output
    say(*terminal_table(read_sealed(output, run_directory.SIZES, RunSizes)), "")
    folders = [f"{LATENTS_FOLDER}/split={split}" for split in manifest.dataset.splits]
    for path in (*folders, *(file.path for file in manifest.documents)):
        say(child(output, path))
    report = child(output, run_directory.REPORT)
    say(*([report] if exists(report) else []), child(output, run_directory.MANIFEST))
    tell(*(f"note: {note}" for note in (*manifest.notes, *manifest.warnings)))
    if rejected:
        tell(
            f"note: {rejected:,} image{'s' * (rejected > 1)} could not be read, within "
            f"--max_rejects={options.max_rejects}: "
            f"{child(output, run_directory.REJECTS)} lists them, and why"
        )
