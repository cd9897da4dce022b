"""What `train` and `evaluate` find wrong before TensorFlow is imported, which takes seconds."""

from importlib.util import find_spec

from beam_job import publishing
from beam_job.inputs import check_file_system
from beam_job.options import EvaluateOptions, TrainOptions
from beam_job.stage import known_dataset
from transforms.errors import InputError
from transforms.files import list_files
from transforms.model_directory import CARD_FILE, find_model

CHECKPOINT_FILE = "checkpoint.npz"
"""What an interrupted training leaves in its output."""
EVALUATION = "evaluation.json"
"""What an evaluation writes last."""

EXTRA = ("bjontegaard", "imagecodecs")
"""What only `evaluate` needs."""


def check_training(options: TrainOptions) -> None:
    """Raises InputError where there is nothing to train on, or nowhere to write the model."""
    for flag in ("input", "labels", "initial_model", "data_dir", "output"):
        check_file_system(flag, getattr(options, flag))
    if options.initial_model is not None:
        find_model(options.initial_model)
    if not list_files(publishing.child(options.output, CHECKPOINT_FILE)):
        publishing.check_output(options.output, CARD_FILE, "model", overwrite=options.overwrite)
    known_dataset(options)


def check_evaluation(options: EvaluateOptions) -> None:
    """Raises InputError where something is missing to evaluate a model, or to write about it."""
    check_extra()
    for flag in ("input", "labels", "model", "data_dir", "output"):
        check_file_system(flag, getattr(options, flag))
    publishing.check_output(options.output, EVALUATION, "evaluation", overwrite=options.overwrite)
    find_model(options.model)
    known_dataset(options)


def check_extra() -> None:
    """Raises InputError unless all is installed that only `evaluate` needs."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise InputError(
            f"evaluate needs {' and '.join(missing)}: pip install 'emnist-latents[evaluate]'"
        )
