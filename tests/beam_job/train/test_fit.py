"""The training loop on a handful of digits: what it repeats, keeps, notices and goes on from."""

import io
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from beam_job.datasets.sample import sample_splits
from beam_job.train.checkpoint import Progress, checkpoint_bytes, read_checkpoint
from beam_job.train.fit import Fitted, Settings, fit
from beam_job.train.optimizer import build_optimizer
from transforms.errors import InputError, NothingLearntError
from transforms.models.autoencoder import build_decoder, build_encoder, import_keras

SETTINGS = Settings(
    epochs=4,
    batch_size=32,
    learning_rate=0.01,
    seed=0,
    latent_noise=0.04,
    compactness=0.01,
    augmentation=0.7,
    latent_size=8,
)
TOO_FAST = replace(SETTINGS, learning_rate=0.3)
"""What is learnt in the first epoch is lost in those after it."""
FINGERPRINT = "of these images"


class Run(NamedTuple):
    """A fit, its checkpoint after each epoch, and the weights at that time."""

    fitted: Fitted
    checkpoints: list[bytes]
    weights: list[list[np.ndarray]]


class Interrupted(Exception):  # noqa: N818  # It is no error.
    pass


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    """70 digits to fit, of which a batch of 32 leaves some over, and 30 to validate."""
    pixels = sample_splits()["test"].images[:100].reshape(-1, 784)
    return pixels[:70], pixels[70:]


def run(
    images: tuple[np.ndarray, np.ndarray],
    settings: Settings = SETTINGS,
    progress: Progress | None = None,
    stop_after: int | None = None,
    checkpoints: list[bytes] | None = None,
) -> Run:
    kept = [] if checkpoints is None else checkpoints
    weights = []

    def save(progress: Progress) -> None:
        kept.append(checkpoint_bytes(progress, asdict(settings), FINGERPRINT))
        weights.append([array.copy() for array in progress.weights])
        if len(progress.history) == stop_after:
            raise Interrupted

    fitted = fit(*images, settings, progress or Progress(), save, quiet=True)
    return Run(fitted, kept, weights)


@pytest.fixture(scope="module")
def whole(images) -> Run:
    return run(images)


@pytest.fixture(scope="module")
def interrupted(images) -> list[bytes]:
    """The checkpoints of a fit that was interrupted after its second epoch."""
    checkpoints: list[bytes] = []
    with pytest.raises(Interrupted):
        run(images, stop_after=2, checkpoints=checkpoints)
    return checkpoints


@pytest.fixture(scope="module")
def too_fast(images) -> Run:
    return run(images, TOO_FAST)


def weights_of(fitted: Fitted) -> list[np.ndarray]:
    return fitted.encoder.get_weights() + fitted.decoder.get_weights()


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_scaled(fitted: Fitted, weights: list[np.ndarray]) -> None:
    """These are the weights, but for one factor a unit between encoder and decoder."""
    found = weights_of(fitted)
    latent, first = 8, 10  # The kernels of the encoder's last and the decoder's first layer.
    assert found[latent].shape[1] == found[first].shape[0] == SETTINGS.latent_size
    assert_same(found[:latent] + found[first + 1 :], weights[:latent] + weights[first + 1 :])
    for number in (latent, latent + 1):
        product = found[number][..., None] * found[first]
        expected = weights[number][..., None] * weights[first]
        np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-7)


def progress_of(checkpoint: bytes) -> Progress:
    return read_checkpoint(checkpoint).progress


def test_a_second_run_gives_the_same_weights(whole, interrupted):
    assert len(interrupted) == 2
    for mine, theirs in zip(interrupted, whole.checkpoints, strict=False):
        first, second = progress_of(mine), progress_of(theirs)
        assert first.history == second.history
        assert_same(first.weights, second.weights)
        assert_same(first.state, second.state)


def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(images, whole, interrupted):
    resumed = run(images, progress=progress_of(interrupted[-1]))
    assert len(resumed.weights) == 2, "the first two epochs were not to be done again"
    assert resumed.fitted.history == whole.fitted.history
    assert_same(weights_of(resumed.fitted), weights_of(whole.fitted))
    assert_same(resumed.weights[-1], whole.weights[-1])


def test_a_run_that_was_over_is_not_begun_again(images, too_fast):
    def save(_: Progress) -> None:
        raise AssertionError

    progress = progress_of(too_fast.checkpoints[-1])
    again = fit(*images, TOO_FAST, progress, save, quiet=True)
    assert_same(weights_of(again), weights_of(too_fast.fitted))
    assert (again.history, again.warnings) == (too_fast.fitted.history, too_fast.fitted.warnings)


