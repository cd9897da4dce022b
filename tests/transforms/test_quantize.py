import json

import apache_beam as beam
import msgspec
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import RUNNER
from transforms.errors import RunError
from transforms.images import ShardKey
from transforms.latents import LatentBatch
from transforms.quantize import Quantization, calibrate, stored_values
from transforms.write_latents import StoreLatents

BY_HAND = Quantization(bits=4, scale=(0.5, 2.0), offset=(1.0, -3.0))

VALUES = st.floats(-1000, 1000, width=32, allow_subnormal=False)
LATENTS = hnp.arrays(np.float32, st.tuples(st.integers(2, 40), st.integers(1, 4)), elements=VALUES)
BITS = st.integers(1, 8)


def test_numbers_are_steps_above_the_offset():
    latents = np.array([[1.0, -3.0], [1.74, 27.0], [8.5, 0.9]], np.float32)
    numbers = BY_HAND.quantize(latents)
    assert numbers.dtype == np.uint8
    assert numbers.tolist() == [[0, 0], [1, 15], [15, 2]]


def test_values_are_offset_plus_scale_times_number():
    values = BY_HAND.dequantize(np.array([[0, 0], [1, 15], [15, 2]], np.uint8))
    assert values.dtype == np.float32
    assert values.tolist() == [[1.0, -3.0], [1.5, 27.0], [8.5, 1.0]]


def test_what_is_out_of_range_is_clipped():
    far = np.array([[1e6, -1e6], [-1e6, 1e6]], np.float32)
    assert BY_HAND.quantize(far).tolist() == [[15, 0], [0, 15]]
    assert Quantization(8, (1.0,), (0.0,)).quantize(np.float32([[300], [-1]])).tolist() == [
        [255],
        [0],
    ]


def test_what_is_clipped_is_counted_for_each_latent():
    """BY_HAND has levels at 1, 1.5, ... 8.5 and at -3, -1, ... 27, and half a step more counts."""
    latents = np.array(
        [[1.0, -3.0], [0.76, -3.9], [0.74, -3.0], [8.74, 27.9], [8.76, 28.1], [99, -99]], np.float32
    )
    numbers, clipped = BY_HAND.quantize_and_count(latents)
    np.testing.assert_array_equal(numbers, BY_HAND.quantize(latents))
    assert clipped.tolist() == [0, 0, 1, 0, 2, 2]


@settings(max_examples=200, deadline=None)
@given(LATENTS, BITS, st.sampled_from([0.125, 0.5, 1, 2]))
def test_as_many_are_counted_as_lie_half_a_step_beyond_the_range(latents, bits, part):
    quantization = calibrate(latents * np.float32(part), bits)
    numbers, clipped = quantization.quantize_and_count(latents)
    np.testing.assert_array_equal(numbers, quantization.quantize(latents))
    scale, offset = np.array(quantization.scale), np.array(quantization.offset)
    last = offset + scale * (2**bits - 1)
    beyond = np.maximum(offset - latents, latents - last) / scale - 0.5
    rounding = 8 * np.finfo(np.float32).eps * (1 + np.abs(latents).max() / scale)
    assert ((beyond > rounding).sum(axis=1) <= clipped).all()
    assert (clipped <= (beyond > -rounding).sum(axis=1)).all()


@settings(max_examples=200, deadline=None)
@given(LATENTS, BITS)
def test_values_in_range_come_back_within_half_a_step(latents, bits):
    quantization = calibrate(latents, bits)
    numbers = quantization.quantize(latents)
    assert numbers.dtype == np.uint8
    assert numbers.shape == latents.shape
    assert numbers.max() < 2**bits
    scale, offset = np.array(quantization.scale), np.array(quantization.offset)
    in_range = (latents >= offset) & (latents <= offset + scale * (2**bits - 1))
    error = np.abs(quantization.dequantize(numbers) - latents.astype(np.float64))
    rounding = 4 * np.finfo(np.float32).eps * np.abs(latents).max()
    assert (error <= scale * 0.5001 + rounding)[in_range].all()


@settings(max_examples=200, deadline=None)
@given(LATENTS, BITS)
def test_no_dimension_loses_more_than_from_its_least_to_its_greatest_value(latents, bits):
    quantization = calibrate(latents, bits)
    values = latents.astype(np.float64)
    found = np.mean((quantization.dequantize(quantization.quantize(latents)) - values) ** 2, axis=0)
    low, high = values.min(axis=0), values.max(axis=0)
    step = np.where(high > low, (high - low) / (2**bits - 1), 1)
    plain = np.mean((low + step * np.rint((values - low) / step) - values) ** 2, axis=0)
    rounding = 4 * np.finfo(np.float32).eps * np.abs(values).max()
    dead = 1e-30  # A range below this counts as none.
    assert (np.sqrt(found) <= np.sqrt(plain) * 1.0001 + rounding + dead).all()


