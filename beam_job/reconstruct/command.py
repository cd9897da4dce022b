"""Decodes a run's latents to images, and measures what was lost where the originals are at hand.

`python -m beam_job reconstruct --input=out/sample --originals=sample --output=out/decoded`

As in compress, what can be wrong is found before Beam is imported; the graph is in pipeline.
"""

from collections.abc import Sequence

from beam_job.datasets.staging import known_dataset
from beam_job.exit_status import DONE
from beam_job.outputs.attempt import Kind, check_output
from beam_job.outputs.run_directory import CompleteRun, complete_run
from beam_job.outputs.run_model import model_of_run
from beam_job.reconstruct.options import ReconstructOptions
from beam_job.runners.beam_flags import BeamFlags, set_up_stores
from beam_job.runners.runner import check_runner
from beam_job.stores import check_file_system
from transforms.errors import InputError
from transforms.quiet import no_collection

SEAL = "reconstruction.json"
RECONSTRUCTION = Kind(
    "reconstruction",
    SEAL,
    owned=("images", "sheets"),
    documents=("quality.json", "report.html"),
    run_id="reconstruction_id",
)
"""What `reconstruct` writes."""


def run(options: ReconstructOptions, beam_flags: BeamFlags) -> int:
    """Decodes what the options name, and shows what came of it."""
    set_up_stores(beam_flags)
    runner = check_runner(beam_flags, _paths(options), waits=not options.no_wait)
    for flag, path in {**_paths(options), "model": options.model}.items():
        check_file_system(flag, path)
    check_output(options.output, RECONSTRUCTION, overwrite=options.overwrite)
    compressed = complete_run(options.input)
    _check_decodable(compressed)
    model = model_of_run(compressed, options.model, decodes=True)
    if options.originals is not None:
        known_dataset(options.originals)
    with no_collection():
        from beam_job.reconstruct import pipeline

    pipeline.run(options, beam_flags, runner, compressed, model)
    return DONE


def _paths(options: ReconstructOptions) -> dict[str, str | Sequence[str] | None]:
    """What the workers read and write, by flag."""
    paths: dict[str, str | Sequence[str] | None] = {
        "input": options.input,
        "output": options.output,
    }
    if options.originals is not None:
        staged_in = options.originals.data_dir if options.originals.dataset else None
        paths |= {"originals": options.originals.input, "data_dir": staged_in}
    return paths


def _check_decodable(compressed: CompleteRun) -> None:
    model = compressed.manifest.model
    if model.decoder_sha256 is None:
        raise InputError(
            f"--input={compressed.folder} was made by an encoder alone ({model.name}), so its "
            "latents cannot be decoded: compress with a model directory that train wrote"
        )
