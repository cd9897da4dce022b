"""A trained model, from its images to its directory and the card that describes it."""

import json
import platform
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np
from msgspec import to_builtins

from beam_job import __version__
from beam_job.console import say, tell
from beam_job.datasets.partition import Partition, TrainingData, load_images, partition
from beam_job.datasets.staging import open_dataset
from beam_job.outputs.attempt import Attempt, abandon, begin, sealed_id
from beam_job.outputs.redaction import recorded_source
from beam_job.outputs.resume import differences, in_words
from beam_job.outputs.seal import seal
from beam_job.outputs.versions import versions_of
from beam_job.train.card import card_table, int8_encoder_quality, keras_bytes, latent_facts, quality
from beam_job.train.command import CHECKPOINT_FILE, MODEL, check_training_output
from beam_job.train.fit import (
    MAX_CHECKPOINT_BYTES,
    Fitted,
    Progress,
    Settings,
    checkpoint_bytes,
    fit,
    read_checkpoint,
)
from beam_job.train.int8_encoder import int8_encoder_bytes
from beam_job.train.options import TrainOptions
from transforms.errors import InputError, NothingLearntError, RunError, first_line
from transforms.inputs.dataset import Source
from transforms.models.arrays import latents_of
from transforms.models.autoencoder import build_decoder, build_encoder, load_decoder, load_encoder
from transforms.models.choice import LITERT, is_installed
from transforms.models.directory import (
    CARD_FILE,
    CARD_FORMAT,
    CARD_VERSION,
    DECODER_FILE,
    ENCODER_FILE,
    ENCODER_INT8_FILE,
    Model,
    find_model,
)
from transforms.models.network import Compute
from transforms.models.tensorflow_engine import compute_function
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
    )
    initial = None if options.initial_model is None else find_model(options.initial_model)
    check_training_output(options.output, overwrite=options.overwrite, resume=options.resume)
    attempt = begin(options.output, "--output")
    try:
        dataset = open_dataset(options)
        data = _training_data(dataset.name, dataset.sources, partition(load_images(dataset)))
        card = train(
            attempt,
            data,
            settings,
            initial,
            overwrite=options.overwrite,
            resume=options.resume,
            quiet=options.quiet,
        )
    finally:
        abandon(attempt)
    if not options.quiet:
        say(*card_table(card), child(options.output, CARD_FILE))
        tell(*(f"note: {note}" for note in (*dataset.notes, *card["warnings"])))


def _training_data(name: str, sources: tuple[Source, ...], parts: Partition) -> TrainingData:
    held_out = parts.held_out
    return TrainingData(
        parts.training.pixels,
        parts.validation.pixels,
        {
            f"split {split}": held_out.pixels[held_out.splits == split]
            for split in dict.fromkeys(held_out.splits.tolist())
        },
        {
            "name": name,
            "sources": [to_builtins(recorded_source(source)) for source in sources],
            "split": parts.rule,
        },
    )


def train(
    attempt: Attempt,
    data: TrainingData,
    settings: Settings,
    initial: Model | None = None,
    *,
    overwrite: bool,
    resume: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Fits a model and publishes its directory; what its card says.

    initial: the model whose weights it starts from, None for random ones. resume: goes on from the
    checkpoint of the same images, settings and start if there is one. Raises InputError where
    there is one of others, or a model by now that may not be overwritten; RunError where nothing
    was learnt.
    """
    checkpoint = child(attempt.output, CHECKPOINT_FILE)
    fingerprint = data.fingerprint + ("" if initial is None else f" {initial.encoder_sha256}")
    progress = begun(checkpoint, settings, fingerprint) if resume else Progress()
    if initial is not None and not progress.history:
        progress = Progress(weights=_weights(initial, settings))

    replaced = sealed_id(attempt.output, MODEL) is not None
    to_go_on_with = bool(progress.history)

    def save(progress: Progress) -> None:
        nonlocal to_go_on_with
        # What a kill leaves half of stays in the attempt's folder.
        written = child(attempt.folder, CHECKPOINT_FILE)
        write_bytes(written, checkpoint_bytes(progress, settings, fingerprint))
        publish_all([(written, checkpoint)])
        to_go_on_with = True

    try:
        fitted = fit(data.training, data.validation, settings, progress, save, quiet=quiet)
    except KeyboardInterrupt as interrupt:
        if not to_go_on_with:
            raise
        flags = "--overwrite --resume" if replaced else "--resume"
        raise KeyboardInterrupt(
            "nothing was published", f"{flags} continues from its last epoch"
        ) from interrupt
    except NothingLearntError as error:
        raise RunError(
            "training stopped in its first epoch, where the loss was no number, so there is no "
            "model: try a smaller --learning_rate"
        ) from error
    card = _write_model(attempt, data, settings, initial, fitted, overwrite=overwrite)
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
) -> dict[str, Any]:
    encode, decode = compute_function(fitted.encoder), compute_function(fitted.decoder)
    quantizations = _calibrated(encode, data.training)
    encoder_int8 = int8_encoder_bytes(fitted.encoder, data.training)
    encode_int8 = _int8_compute(attempt.output, encoder_int8)
    card: dict[str, Any] = {
        "format": CARD_FORMAT,
        "format_version": CARD_VERSION,
        "run_id": attempt.run_id,
        "latent_size": settings.latent_size,
        "parameters": {
            "encoder": fitted.encoder.count_params(),
            "decoder": fitted.decoder.count_params(),
        },
        "data": {
            **data.described,
            "training_images": len(data.training),
            "validation_images": len(data.validation),
            "held_out_images": {name: len(pixels) for name, pixels in data.held_out.items()},
            "fingerprint": data.fingerprint,
        },
        "settings": asdict(settings),
        "initial_model": None if initial is None else _initial_facts(initial),
        "best_epoch": fitted.best_epoch.epoch,
        "quality": {
            name: {
                **quality(pixels, encode, decode, quantizations),
                **int8_encoder_quality(pixels, encode_int8, decode),
            }
            for name, pixels in data.held_out.items()
        },
        "latent": latent_facts(encode, data),
        "quantization": {
            str(bits): msgspec.to_builtins(quantization)
            for bits, quantization in quantizations.items()
        },
        "warnings": [*fitted.warnings, *([] if encode_int8 else [INT8_NOT_MEASURED])],
        "history": [epoch._asdict() for epoch in fitted.history],
        "versions": {
            "emnist-latents": __version__,
            "python": platform.python_version(),
            **versions_of(_VERSIONS_OF),
        },
    }
    networks = {
        ENCODER_FILE: keras_bytes(fitted.encoder),
        ENCODER_INT8_FILE: encoder_int8,
        DECODER_FILE: keras_bytes(fitted.decoder),
    }
    card["files"] = {name: facts_of(content)._asdict() for name, content in networks.items()}
    content = (json.dumps(card, indent=1) + "\n").encode()
    seal(attempt, MODEL, {}, networks, content, replace=overwrite)
    return card


def _initial_facts(model: Model) -> dict[str, Any]:
    """What a model that training started from was, and how it was trained itself."""
    card = model.card or {}
    return {
        "name": model.name,
        "encoder_sha256": model.encoder_sha256,
        "decoder_sha256": model.decoder_sha256,
        **{name: card.get(name) for name in ("data", "settings", "initial_model", "history")},
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
