"""Rate against distortion on held-out images: a model's latents next to widely used codecs.

`python -m beam_job evaluate --dataset=sample --output=out/evaluation`

Errors of the user are found before TensorFlow is imported, which takes seconds.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from beam_job.console import say, tell
from beam_job.datasets.staging import known_dataset, stage_named
from beam_job.evaluate.options import EvaluateOptions
from beam_job.exit_status import DONE
from beam_job.outputs.attempt import Kind, check_output
from beam_job.stores import check_file_system
from transforms.errors import InputError
from transforms.models.directory import find_model
from transforms.storage.files import child

if TYPE_CHECKING:
    from beam_job.evaluate.evaluation import Evaluation

EVALUATION = "evaluation.json"
"""What an evaluation writes last."""
EVALUATION_KIND = Kind("evaluation", EVALUATION, owned=("results",))
"""What `evaluate` writes."""
EXTRA = ("bjontegaard", "imagecodecs")
"""What only `evaluate` needs."""


def run(options: EvaluateOptions, _: object) -> int:
    """Measures a model and the codecs on the images of the options, and shows the result."""
    check_extra()
    for flag in ("input", "labels", "model", "data_dir", "output"):
        check_file_system(flag, getattr(options, flag))
    check_output(options.output, EVALUATION_KIND, overwrite=options.overwrite)
    model = find_model(options.model)
    dataset = known_dataset(options)
    from transforms.models.autoencoder import import_keras

    import_keras()  # Quietly, before the modules that import it.
    from beam_job.evaluate.measure import evaluate

    evaluation = evaluate(
        dataset or stage_named(options),
        model,
        options.output,
        options.max_images,
        overwrite=options.overwrite,
        quiet=options.quiet,
    )
    if not options.quiet:
        _show(options.output, evaluation)
    return DONE


def check_extra() -> None:
    """Raises InputError unless everything is installed that only `evaluate` needs."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise InputError(
            f"evaluate needs {' and '.join(missing)}: pip install 'emnist-latents[evaluate]'"
        )


def _show(output: str, evaluation: "Evaluation") -> None:
    from beam_job.evaluate.report import PERHAPS_SEEN, terminal_lines

    say(*terminal_lines(evaluation), "")
    paths = dict.fromkeys(file.path.partition("/")[0] for file in evaluation.files)
    for path in (*paths, EVALUATION):
        say(child(output, path))
    if not evaluation.unseen:
        tell(f"note: {PERHAPS_SEEN}")
