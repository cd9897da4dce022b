"""Fitting encoder and decoder to images: the loop, what it notices, and its checkpoints."""

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from beam_job.train.augmentation import augment
from beam_job.train.optimizer import build_optimizer
from transforms.errors import InputError, NothingLearntError
from transforms.images import SIDE
from transforms.inputs.formats.npy import npy_header
from transforms.json_documents import check_shape, is_count, is_number, parse_json
from transforms.models.autoencoder import LATENT_SIZE, build_decoder, build_encoder

_LATENT_BIAS = 1.0
"""Where the latent's biases start: at Keras's 0, a quarter of its relu units die."""
_COMPACT = 1.8
"""Standard deviations; a uniform distribution, which few bits suit best, keeps within 1.73."""
_VALIDATION_BATCH = 1024
_COLLAPSED_DB = 1.0
"""A decoder less than this above the mean image has learnt next to nothing."""
_COLLAPSED_AFTER = 2
MAX_CHECKPOINT_BYTES = 1 << 30
"""The weights of a network four times: a checkpoint of ours takes 18 MB."""
_DESCRIBED = {
    "settings": {},
    "fingerprint": str,
    "history": [
        {
            "epoch": is_count,
            "training_loss": is_number,
            "validation_loss": is_number,
            "validation_psnr": is_number,
            "dead": is_count,
        }
    ],
}
_STREAMS = {"order": 0, "augmentation": 1, "noise": 2}