def test_it_learns(whole):
    losses = [epoch.training_loss for epoch in whole.fitted.history]
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2


def plain_validation(fitted: Fitted, validation: np.ndarray) -> tuple[float, int]:
    """Mean squared error of values in [0, 1], and units at 0 throughout."""
    pixels = validation.reshape(-1, 28, 28, 1) / 255
    latents = fitted.encoder.predict(pixels, verbose=0)
    decoded = fitted.decoder.predict(latents, verbose=0)
    return float(np.mean((decoded - pixels) ** 2)), int((latents == 0).all(axis=0).sum())


def test_the_weights_kept_are_those_of_least_validation_loss(images, whole, too_fast):
    for done in (whole, too_fast):
        losses = [epoch.validation_loss for epoch in done.fitted.history]
        best = int(np.argmin(losses))
        assert done.fitted.best_epoch == done.fitted.history[best]
        assert_scaled(done.fitted, done.weights[best])
        loss, dead = plain_validation(done.fitted, images[1])
        assert losses[best] == pytest.approx(loss, rel=1e-4)
        assert done.fitted.best_epoch.validation_psnr == pytest.approx(
            -10 * np.log10(loss), abs=1e-3
        )
        assert done.fitted.best_epoch.dead == dead
    assert too_fast.fitted.best_epoch.epoch < 4, "the last epoch is best: it proves nothing"


def test_latents_have_one_scale_which_float16_holds(images, whole):
    pixels = images[1].reshape(-1, 28, 28, 1) / 255
    deviations = whole.fitted.encoder.predict(pixels, verbose=0).std(axis=0)
    np.testing.assert_allclose(deviations, 1, rtol=1e-4)


def test_learning_nothing_and_dead_units_are_said(images, too_fast):
    _, validation = images
    variance = np.mean((validation / 255 - (validation / 255).mean(axis=0)) ** 2)
    collapsed, dead = too_fast.fitted.warnings
    assert "it has learnt next to nothing" in collapsed
    assert f"the mean image alone gives {-10 * np.log10(variance):.1f}" in collapsed
    _, count = plain_validation(too_fast.fitted, validation)
    assert count > 0
    assert dead.startswith(f"{count} of 8 latent units are dead")


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e6},
        # One step an epoch: its loss is of before the step, and only validation shows what it did.
        {"learning_rate": 1e39, "batch_size": 1000},
    ],
    ids=["many steps", "one step"],
)
def test_a_first_epoch_that_blows_up_leaves_nothing(images, change):
    saved: list[bytes] = []
    with pytest.raises(NothingLearntError):
        run(images, replace(SETTINGS, **change), checkpoints=saved)
    assert saved == []


def test_a_later_epoch_that_blows_up_leaves_the_best_before_it(images, interrupted):
    progress = progress_of(interrupted[-1])
    before = [array.copy() for array in progress.best]
    for state in progress.state:
        if state.ndim and state.dtype == np.float32:
            state[...] = np.nan
    done = run(images, progress=progress)
    assert done.checkpoints == [], "an epoch without a loss is no place to go on from"
    assert [epoch.epoch for epoch in done.fitted.history] == [1, 2]
    assert_scaled(done.fitted, before)
    stopped = done.fitted.warnings[0]
    assert stopped.startswith("training diverged in epoch 3 of 4")
    assert "try a smaller --learning_rate" in stopped


def test_a_checkpoint_holds_all_that_there_is(whole):
    progress = progress_of(whole.checkpoints[-1])
    assert tuple(progress.history) == whole.fitted.history
    assert_same(progress.weights, whole.weights[-1])
    assert_scaled(whole.fitted, progress.best)
    # More than ten arrays of a kind, so that their order is by number, not by name.
    assert len(progress.weights) > 20
    assert len(progress.state) > 20
    encoder, decoder = build_encoder(0, 8), build_decoder(0, 8)
    assert [array.shape for array in progress.weights] == [
        array.shape for array in encoder.get_weights() + decoder.get_weights()
    ]


def test_a_checkpoint_says_of_what_it_is(interrupted):
    there = read_checkpoint(interrupted[0])
    assert (there.settings, there.fingerprint) == (asdict(SETTINGS), FINGERPRINT)


