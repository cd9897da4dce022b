"""Decodes a run's latents to images, and measures what was lost where the originals are at hand.

`python -m beam_job reconstruct --input=out/sample --originals=sample --output=out/decoded`

As in compress, what can be wrong is found before Beam is imported; the graph is in
reconstruct_pipeline.
"""

from collections.abc import Sequence

from beam_job import publishing
from beam_job.inputs import check_file_system
from beam_job.options import ReconstructOptions, set_up_file_systems
from beam_job.remote import check_runner
from beam_job.run_directory import CompleteRun, complete_run
from beam_job.stage import known_dataset
from transforms.errors import InputError
from transforms.model_directory import Model, find_model
from transforms.quiet import no_collection

SEAL = "reconstruction.json"


def run(options: ReconstructOptions, beam_flags: Sequence[str]) -> int:
    """Decodes what the options name, and shows what came of it."""
    set_up_file_systems(beam_flags)
    runner = check_runner(beam_flags, _paths(options), waits=not options.no_wait)
    for flag, path in {**_paths(options), "model": options.model}.items():
        check_file_system(flag, path)
    publishing.check_output(options.output, SEAL, "reconstruction", overwrite=options.overwrite)
    compressed = complete_run(options.input)
    model = _model_of(compressed, options.model)
    if options.originals is not None:
        known_dataset(options.originals)
    with no_collection():
        from beam_job import reconstruct_pipeline

    reconstruct_pipeline.run(options, beam_flags, runner, compressed, model)
    return 0


def _paths(options: ReconstructOptions) -> dict[str, str | None]:
    """What the workers read and write, by flag."""
    paths: dict[str, str | None] = {"input": options.input, "output": options.output}
    if options.originals is not None:
        staged_in = options.originals.data_dir if options.originals.dataset else None
        paths |= {"originals": options.originals.input, "data_dir": staged_in}
    return paths


def _model_of(compressed: CompleteRun, named: str | None) -> Model:
    """The model that made a run's latents; raises InputError where it is another."""
    facts = compressed.manifest["model"]
    if facts["decoder_sha256"] is None:
        raise InputError(
            f"--input={compressed.folder} was made by an encoder alone ({facts['name']}), so its "
            "latents cannot be decoded: compress with a model directory that train wrote"
        )
    try:
        model = find_model(named or facts["name"])
    except InputError as error:
        if named is not None:
            raise
        raise InputError(
            f"--input={compressed.folder} was made with the model {facts['name']}, which cannot "
            f"be had ({error}): give it by --model"
        ) from error
    if model.encoder_sha256 != facts["sha256"] or model.decoder_sha256 != facts["decoder_sha256"]:
        raise InputError(
            f"--input={compressed.folder} holds latents of another model than {model.name}: of "
            f"{facts['name']}, whose encoder has the SHA-256 {facts['sha256'][:12]}..., not "
            f"{model.encoder_sha256[:12]}...: give the model that made them by --model"
        )
    return model
