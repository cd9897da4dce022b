"""A trained model, from its images to its directory and the card that describes it."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from beam_job import __version__
from beam_job.console import say, tell
from beam_job.datasets.partition import Partition, TrainingData, load_images, partition
from beam_job.datasets.staging import open_dataset
from beam_job.outputs.attempt import Attempt, abandon, begin, sealed_id
from beam_job.outputs.redaction import recorded_source
from beam_job.outputs.resume import differences, in_words
from beam_job.outputs.seal import seal
from beam_job.outputs.versions import versions_of
from beam_job.reports.pictures import sheet
from beam_job.train.card import (
    card_table,
    class_quality,
    int8_encoder_quality,
    keras_bytes,
    latent_facts,
    quality,
)
from beam_job.train.checkpoint import (
    MAX_CHECKPOINT_BYTES,
    Progress,
    checkpoint_bytes,
    read_checkpoint,
)
from beam_job.train.command import CHECKPOINT_FILE, MODEL, check_training_output
from beam_job.train.fit import Fitted, Settings, default_compute_dtype, fit
from beam_job.train.int8_encoder import int8_encoder_bytes
from beam_job.train.options import TrainOptions
from beam_job.train.page import (
    CURVE_FILE,
    PAGE_FILE,
    WORST_FILE,
    WORST_IMAGES,
    learning_curve,
    model_page,
)
from transforms.errors import InputError, NothingLearntError, RunError, first_line
from transforms.images import NO_LABEL
from transforms.inputs.dataset import Dataset
from transforms.json_documents import encode as encode_document
from transforms.models.arrays import decoded_pixels, latents_of
from transforms.models.autoencoder import build_decoder, build_encoder, load_decoder, load_encoder
from transforms.models.choice import LITERT, is_installed
from transforms.models.directory import (
    CARD_FILE,
    DECODER_FILE,
    ENCODER_FILE,
    ENCODER_INT8_FILE,
    Model,
    ModelCard,
    NetworkFile,
    Parameters,
    find_model,
)
from transforms.models.network import Compute
from transforms.models.tensorflow_engine import compute_function
from transforms.quality import image_quality
from transforms.quantize import Quantization, calibrate
from transforms.settings import MAX_BITS, MIN_BITS
from transforms.storage.files import (
    child,
    exists,
    facts_of,
    publish_all,
    read_bytes,
    remove,
    write_bytes,
)

INT8_NOT_MEASURED = (
    "The int8 encoder was made but not measured, for LiteRT is not installed: "
    "pip install 'emnist-latents[fast]'"
)
_CALIBRATION_IMAGES = 20_000
_VERSIONS_OF = ("keras", "numpy", "tensorflow")


def run(options: TrainOptions) -> None:
    """Trains on what the options name, and shows what came of it."""
    settings = Settings(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
        latent_noise=options.latent_noise,
        compactness=options.compactness,
        augmentation=options.augmentation,
        compute_dtype=options.compute_dtype or default_compute_dtype(),
    )
    initial = None if options.initial_model is None else find_model(options.initial_model)
    check_training_output(options.output, overwrite=options.overwrite, resume=options.resume)
    attempt = begin(options.output, "--output")
    try:
        dataset = open_dataset(options)
        data = _training_data(dataset, partition(load_images(dataset)))
        card = train(
            attempt,
            data,
            settings,
            Conduct(options.overwrite, options.resume, options.quiet, 60 * options.max_minutes),
            initial,
        )
    finally:
        abandon(attempt)
    if not options.quiet:
        say(*card_table(card), child(options.output, CARD_FILE))
        tell(*(f"note: {note}" for note in (*dataset.notes, *card.warnings)))


def _training_data(dataset: Dataset, parts: Partition) -> TrainingData:
    held_out = parts.held_out
    splits = list(dict.fromkeys(held_out.splits.tolist()))
    labels = np.concatenate([held_out.labels[held_out.splits == split] for split in splits])
    return TrainingData(
        parts.training.pixels,
        parts.validation.pixels,
        {f"split {split}": held_out.pixels[held_out.splits == split] for split in splits},
        {
            "name": dataset.name,
            "sources": [recorded_source(source) for source in dataset.sources],
            "split": parts.rule,
        },
        class_names(labels, dataset.characters),
    )


def class_names(labels: np.ndarray, characters: Mapping[int, str]) -> Sequence[str]:
    """The character of each label, int16 (n,), or its number; nothing where a label is missing."""
    if (labels == NO_LABEL).any():
        return ()
    return [characters.get(label, str(label)) for label in labels.tolist()]


class Conduct(NamedTuple):
    """What a training does with what is there, what it shows, and how long it may take."""

    overwrite: bool
    resume: bool
    quiet: bool
    max_seconds: float = math.inf


def train(
    attempt: Attempt,
    data: TrainingData,
    settings: Settings,
    how: Conduct,
    initial: Model | None = None,
) -> ModelCard:
    """Fits a model and publishes its directory; what its card says.

    initial: the model whose weights it starts from, None for random ones. A resumed training
    continues from the checkpoint of the same images, settings and start if there is one. Raises
    InputError where it is of others, or where a model is there by now that may not be overwritten;
    RunError where nothing was learnt.
    """
    checkpoint = child(attempt.output, CHECKPOINT_FILE)
    fingerprint = data.fingerprint + ("" if initial is None else f" {initial.encoder_sha256}")
    progress = begun(checkpoint, settings, fingerprint) if how.resume else Progress()
    if initial is not None and not progress.history:
        progress = Progress(weights=_weights(initial, settings))

    replaced = sealed_id(attempt.output, MODEL) is not None
    to_go_on_with = bool(progress.history)

    def save(progress: Progress) -> None:
        nonlocal to_go_on_with
        # What a kill leaves half of stays in the attempt's folder.
        written = child(attempt.folder, CHECKPOINT_FILE)
        write_bytes(written, checkpoint_bytes(progress, asdict(settings), fingerprint))
        publish_all([(written, checkpoint)])
        to_go_on_with = True

    try:
        fitted = fit(
            data.training,
            data.validation,
            settings,
            progress,
            save,
            quiet=how.quiet,
            max_seconds=how.max_seconds,
        )
    except KeyboardInterrupt as interrupt:
        if not to_go_on_with:
            raise
        flags = "--overwrite --resume" if replaced else "--resume"
        raise KeyboardInterrupt(
            "nothing was published", f"{flags} continues from its last epoch"
        ) from interrupt
    except NothingLearntError as error:
        raise RunError(
            "training diverged in its first epoch, so there is no model: try a smaller "
            "--learning_rate"
        ) from error
    card = _write_model(attempt, data, settings, initial, fitted, overwrite=how.overwrite)
    remove(checkpoint)
    return card


def begun(checkpoint: str, settings: Settings, fingerprint: str) -> Progress:
    """Where a training that was interrupted stood, or the start of one."""
    if not exists(checkpoint):
        return Progress()
    try:
        there = read_checkpoint(read_bytes(checkpoint, MAX_CHECKPOINT_BYTES))
    except (ValueError, OSError) as error:
        raise InputError(
            f"{checkpoint} is not a checkpoint that can be read ({first_line(error)}): remove it, "
            "or give another folder"
        ) from error
    differing = list(
        differences(
            {**there.settings, "images": there.fingerprint},
            {**json.loads(json.dumps(asdict(settings))), "images": fingerprint},
        )
    )
    if differing:
        raise InputError(
            f"--resume: {checkpoint} is of another training, by {in_words(differing)}: give the "
            "same flags to continue it, or --overwrite without --resume to start again"
        )
    return there.progress


def _weights(model: Model, settings: Settings) -> list[np.ndarray]:
    """The weights of a model, for another to start from."""
    weights: list[np.ndarray] = load_encoder(model).get_weights()
    weights += load_decoder(model).get_weights()
    built = build_encoder(latent_size=settings.latent_size).get_weights()
    built += build_decoder(latent_size=settings.latent_size).get_weights()
    if [array.shape for array in weights] != [array.shape for array in built]:
        raise InputError(
            f"--initial_model={model.name} is built otherwise than what train fits: give a model "
            "that train wrote"
        )
    return weights


def _write_model(
    attempt: Attempt,
    data: TrainingData,
    settings: Settings,
    initial: Model | None,
    fitted: Fitted,
    *,
    overwrite: bool,
) -> ModelCard:
    encode, decode = compute_function(fitted.encoder), compute_function(fitted.decoder)
    held_out = np.concatenate(list(data.held_out.values()))
    decoded = decoded_pixels(decode, latents_of(encode, held_out))
    held_out_quality = image_quality(np.arange(len(held_out)), held_out, decoded)
    quantizations = _calibrated(encode, data.training)
    encoder_int8 = int8_encoder_bytes(fitted.encoder, data.training)
    encode_int8 = _int8_compute(attempt.output, encoder_int8)
    networks = {
        ENCODER_FILE: keras_bytes(fitted.encoder),
        ENCODER_INT8_FILE: encoder_int8,
        DECODER_FILE: keras_bytes(fitted.decoder),
    }
    card = ModelCard(
        run_id=attempt.run_id,
        latent_size=settings.latent_size,
        parameters=Parameters(fitted.encoder.count_params(), fitted.decoder.count_params()),
        data={
            **data.described,
            "training_images": len(data.training),
            "validation_images": len(data.validation),
            "held_out_images": {name: len(pixels) for name, pixels in data.held_out.items()},
            "fingerprint": data.fingerprint,
        },
        settings=asdict(settings),
        initial_model=None if initial is None else _initial_facts(initial),
        best_epoch=fitted.best_epoch.epoch,
        quality={
            name: {
                **quality(pixels, encode, decode, quantizations),
                **int8_encoder_quality(pixels, encode_int8, decode),
            }
            for name, pixels in data.held_out.items()
        },
        classes=class_quality(held_out_quality, data.classes),
        latent=latent_facts(encode, data),
        quantization=quantizations,
        warnings=[*fitted.warnings, *([] if encode_int8 else [INT8_NOT_MEASURED])],
        history=list(fitted.history),
        versions={
            "emnist-latents": __version__,
            "python": platform.python_version(),
            **versions_of(_VERSIONS_OF),
        },
        files={
            name: NetworkFile(facts.sha256, facts.bytes)
            for name, facts in ((name, facts_of(content)) for name, content in networks.items())
        },
    )
    worst = np.argsort(held_out_quality.squared_errors, kind="stable")[::-1][:WORST_IMAGES]
    documents = {
        **networks,
        CURVE_FILE: learning_curve(fitted.history),
        WORST_FILE: sheet(held_out[worst], decoded[worst]),
        PAGE_FILE: model_page(card).encode(),
    }
    seal(attempt, MODEL, {}, documents, encode_document(card), replace=overwrite)
    return card


def _initial_facts(model: Model) -> dict[str, Any]:
    """What a model that training started from was, and how it was trained itself."""
    facts = {
        "name": model.name,
        "encoder_sha256": model.encoder_sha256,
        "decoder_sha256": model.decoder_sha256,
    }
    card = model.card
    if card is None:
        return facts
    return facts | {
        "data": card.data,
        "settings": card.settings,
        "initial_model": card.initial_model,
        "history": card.history,
    }


def _calibrated(encode: Compute, images: np.ndarray) -> dict[int, Quantization]:
    """How the latents of these images go into each number of bits."""
    step = -(-len(images) // _CALIBRATION_IMAGES)
    latents = latents_of(encode, images[::step])
    return {bits: calibrate(latents, bits) for bits in range(MIN_BITS, MAX_BITS + 1)}


def _int8_compute(name: str, content: bytes) -> Compute | None:
    """What runs the int8 encoder; None where LiteRT isn't there."""
    if not is_installed(LITERT):
        return None
    from transforms.models import litert_engine

    return litert_engine.network(name, content, parameters=0).compute
