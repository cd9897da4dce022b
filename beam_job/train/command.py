"""Fits the autoencoder to a dataset, and writes a model directory that `compress --model` takes.

`python -m beam_job train --dataset=sample --output=models/sample`

What can be wrong is found before TensorFlow is imported, which takes seconds.
"""

from beam_job.datasets.staging import known_dataset
from beam_job.exit_status import DONE
from beam_job.outputs.attempt import Kind, check_output
from beam_job.stores import check_file_system
from beam_job.train.options import TrainOptions
from transforms.errors import InputError
from transforms.models.directory import CARD_FILE, find_model
from transforms.storage.files import child, exists

CHECKPOINT_FILE = "checkpoint.npz"
"""What an interrupted training leaves in its output."""
MODEL = Kind(
    "model",
    CARD_FILE,
    documents=("encoder-int8.tflite", "README.md", "learning_curve.png", "worst.png"),
)
"""What `train` writes."""


def run(options: TrainOptions, _: object) -> int:
    """Trains on what the options name, and shows what came of it."""
    for flag in ("input", "labels", "initial_model", "data_dir", "output"):
        check_file_system(flag, getattr(options, flag))
    if options.initial_model is not None:
        find_model(options.initial_model)
    check_training_output(options.output, overwrite=options.overwrite, resume=options.resume)
    known_dataset(options)
    from transforms.models.autoencoder import import_keras

    import_keras()  # Quietly, before the modules that are made of it.
    from beam_job.train import model

    model.run(options)
    return DONE


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
