import apache_beam as beam
import numpy as np
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that

from tests.conftest import RUNNER
from transforms.images import ImageBatch, ShardKey
from transforms.models.arrays import normalize
from transforms.preprocess import NormalizeImages, ReshapeImages

EVERY_PIXEL = np.tile(np.arange(256, dtype=np.uint8), 49).reshape(16, 784)


def batch(pixels: np.ndarray) -> ImageBatch:
    count = len(pixels)
    key = ShardKey("train", 0, 1, count)
    return ImageBatch(key, count, np.arange(count), np.zeros(count, np.int16), pixels)


def test_normalize_divides_every_value_by_255():
    got = normalize(EVERY_PIXEL)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, (EVERY_PIXEL / 255).astype(np.float32))


def test_normalize_leaves_its_input_alone():
    pixels = EVERY_PIXEL.copy()
    normalize(pixels)
    np.testing.assert_array_equal(pixels, EVERY_PIXEL)


def test_dofns_over_a_batch_keep_rows_in_order_and_count_what_passes():
    def check(batches):
        (got,) = batches
        assert got.pixels.shape == (16, 28, 28, 1)
        np.testing.assert_allclose(got.pixels[3, 2, 5, 0], EVERY_PIXEL[3, 2 * 28 + 5] / 255)
        np.testing.assert_array_equal(got.image_ids, np.arange(16))

    pipeline = TestPipeline(runner=RUNNER)
    out = (
        pipeline
        | beam.Create([batch(EVERY_PIXEL)])
        | beam.ParDo(NormalizeImages())
        | beam.ParDo(ReshapeImages())
    )
    assert_that(out, check)
    result = pipeline.run()
    result.wait_until_finish()
    counters = {
        (counter.key.metric.namespace.split(".")[-1], counter.key.metric.name): counter.committed
        for counter in result.metrics().query()["counters"]
    }
    assert counters["NormalizeImages", "images"] == counters["ReshapeImages", "images"] == 16
    assert counters["NormalizeImages", "batches"] == counters["ReshapeImages", "batches"] == 1