def test_uniform_values_cost_a_twelfth_of_a_squared_step():
    latents = np.random.default_rng(0).uniform(-2, 5, (20_000, 3)).astype(np.float32)
    for bits in (4, 6, 8):
        quantization = calibrate(latents, bits)
        error = quantization.dequantize(quantization.quantize(latents)) - latents
        # From end to end there are 2**bits - 1 steps; no quantizer does better than 2**bits cells.
        best, plain = ((7 / steps) ** 2 / 12 for steps in (2**bits, 2**bits - 1))
        found = np.mean(error.astype(float) ** 2, axis=0)
        assert ((found > best * 0.98) & (found < plain * 1.02)).all()


def test_an_outlier_is_clipped_only_where_that_loses_less():
    # 4 bits, 10,001 values. Steps of 3/15 cost 0.0033; an error of 2 in one of them costs 0.0004,
    # and an error of 99 costs 0.98.
    values = np.append(np.linspace(0, 1, 10_000), 0).astype(np.float32)
    near, far = values.copy(), values.copy()
    near[-1], far[-1] = 3, 100
    clipped, whole = (calibrate(latents[:, None], 4) for latents in (near, far))
    assert clipped.scale == pytest.approx([1 / 15], rel=0.02)
    assert whole.scale == pytest.approx([100 / 15], rel=0.001)
    below = calibrate(-near[:, None], 4)
    assert below.scale == pytest.approx([1 / 15], rel=0.02)
    assert below.offset == pytest.approx([-1], rel=0.02)


def test_whole_numbers_that_fit_are_kept_exactly():
    latents = np.tile(np.arange(16, dtype=np.float32), 9)[:, None]
    quantization = calibrate(latents, 4)
    assert quantization == Quantization(4, (1.0,), (0.0,))
    np.testing.assert_array_equal(quantization.quantize(latents), latents)


def test_each_dimension_has_a_range_of_its_own():
    latents = np.array([[0, -4], [3, 0], [1, 6]], np.float32)
    quantization = calibrate(latents, 1)
    assert quantization.scale == pytest.approx([3, 10], rel=0.05)
    assert quantization.offset == pytest.approx([0, -4], abs=0.1)


@pytest.mark.parametrize("value", [0.0, 7.25, -1e6])
def test_a_dead_dimension_survives(value):
    latents = np.full((50, 2), value, np.float32)
    latents[:, 1] = np.arange(50)
    quantization = calibrate(latents, 8)
    assert np.isfinite(quantization.scale + quantization.offset).all()
    found = quantization.dequantize(quantization.quantize(latents))
    np.testing.assert_array_equal(found[:, 0], latents[:, 0])


@pytest.mark.filterwarnings("error")
def test_a_dimension_too_small_for_a_float32_scale_survives():
    latents = np.zeros((50, 1), np.float32)
    latents[7] = np.finfo(np.float32).smallest_subnormal
    quantization = calibrate(latents, 8)
    found = quantization.dequantize(quantization.quantize(latents))
    np.testing.assert_allclose(found, 0, atol=1e-44)


def test_float32_and_float16_are_stored_as_numpy_rounds_them():
    latents = np.array([[0.1, 65504.0], [-3.3, 0.0]], np.float32)
    np.testing.assert_array_equal(stored_values(latents, "float32", None), latents)
    half = stored_values(latents, "float16", None)
    assert half.dtype == np.float16
    # The nearest to 0.1 that 11 significant bits can say.
    assert half.astype(float).tolist() == [[0.0999755859375, 65504], [-3.30078125, 0]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [70_000, -70_000])
def test_what_float16_cannot_hold_is_said(value):
    latents = np.array([[0.1, 1.0], [value, 0.0]], np.float32)
    with pytest.raises(RunError, match="a latent of 70000 is too large for float16"):
        stored_values(latents, "float16", None)


def test_batches_keep_all_but_the_type_of_their_latents():
    latents = np.array([[1.0, -3.0], [2.0, 1.0]], np.float32)
    batch = LatentBatch(
        ShardKey("train", 0, 1, 3), 3, np.array([4, 6]), np.array([1, -1], np.int16), latents
    )
    stored_as = {"float16": (None, latents.astype(np.float16))}
    stored_as["uint8"] = BY_HAND, np.array([[0, 0], [2, 2]], np.uint8)
    for dtype, (quantization, expected) in stored_as.items():

        def check(batches, expected=expected, quantization=quantization):
            (got,) = batches
            assert (got.shard, got.rows) == (batch.shard, 3)
            np.testing.assert_array_equal(got.image_ids, [4, 6])
            np.testing.assert_array_equal(got.labels, [1, -1])
            assert got.latents.dtype == expected.dtype
            assert (got.clipped is None) == (quantization is None)
            np.testing.assert_array_equal(got.latents, expected)

        with TestPipeline(runner=RUNNER) as pipeline:
            out = pipeline | beam.Create([batch]) | beam.ParDo(StoreLatents(dtype, quantization))
            assert_that(out, check)


def test_json_gives_the_same_quantization_back():
    latents = np.random.default_rng(1).normal(size=(100, 5)).astype(np.float32)
    quantization = calibrate(latents, 6)
    text = msgspec.json.encode(quantization)
    assert msgspec.json.decode(text, type=Quantization) == quantization
    assert json.loads(text)["bits"] == 6
    # The values are float32's own, so that another reader's float32 arithmetic agrees.
    for value in quantization.scale + quantization.offset:
        assert float(np.float32(value)) == value
