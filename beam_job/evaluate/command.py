"""Rate against distortion on held-out images: a model's latents beside codecs that everybody has.

`python -m beam_job evaluate --dataset=sample --output=out/evaluation`

What can be wrong is found before TensorFlow is imported, which takes seconds.
"""

from importlib.util import find_spec

from beam_job.datasets.staging import known_dataset
from beam_job.evaluate.options import EvaluateOptions
from beam_job.exit_status import DONE
from beam_job.outputs.attempt import Kind, check_output
from beam_job.stores import check_file_system
from transforms.errors import InputError
from transforms.models.directory import find_model

EVALUATION = "evaluation.json"
"""What an evaluation writes last."""
EVALUATION_KIND = Kind("evaluation", EVALUATION, owned=("results",))
"""What `evaluate` writes."""
EXTRA = ("bjontegaard", "imagecodecs")
"""What only `evaluate` needs."""


def run(options: EvaluateOptions, _: object) -> int:
    """Measures a model and the codecs on what the options name, and shows what came of it."""
    check_extra()
    for flag in ("input", "labels", "model", "data_dir", "output"):
        check_file_system(flag, getattr(options, flag))
    check_output(options.output, EVALUATION_KIND, overwrite=options.overwrite)
    find_model(options.model)
    known_dataset(options)
    from transforms.models.autoencoder import import_keras

    import_keras()  # Quietly, before the modules that are made of it.
    from beam_job.evaluate import measure

    measure.run(options)
    return DONE


def check_extra() -> None:
    """Raises InputError unless all is installed that only `evaluate` needs."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise InputError(
            f"evaluate needs {' and '.join(missing)}: pip install 'emnist-latents[evaluate]'"
        )
