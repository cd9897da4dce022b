"""Fitting encoder and decoder to images: Keras's fit, and what is noted after each epoch."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from beam_job.console import tell
from beam_job.train.checkpoint import Epoch, Progress
from beam_job.train.learner import Learner
from beam_job.train.optimizer import build_optimizer
from beam_job.train.options import COMPUTE_DTYPES
from transforms.errors import InputError, NothingLearntError
from transforms.images import SIDE
from transforms.models.autoencoder import LATENT_SIZE, build_decoder, build_encoder

FLOAT32, BFLOAT16 = COMPUTE_DTYPES
_POLICIES = {FLOAT32: "float32", BFLOAT16: "mixed_bfloat16"}
_LATENT_BIAS = 1.0
"""Where the latent's biases start: at Keras's 0, a quarter of its relu units die."""
_VALIDATION_BATCH = 1024
_COLLAPSED_DB = 1.0
"""A decoder less than this above the mean image has learnt next to nothing."""
_COLLAPSED_AFTER = 2


@dataclass(frozen=True)
class Settings:
    """How the autoencoder is fitted.

    latent_noise: uniform noise added to latents in training, as a share of each one's range, so
    that few bits cost little. compactness: weight of the penalty on latents more than 1.8 standard
    deviations from their mean, as the few that are make the steps of all others larger.
    augmentation: 1 for as much as handwriting varies. compute_dtype: FLOAT32, or BFLOAT16 for the
    layers where most of the time goes; weights, latents and losses are float32.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    latent_noise: float
    compactness: float
    augmentation: float
    compute_dtype: str = FLOAT32
    latent_size: int = LATENT_SIZE


def default_compute_dtype() -> str:
    """BFLOAT16 on a processor with instructions for it, where it is twice as fast; else FLOAT32."""
    processor = Path("/proc/cpuinfo")
    flags = processor.read_text() if processor.exists() else ""
    return BFLOAT16 if "avx512_bf16" in flags or "amx_bf16" in flags else FLOAT32


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
    max_seconds: float = math.inf,
) -> Fitted:
    """Fits an autoencoder to uint8 images (n, 784), from where `progress` stands.

    Minimises the mean squared error. The same settings and images give the same weights on the
    same machine, interrupted or not. save: called after each epoch. max_seconds: no epoch starts
    after so many. Raises NothingLearntError where the first epoch diverges.
    """
    encoder = build_encoder(settings.seed, settings.latent_size, _LATENT_BIAS)
    decoder = build_decoder(settings.seed, settings.latent_size)
    done = len(progress.history)
    batches = Batches(training, settings, first_epoch=done)
    learner = build_learner(settings, settings.epochs * len(batches))
    _restore(learner, progress)
    note = _NoteEpochs(encoder, decoder, validation, progress, save, max_seconds)
    if done < settings.epochs:
        with tqdm(
            total=settings.epochs * len(batches),
            initial=done * len(batches),
            unit=" steps",
            desc="training",
            disable=quiet or None,
        ) as bar:
            learner.fit(
                batches,
                initial_epoch=done,
                epochs=settings.epochs,
                verbose=0,
                shuffle=False,  # Batches has an order of its own, which a resumed fit repeats.
                callbacks=[note, _Report(bar, progress, settings.epochs, quiet=quiet)],
            )
    best = progress.best_epoch
    if best is None:
        raise NothingLearntError
    _assign(encoder.weights + decoder.weights, progress.best)
    scale_latents(encoder, decoder, validation)
    warnings = (*note.warnings, *_doubts(best, len(progress.history), validation, settings))
    return Fitted(encoder, decoder, tuple(progress.history), best, warnings)


def build_learner(settings: Settings, steps: int) -> Learner:
    """A learner with its optimizer, for a training of so many steps."""
    policy = _POLICIES[settings.compute_dtype]
    learner = Learner(
        build_encoder(settings.seed, settings.latent_size, _LATENT_BIAS, policy),
        build_decoder(settings.seed, settings.latent_size, policy),
        settings,
        steps,
    )
    learner.compile(
        build_optimizer(settings.learning_rate, steps),
        jit_compile=keras.backend.backend() == "jax",  # The others take minutes to compile.
    )
    learner.optimizer.build(learner.trainable_variables)
    return learner


def _restore(learner: Learner, progress: Progress) -> None:
    """Goes back to where a training stood, or to the weights that it starts from."""
    if progress.weights:
        _assign(learner.trainable_variables, progress.weights)
    if progress.state:
        _assign(_state(learner), progress.state)


def _state(learner: Learner) -> list[Any]:
    return [*learner.optimizer.variables, *learner.non_trainable_variables]


