"""The model that made a run, for the commands that read the run again."""

from beam_job.outputs.run_directory import CompleteRun
from transforms.errors import InputError
from transforms.models.directory import Model, find_model
from transforms.storage.files import is_local


def model_of_run(compressed: CompleteRun, named: str | None, *, decodes: bool) -> Model:
    """The model that made a run's latents: the one that --model names, else the run's own.

    decodes: whether its decoder is needed. A run directory may be anybody's, so a store that its
    manifest names is never asked for the model: the request would be signed by whoever reads the
    run. Raises InputError where the model cannot be found, or is another than the run's.
    """
    record = compressed.manifest.model
    if named is None and not is_local(record.name):
        raise InputError(
            f"--input={compressed.folder} was made with the model {record.name}, and a store "
            "that a run names is never asked: give the model by --model"
        )
    try:
        model = find_model(named or record.name)
    except InputError as error:
        if named is not None:
            raise
        raise InputError(
            f"--input={compressed.folder} was made with the model {record.name}, which cannot "
            f"be had ({error}): give it by --model"
        ) from error
    is_same = model.encoder_sha256 == record.sha256
    if decodes:
        is_same = is_same and model.decoder_sha256 == record.decoder_sha256
    if not is_same:
        raise InputError(
            f"--input={compressed.folder} holds latents of another model than {model.name}: of "
            f"{record.name}, whose encoder has the SHA-256 {record.sha256[:12]}..., not "
            f"{model.encoder_sha256[:12]}...: give the model that made them by --model"
        )
    return model
