"""What the loss is of: plain NumPy finds the same."""

import numpy as np
import pytest

from beam_job.datasets.sample import sample_splits
from beam_job.train.fit import Settings
from beam_job.train.learner import Learner
from transforms.models.autoencoder import build_decoder, build_encoder

SETTINGS = Settings(
    epochs=1,
    batch_size=20,
    learning_rate=0.01,
    seed=0,
    latent_noise=0.1,
    compactness=0.5,
    augmentation=1.0,
    latent_size=8,
)
STEPS = 10


@pytest.fixture
def learner() -> Learner:
    return Learner(build_encoder(0, 8, 1.0), build_decoder(0, 8), SETTINGS, STEPS)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return sample_splits()["test"].images[:20].reshape(-1, 784)


def called(learner: Learner, pixels: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in learner(pixels).items()}


def test_half_of_each_batch_is_changed_until_seven_tenths_of_the_steps(learner, pixels):
    plain = pixels.reshape(-1, 28, 28, 1) / 255
    for step in range(STEPS):
        images = called(learner, pixels)["images"]
        np.testing.assert_allclose(images[10:], plain[10:], atol=1e-6)
        changed = np.abs(images[:10] - plain[:10]).max() > 0.1
        assert changed == (step < 7)


def test_noise_is_uniform_by_a_share_of_each_units_range(learner, pixels):
    results = [called(learner, pixels) for _ in range(STEPS)][-1]
    latents = results["latents"]
    np.testing.assert_allclose(latents, learner.encoder.predict(results["images"], verbose=0))
    spread = latents.max(axis=0) - latents.min(axis=0)
    noise = np.asarray(learner._noise(np.repeat(latents, 200, axis=0))) / spread
    assert noise.min() == pytest.approx(-0.05, abs=0.001)
    assert noise.max() == pytest.approx(0.05, abs=0.001)
    assert noise.std() == pytest.approx(0.1 / 12**0.5, rel=0.02)


def test_the_loss_is_the_error_and_the_penalty(learner, pixels):
    learner.compile()
    results = called(learner, pixels)
    loss = float(learner.compute_loss(pixels, None, results))
    latents = results["latents"].astype(np.float64)
    beyond = np.abs(latents - latents.mean(axis=0)) / (latents.std(axis=0) + 1e-7) - 1.8
    squared_error = np.mean((results["images"] - results["decoded"]) ** 2)
    assert loss == pytest.approx(
        squared_error + 0.5 * np.mean(np.maximum(beyond, 0) ** 2), rel=1e-4
    )
    assert float(learner.get_metrics_result()["squared_error"]) == pytest.approx(squared_error)
