"""Encoder and decoder as Keras trains them, with changed images and noise, on any backend."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from beam_job.train.augmentation import augment
from transforms.images import SIDE

if TYPE_CHECKING:
    from beam_job.train.fit import Settings

_COMPACT = 1.8
"""Standard deviations; a uniform distribution, which few bits suit best, keeps within 1.73."""
_AUGMENTED = 0.7
"""The share of all steps with changed images; the last ones see images as they are."""


class Learner(keras.Model):
    """Maps uint8 images (n, 784) to what its loss needs: images, latents and decoded images.

    The loss is the mean squared error of values in [0, 1], plus the penalty on latents far from
    their mean; the metric squared_error is without the penalty.
    """

    def __init__(
        self, encoder: keras.Model, decoder: keras.Model, settings: "Settings", steps: int
    ) -> None:
        super().__init__(name="learner")
        self.encoder, self.decoder = encoder, decoder
        self._settings = settings
        self._augmented_steps = _AUGMENTED * steps if settings.augmentation else 0
        self._seeds = keras.random.SeedGenerator(settings.seed)
        self._step = self.add_weight(name="step", trainable=False, initializer="zeros")
        self._squared_error = keras.metrics.Mean(name="squared_error")

    def call(self, pixels: Any) -> dict[str, Any]:
        images = self._changed(ops.reshape(ops.cast(pixels, "float32"), (-1, SIDE, SIDE, 1)) / 255)
        latents = self.encoder(images, training=True)
        decoded = self.decoder(latents + self._noise(latents), training=True)
        return {"images": images, "latents": latents, "decoded": decoded}

    def _changed(self, images: Any) -> Any:
        """Changes the first half of the batch, whose order is random, in most steps."""
        if not self._augmented_steps:
            return images
        half = ops.shape(images)[0] // 2
        changes = ops.cond(
            self._step < self._augmented_steps,
            lambda: augment(images[:half], self._seeds, self._settings.augmentation),
            lambda: images[:half],
        )
        self._step.assign_add(1)
        return ops.concatenate([changes, images[half:]])

    def _noise(self, latents: Any) -> Any:
        """Uniform noise, a share of each unit's range, so that few bits cost little."""
        spread = ops.stop_gradient(ops.max(latents, 0) - ops.min(latents, 0))
        noise = keras.random.uniform(ops.shape(latents), -0.5, 0.5, seed=self._seeds)
        return self._settings.latent_noise * spread * noise

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,  # noqa: ARG002
        y_pred: Any = None,
        sample_weight: Any = None,  # noqa: ARG002
        training: bool = True,  # noqa: ARG002
    ) -> Any:
        squared_error = ops.mean(ops.square(y_pred["images"] - y_pred["decoded"]))
        self._squared_error.update_state(squared_error, sample_weight=ops.shape(x)[0])
        return squared_error + self._settings.compactness * _straying(y_pred["latents"])


def _straying(latents: Any) -> Any:
    """How far latents are beyond _COMPACT standard deviations, squared; the mean over all."""
    mean = ops.stop_gradient(ops.mean(latents, 0))
    deviation = ops.std(latents, 0) + keras.config.epsilon()
    beyond = ops.relu(ops.abs(latents - mean) / deviation - _COMPACT)
    return ops.mean(ops.square(beyond))
