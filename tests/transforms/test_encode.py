import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that

from tests.conftest import RUNNER, notebook_encoder
from tests.transforms.test_preprocess import batch
from transforms.encode import Encode, EncoderHandler
from transforms.errors import InputError, RunError
from transforms.models.arrays import normalize
from transforms.models.autoencoder import build_encoder, load_encoder
from transforms.models.directory import find_model
from transforms.models.network import Network
from transforms.preprocess import reshape

IMAGES = np.random.default_rng(2).integers(0, 256, (10, 784), np.uint8)


def test_the_encoder_is_the_reference():
    model = build_encoder()
    assert model.count_params() == 494_112
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 32)


def test_initial_weights_are_the_same_every_time():
    for built, expected in zip(
        build_encoder().get_weights(), notebook_encoder().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(built, expected)


def test_latents_are_those_of_the_plain_encoder_for_full_and_short_batches(plain_latents):
    expected = plain_latents(IMAGES.reshape(-1, 28, 28))

    def check(batches):
        found = np.zeros_like(expected)
        for got in batches:
            assert got.latents.dtype == np.float32
            found[got.image_ids + 7 * (len(got) == 3)] = got.latents
        np.testing.assert_allclose(found, expected, atol=1e-5)

    pipeline = TestPipeline(runner=RUNNER)
    parts = [batch(reshape(normalize(part))) for part in (IMAGES[:7], IMAGES[7:])]
    out = pipeline | beam.Create(parts) | Encode(EncoderHandler())
    assert_that(out, check)
    result = pipeline.run()
    result.wait_until_finish()
    counters = {
        counter.key.metric.name: counter.committed
        for counter in result.metrics().query()["counters"]
    }
    assert counters["num_inferences"] == counters["images"] == 10
    assert counters["batches"] == 2


def test_a_latent_that_is_not_finite_fails():
    handler = EncoderHandler()
    broken = batch(reshape(normalize(IMAGES)))

    def compute(images):
        latents = np.zeros((len(images), 32), np.float32)
        latents[4, 3] = np.nan
        return latents

    with pytest.raises(RunError, match="not finite for image_id 4"):
        handler.run_inference(broken, Network(compute, (28, 28, 1), (32,), 0))


def test_a_keras_file_gives_its_own_latents(tmp_path, keras_encoder, plain_latents):
    path = tmp_path / "encoder.keras"
    keras_encoder.save(path)
    encode = EncoderHandler(str(path)).load_model().compute
    expected = plain_latents(IMAGES.reshape(-1, 28, 28))
    np.testing.assert_allclose(encode(reshape(normalize(IMAGES))), expected, atol=1e-5)


def test_a_model_of_another_shape_is_refused(tmp_path):
    from transforms.models.autoencoder import import_keras

    keras = import_keras()

    def flat(**input_settings):
        given = [keras.layers.Input(**input_settings)] if input_settings else []
        return keras.Sequential([*given, keras.layers.Flatten(), keras.layers.Dense(8)])

    grey = keras.layers.Input((28, 28, 1))
    half = [grey, keras.layers.Flatten(), keras.layers.Dense(8, dtype="float16")]
    image = keras.layers.Input((28, 28, 1))
    two = keras.layers.Flatten()(image)
    for model, said in [
        (flat(shape=(28, 28, 3)), r"takes \(None, 28, 28, 3\)"),
        (keras.Sequential([image, keras.layers.Conv2D(2, 3)]), r"to float32 \(26, 26, 2\)"),
        (flat(shape=(28, 28, 1), dtype="uint8"), "maps uint8"),
        (keras.Sequential(half), "to float16"),
        (flat(shape=(28, 28, 1), batch_size=4), r"takes \(4, "),
        (flat(), "never built"),
        (keras.Model(image, [two, two]), "does not encode"),
    ]:
        path = tmp_path / "other.keras"
        model.save(path)
        with pytest.raises(InputError, match=said):
            load_encoder(find_model(str(path)))


def test_code_in_a_keras_file_is_not_run(tmp_path):
    from transforms.models.autoencoder import import_keras

    keras = import_keras()
    layers = [keras.layers.Input((28, 28, 1)), keras.layers.Flatten()]
    path = tmp_path / "code.keras"
    keras.Sequential([*layers, keras.layers.Lambda(lambda x: x[:, :8])]).save(path)
    with pytest.raises(InputError, match="which may run code"):
        load_encoder(find_model(str(path)))