@dataclass(frozen=True)
class Settings:
    """How the autoencoder is fitted.

    latent_noise: uniform noise added to latents in training, as a share of each one's range, so
    that they bear being stored in few bits. compactness: weight of the penalty on latents that
    stray from their mean by more than _COMPACT standard deviations, as the few that do make the
    steps of all others larger. augmentation: 1 for as much as handwriting varies.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    latent_noise: float
    compactness: float
    augmentation: float
    latent_size: int = LATENT_SIZE


class Epoch(NamedTuple):
    """What one epoch came to. PSNR in dB, of validation images; dead: units that stay at 0."""

    epoch: int
    training_loss: float
    validation_loss: float
    validation_psnr: float
    dead: int


@dataclass
class Progress:
    """Where a fit stands, between epochs: all that it takes to go on as if nothing happened."""

    history: list[Epoch] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)

    @property
    def best_epoch(self) -> Epoch | None:
        """The epoch of least validation loss."""
        return min(self.history, key=lambda epoch: epoch.validation_loss, default=None)


@dataclass(frozen=True)
class Fitted:
    """Encoder and decoder with the weights of the best epoch. warnings: what to tell the user."""

    encoder: keras.Model
    decoder: keras.Model
    history: tuple[Epoch, ...]
    best_epoch: Epoch
    warnings: tuple[str, ...]


def fit(
    training: np.ndarray,
    validation: np.ndarray,
    settings: Settings,
    progress: Progress,
    save: Callable[[Progress], None],
    *,
    quiet: bool,
) -> Fitted:
    """Fits an autoencoder to uint8 images (n, 784), from where `progress` stands.

    Minimises the mean squared error. The same settings and images give the same weights on the
    same machine, interrupted or not. save: called after each epoch. Raises NothingLearntError
    where the loss is no number before there are any weights worth keeping.
    """
    trainer = _Trainer(training, settings)
    trainer.restore(progress)
    mean_image_psnr = _psnr(float(np.var(validation / 255.0, axis=0).mean()))
    warnings: list[str] = []
    with tqdm(
        total=settings.epochs * trainer.steps,
        initial=len(progress.history) * trainer.steps,
        unit=" steps",
        desc="training",
        disable=quiet or None,
    ) as bar:
        for number in range(len(progress.history) + 1, settings.epochs + 1):
            loss = trainer.train(number, bar.update)
            epoch = trainer.validate(validation, number, loss)
            if not (math.isfinite(loss) and math.isfinite(epoch.validation_loss)):
                warnings.append(
                    f"training stopped in epoch {number} of {settings.epochs}, where the loss was "
                    "no number: the weights are those of the best epoch before; try a smaller "
                    "--learning_rate"
                )
                break
            trainer.note(progress, epoch)
            save(progress)
            bar.set_postfix_str(
                f"epoch {number}/{settings.epochs}, {epoch.validation_psnr:.2f} dB, "
                f"{epoch.dead} dead"
            )
    best = progress.best_epoch
    if best is None:
        raise NothingLearntError
    trainer.set_weights(progress.best)
    warnings.extend(_doubts(best, len(progress.history), mean_image_psnr, settings))
    return Fitted(trainer.encoder, trainer.decoder, tuple(progress.history), best, tuple(warnings))


def _doubts(best: Epoch, epochs: int, mean_image_psnr: float, settings: Settings) -> Iterator[str]:
    if epochs >= _COLLAPSED_AFTER and best.validation_psnr < mean_image_psnr + _COLLAPSED_DB:
        yield (
            f"it has learnt next to nothing: {best.validation_psnr:.1f} dB, where the mean image "
            f"alone gives {mean_image_psnr:.1f}; try a smaller --learning_rate or another --seed"
        )
    if best.dead:
        yield (
            f"{best.dead} of {settings.latent_size} latent units are dead (always 0): try another "
            "--seed, or a smaller --learning_rate"
        )


def _psnr(mean_squared_error: float) -> float:
    """PSNR in dB of values in [0, 1]."""
    return -10 * math.log10(mean_squared_error) if mean_squared_error > 0 else math.inf


class _Trainer:
    """Encoder, decoder and optimizer, and one pass over the images."""

    def __init__(self, images: np.ndarray, settings: Settings) -> None:
        self._settings = settings
        self._images = tf.constant(images.reshape(-1, SIDE, SIDE, 1))
        self._batch = min(settings.batch_size, len(images))
        self.steps = len(images) // self._batch
        size = settings.latent_size
        self.encoder = build_encoder(settings.seed, size, _LATENT_BIAS)
        self.decoder = build_decoder(settings.seed, size)
        self._variables = self.encoder.trainable_variables + self.decoder.trainable_variables
        self._optimizer = build_optimizer(settings.learning_rate, settings.epochs * self.steps)
        self._optimizer.build(self._variables)
        # AutoGraph, which would find nothing to convert, writes files to the temporary folder.
        self._step = tf.function(self._train_on, autograph=False)
        self._reconstruct = tf.function(
            self._encode_and_decode, autograph=False, reduce_retracing=True
        )

    def train(self, epoch: int, done: Callable[[], Any]) -> float:
        """One pass, in an order of this epoch's own; the mean loss."""
        order = np.random.default_rng(self._seed("order", epoch)).permutation(len(self._images))
        losses = []
        for step in range(self.steps):
            rows = tf.constant(order[step * self._batch : (step + 1) * self._batch])
            losses.append(self._step(rows, tf.constant((epoch - 1) * self.steps + step)))
            done()
        return float(np.mean([loss.numpy() for loss in losses]))

    def _train_on(self, rows: Any, step: Any) -> Any:
        images = tf.cast(tf.gather(self._images, rows), tf.float32) / 255.0
        images = augment(images, self._step_seed("augmentation", step), self._settings.augmentation)
        with tf.GradientTape() as tape:
            latents = self.encoder(images, training=True)
            decoded = self.decoder(latents + self._noise(latents, step), training=True)
            loss = tf.reduce_mean(tf.square(images - decoded))
            total = loss + self._settings.compactness * _straying(latents)
        gradients = tape.gradient(total, self._variables)
        self._optimizer.apply_gradients(zip(gradients, self._variables, strict=True))
        return loss

    def _noise(self, latents: Any, step: Any) -> Any:
        spread = tf.reduce_max(latents, 0) - tf.reduce_min(latents, 0)
        noise = tf.random.stateless_uniform(
            tf.shape(latents), self._step_seed("noise", step), -0.5, 0.5
        )
        return self._settings.latent_noise * tf.stop_gradient(spread) * noise

    def _seed(self, stream: str, number: int) -> list[int]:
        return [self._settings.seed, _STREAMS[stream], number]

    def _step_seed(self, stream: str, step: Any) -> Any:
        return tf.stack([self._settings.seed * len(_STREAMS) + _STREAMS[stream], step])

    def validate(self, images: np.ndarray, epoch: int, training_loss: float) -> Epoch:
        """Mean squared error of the images as they are, and units that none of them wakes."""
        squared, alive = 0.0, np.zeros(self._settings.latent_size, bool)
        for start in range(0, len(images), _VALIDATION_BATCH):
            batch = images[start : start + _VALIDATION_BATCH].reshape(-1, SIDE, SIDE, 1)
            pixels = (batch / 255.0).astype(np.float32)
            latents, decoded = self._reconstruct(tf.constant(pixels))
            squared += float(np.square(pixels - decoded.numpy(), dtype=np.float64).sum())
            alive |= (latents.numpy() > 0).any(axis=0)
        loss = squared / images.size
        return Epoch(epoch, training_loss, loss, _psnr(loss), int((~alive).sum()))

    def _encode_and_decode(self, images: Any) -> Any:
        latents = self.encoder(images, training=False)
        return latents, self.decoder(latents, training=False)

    def note(self, progress: Progress, epoch: Epoch) -> None:
        """Adds an epoch that went well, and keeps its weights if they are the best."""
        progress.history.append(epoch)
        progress.weights = [variable.numpy() for variable in self._variables]
        progress.optimizer = [variable.numpy() for variable in self._optimizer.variables]
        if progress.best_epoch is epoch:
            progress.best = progress.weights

    def restore(self, progress: Progress) -> None:
        """Goes back to where a fit stood, or to the weights that it starts from."""
        if progress.weights:
            self.set_weights(progress.weights)
        if progress.optimizer:
            _assign(self._optimizer.variables, progress.optimizer)

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Sets all weights of encoder and decoder."""
        _assign(self._variables, weights)


def _straying(latents: Any) -> Any:
    """How far latents lie beyond _COMPACT standard deviations, squared; the mean over all."""
    mean = tf.stop_gradient(tf.reduce_mean(latents, 0))
    deviation = tf.math.reduce_std(latents, 0) + keras.config.epsilon()
    beyond = tf.nn.relu(tf.abs(latents - mean) / deviation - _COMPACT)
    return tf.reduce_mean(tf.square(beyond))


def _assign(variables: list[Any], values: list[np.ndarray]) -> None:
    if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
        raise InputError(
            "the checkpoint holds weights of other shapes than this network's: it was altered; "
            "remove it, or give --overwrite without --resume to start anew"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def checkpoint_bytes(progress: Progress, settings: Settings, fingerprint: str) -> bytes:
    """A checkpoint as .npz: arrays and JSON, nothing to unpickle."""
    described = {
        "settings": asdict(settings),
        "fingerprint": fingerprint,
        "history": [epoch._asdict() for epoch in progress.history],
    }
    arrays = {
        f"{kind}/{position}": array
        for kind in ("weights", "optimizer", "best")
        for position, array in enumerate(getattr(progress, kind))
    }
    content = io.BytesIO()
    np.savez(content, described=np.array(json.dumps(described)), **arrays)
    return content.getvalue()


class Checkpoint(NamedTuple):
    """Where a fit stands, and of what it is, as checkpoint_bytes was told."""

    progress: Progress
    settings: dict[str, Any]
    fingerprint: str


def read_checkpoint(content: bytes) -> Checkpoint:
    """What the bytes of a whole checkpoint hold; raises ValueError where they are none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # As it is written: what is not packed cannot unpack to more than there is.
            if any(member.compress_type for member in archive.infolist()):
                raise ValueError("parts of it are packed")
            arrays = {
                member.filename.removesuffix(".npy"): _stored_array(archive.read(member))
                for member in archive.infolist()
            }
        described = parse_json(str(arrays["described"]).encode())
        check_shape(described, _DESCRIBED)
        progress = Progress([Epoch(**epoch) for epoch in described["history"]])
        for kind in ("weights", "optimizer", "best"):
            count = sum(name.startswith(f"{kind}/") for name in arrays)
            setattr(progress, kind, [arrays[f"{kind}/{position}"] for position in range(count)])
    except (KeyError, TypeError, OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error
    return Checkpoint(progress, described["settings"], described["fingerprint"])


def _stored_array(content: bytes) -> np.ndarray:
    """An array from a .npy that holds all that it says; nothing is unpickled."""
    shape, fortran, dtype, offset = npy_header(content)
    array = np.frombuffer(bytearray(content), dtype, offset=offset)  # One that may be changed.
    return array.reshape(shape, order="F" if fortran else "C")