def _assign(variables: list[Any], values: list[np.ndarray]) -> None:
    if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
        raise InputError(
            "the checkpoint holds weights of other shapes than this network's: remove it, or set "
            "--overwrite without --resume to start again"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _values(variables: list[Any]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


class Batches(keras.utils.PyDataset):
    """Batches of images, uint8 (batch_size, 784), in another order in each epoch."""

    def __init__(self, images: np.ndarray, settings: Settings, first_epoch: int) -> None:
        super().__init__()
        self._images = images
        self._batch = min(settings.batch_size, len(images))
        self._seed, self._epoch = settings.seed, first_epoch
        self._shuffle()

    def __len__(self) -> int:
        return len(self._images) // self._batch

    def __getitem__(self, index: int) -> np.ndarray:
        batch: np.ndarray = self._images[self._order[index * self._batch :][: self._batch]]
        return batch

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        random = np.random.default_rng([self._seed, self._epoch])
        self._order = random.permutation(len(self._images))


class _NoteEpochs(keras.callbacks.Callback):
    """Validates and saves after each epoch, and stops where it has to."""

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        validation: np.ndarray,
        progress: Progress,
        save: Callable[[Progress], None],
        max_seconds: float,
    ) -> None:
        super().__init__()
        self._encoder, self._decoder, self._validation = encoder, decoder, validation
        self._progress, self._save = progress, save
        self._end = time.monotonic() + max_seconds
        self.warnings: list[str] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG002
        number, epochs = len(self._progress.history) + 1, self.params["epochs"]
        weights = _values(self.model.trainable_variables)
        _assign(self._encoder.weights + self._decoder.weights, weights)
        loss, dead = validate(self._encoder, self._decoder, self._validation)
        # relu turns a weight that is not a number into 0, and the loss stays finite.
        values = [np.array([loss, logs["squared_error"]]), *weights]
        if not all(np.isfinite(array).all() for array in values):
            self._stop(
                f"training diverged in epoch {number} of {epochs}: the weights are those of the "
                "best epoch before; try a smaller --learning_rate"
            )
            return
        noted = Epoch(number, logs["squared_error"], loss, mean_psnr(loss), dead)
        self._progress.history.append(noted)
        self._progress.weights = weights
        self._progress.state = _values(_state(self.model))
        if self._progress.best_epoch is noted:
            self._progress.best = weights
        self._save(self._progress)
        if time.monotonic() > self._end and number < epochs:
            self._stop(
                f"training stopped after epoch {number} of {epochs}, at --max_minutes: "
                "--initial_model continues from these weights"
            )

    def _stop(self, reason: str) -> None:
        self.warnings.append(reason)
        self.model.stop_training = True


def validate(encoder: keras.Model, decoder: keras.Model, images: np.ndarray) -> tuple[float, int]:
    """Mean squared error of uint8 images (n, 784) in [0, 1], and units at 0 for all of them."""
    squared, largest = 0.0, np.zeros(encoder.output_shape[-1])
    for start in range(0, len(images), _VALIDATION_BATCH):
        batch = images[start : start + _VALIDATION_BATCH].reshape(-1, SIDE, SIDE, 1)
        pixels = (batch / 255.0).astype(np.float32)
        latents = encoder.predict_on_batch(pixels)
        decoded = decoder.predict_on_batch(latents)
        squared += float(np.square(pixels - decoded, dtype=np.float64).sum())
        largest = np.maximum(largest, latents.max(axis=0))
    return squared / images.size, int((largest <= 0).sum())


def scale_latents(encoder: keras.Model, decoder: keras.Model, images: np.ndarray) -> None:
    """Scales each unit to a standard deviation of 1 on these images, uint8 (n, 784).

    The decoder takes the scale back, so no image changes. The loss leaves the scale open, and
    float16 holds nothing above 65,504.
    """
    pixels = (images.reshape(-1, SIDE, SIDE, 1) / 255.0).astype(np.float32)
    deviations = encoder.predict(pixels, batch_size=_VALIDATION_BATCH, verbose=0).std(axis=0)
    scale = np.where(deviations > 0, deviations, 1.0).astype(np.float32)
    last, first = encoder.layers[-1], decoder.layers[0]
    _assign(last.weights, [weights / scale for weights in last.get_weights()])
    kernel, bias = first.get_weights()
    _assign(first.weights, [kernel * scale[:, None], bias])


class _Report(keras.callbacks.Callback):
    """Shows the training: a bar on a terminal, a line for each epoch elsewhere."""

    async_safe = True  # It reads no logs, so that a step need not wait for those of the last one.

    def __init__(self, bar: tqdm, progress: Progress, epochs: int, *, quiet: bool) -> None:
        super().__init__()
        self._bar, self._progress, self._epochs, self._quiet = bar, progress, epochs, quiet
        self._started, self._first = time.monotonic(), len(progress.history)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        last = self._progress.history[-1:]
        if self._quiet or not last:
            return
        (noted,) = last
        text = (
            f"epoch {noted.epoch}/{self._epochs}, {noted.validation_psnr:.2f} dB, {noted.dead} dead"
        )
        if not self._bar.disable:
            self._bar.set_postfix_str(text)
            return
        taken = (time.monotonic() - self._started) / (noted.epoch - self._first)
        left = taken * (self._epochs - noted.epoch) / 60
        tell(f"{text}; {taken:.0f} s an epoch, {left:.0f} min left")


def _doubts(best: Epoch, epochs: int, validation: np.ndarray, settings: Settings) -> Iterator[str]:
    mean_image_psnr = mean_psnr(float(np.var(validation / 255.0, axis=0).mean()))
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


def mean_psnr(mean_squared_error: float) -> float:
    """PSNR in dB of values in [0, 1]."""
    return -10 * math.log10(mean_squared_error) if mean_squared_error > 0 else math.inf
