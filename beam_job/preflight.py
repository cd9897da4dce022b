"""What `train` and `evaluate` find wrong before TensorFlow is imported, which takes seconds."""

from importlib.util import find_spec

from beam_job.options import EvaluateOptions, TrainOptions
from beam_job.outputs.attempt import Kind, check_output
from beam_job.stage import known_dataset
from beam_job.stores import check_file_system
from transforms.errors import InputError
from transforms.model_directory import CARD_FILE, find_model
from transforms.storage.files import child, exists

CHECKPOINT_FILE = "checkpoint.npz"
"""What an interrupted training leaves in its output."""
EVALUATION = "evaluation.json"
"""What an evaluation writes last."""

MODEL = Kind("model", CARD_FILE, documents=("encoder-int8.tflite",))
"""What `train` writes."""
EVALUATION_KIND = Kind("evaluation", EVALUATION, owned=("results",))
"""What `evaluate` writes."""

EXTRA = ("bjontegaard", "imagecodecs")
"""What only `evaluate` needs."""


def check_training(options: TrainOptions) -> None:
    """Raises InputError where there is nothing to train on, or nowhere to write the model."""
    for flag in ("input", "labels", "initial_model", "data_dir", "output"):
        check_file_system(flag, getattr(options, flag))
    if options.initial_model is not None:
        find_model(options.initial_model)
    check_training_output(options.output, overwrite=options.overwrite, resume=options.resume)
    known_dataset(options)


def check_training_output(output: str, *, overwrite: bool, resume: bool) -> None:
    """Raises InputError unless a model may be written there.

    resume: a training that was interrupted may be there, to go on with.
    """
    unfinished = exists(child(output, CHECKPOINT_FILE))
    if not unfinished or exists(child(output, CARD_FILE)):
        check_output(output, MODEL, overwrite=overwrite)
    elif not resume and not overwrite:
        raise InputError(
            f"--output={output} holds an unfinished training: --resume continues it, "
            "--overwrite starts again"
        )


def check_evaluation(options: EvaluateOptions) -> None:
    """Raises InputError where something is missing to evaluate a model, or to write about it."""
    check_extra()
    for flag in ("input", "labels", "model", "data_dir", "output"):
        check_file_system(flag, getattr(options, flag))
    check_output(options.output, EVALUATION_KIND, overwrite=options.overwrite)
    find_model(options.model)
    known_dataset(options)


def check_extra() -> None:
    """Raises InputError unless all is installed that only `evaluate` needs."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise InputError(
            f"evaluate needs {' and '.join(missing)}: pip install 'emnist-latents[evaluate]'"
        )