def npz(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def flipped(content: bytes) -> bytes:
    """A bit in the middle turned over, where an array's values are."""
    altered = bytearray(content)
    altered[len(altered) // 2] ^= 1
    return bytes(altered)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"no checkpoint",
        lambda _: npz(other=np.zeros(3)),
        lambda _: npz(described=np.array("no JSON")),
        lambda _: npz(described=np.array(json.dumps({"settings": {}}))),
        lambda _: npy(np.zeros(3)),
        lambda whole: whole[:1000],
        lambda whole: whole[: len(whole) // 2],
        flipped,
    ],
    ids=[
        "empty",
        "text",
        "no description",
        "no JSON",
        "half a description",
        "one array",
        "the beginning",
        "half",
        "a bit",
    ],
)
def test_what_is_no_checkpoint_is_known_as_none(interrupted, spoil):
    with pytest.raises(ValueError, match=r"^.+"):
        read_checkpoint(spoil(interrupted[0]))


def test_a_checkpoint_is_known_as_one_whatever_its_settings(interrupted, too_fast):
    assert [epoch.epoch for epoch in read_checkpoint(interrupted[0]).progress.history] == [1]
    assert read_checkpoint(too_fast.checkpoints[-1]).progress.history


class Pickled:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_nothing_in_a_checkpoint_is_unpickled(tmp_path, interrupted):
    mark = tmp_path / "it-ran"
    pickled = np.empty(1, object)
    pickled[0] = Pickled(mark)
    with np.load(io.BytesIO(interrupted[0])) as arrays:
        described = arrays["described"]
    for content in [
        npz(described=pickled),
        npz(**{"described": described, "weights/0": pickled}),
        npz(**{"described": described, "optimizer/0": pickled}),
        npy(pickled),
    ]:
        with pytest.raises(ValueError, match=r"OBJECT|not a zip"):
            read_checkpoint(content)
        assert not mark.exists()
        loaded = np.load(io.BytesIO(content), allow_pickle=True)
        for name in getattr(loaded, "files", []):
            loaded[name]
        assert mark.exists(), "the trap does not work"
        mark.unlink()


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth():
    optimizer = build_optimizer(0.5, 200)
    optimizer.build([import_keras().Variable(np.zeros((2, 2), np.float32))])
    rates = []
    for step in range(201):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert np.argmax(rates) == 4  # 2% of the steps.
    assert rates[0] == pytest.approx(0.005)
    assert max(rates) == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.005)
    assert (np.diff(rates[4:]) < 0).all()
    middle = 4 + (200 - 4) // 2
    assert rates[middle] == pytest.approx(0.5 * (1 + 0.01) / 2, rel=1e-3)


def test_a_step_of_a_kernel_is_orthogonal_and_of_a_bias_is_adams():
    keras = import_keras()
    random = np.random.default_rng(0)
    shapes = [(3, 3, 4, 16), (40, 24), (16,), (4, 4, 1, 8)]
    variables = [keras.Variable(np.zeros(shape, np.float32)) for shape in shapes]
    gradients = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    optimizer = build_optimizer(1.0, 100)
    optimizer.build(variables)
    optimizer.apply_gradients(
        [
            (keras.ops.convert_to_tensor(gradient), variable)
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
    )
    steps = [np.asarray(variable) for variable in variables]
    for step, gradient in zip(steps[:2], gradients[:2], strict=True):
        matrix, slope = (array.reshape(-1, array.shape[-1]) for array in (step, gradient))
        values = np.linalg.svd(matrix, compute_uv=False)
        # Five Newton-Schulz steps bring all singular values near to one; the gradient's are not.
        assert values.max() / values.min() < 2.5
        before = np.linalg.svd(slope, compute_uv=False)
        assert before.max() / before.min() > 2.5
        left, _, right = np.linalg.svd(slope, full_matrices=False)
        cosine = -(matrix * (left @ right)).sum() / np.linalg.norm(matrix)
        assert cosine / np.linalg.norm(left @ right) > 0.95
    # Adam's first step is its rate, whatever the gradient: 0.3 of 1.0 / 100, where warming starts.
    for step, gradient in zip(steps[2:], gradients[2:], strict=True):
        np.testing.assert_allclose(step, -0.003 * np.sign(gradient), rtol=1e-3)


def test_a_checkpoint_of_packed_parts_is_refused(interrupted):
    content = io.BytesIO()
    with np.load(io.BytesIO(interrupted[0])) as arrays:
        np.savez_compressed(content, **arrays)
    with pytest.raises(ValueError, match="compressed"):
        read_checkpoint(content.getvalue())


def test_weights_of_other_shapes_are_told(images, interrupted):
    progress = progress_of(interrupted[0])
    progress.weights[0] = progress.weights[0][:1]
    with pytest.raises(InputError, match="weights of other shapes"):
        run(images, progress=progress)
