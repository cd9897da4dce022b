import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms.images import ShardKey
from transforms.latents import LatentBatch
from transforms.quantize import Quantization
from transforms.sizes import Sizes, sizes_of
from transforms.write_latents import ByteCounts, StoreLatents

SIZES = st.builds(Sizes, *[st.integers(0, 2**50)] * len(Sizes._fields))


@given(st.lists(SIZES, max_size=20), st.randoms(use_true_random=False))
def test_byte_counts_are_the_same_however_they_are_merged(parts: list[Sizes], rng: random.Random):
    combine = ByteCounts()
    groups = [combine.create_accumulator() for _ in range(4)]
    for part in parts:
        chosen = rng.randrange(4)
        groups[chosen] = combine.add_input(groups[chosen], part)
    rng.shuffle(groups)
    merged = combine.merge_accumulators([combine.merge_accumulators(groups[:2]), *groups[2:]])
    expected = tuple(sum(getattr(part, field) for part in parts) for field in Sizes._fields)
    assert tuple(combine.extract_output(merged)) == expected


def test_clipped_values_and_images_are_counted():
    # Levels at 0, 1, ... 15: two values of the first image are outside, none of the second, and
    # one of the third.
    latents = np.array([[-2, 16], [0, 15], [7, 99]], np.float32)
    batch = LatentBatch(ShardKey("test", 0, 1, 3), 3, np.arange(3), np.zeros(3, np.int16), latents)
    (stored,) = StoreLatents("uint8", Quantization(4, (1.0, 1.0), (0.0, 0.0))).process(batch)
    images = {"images_read": 3, "images_encoded": 3, "images_written": 3}
    pixels = {"uint8_bytes": 3 * 784, "float32_bytes": 3 * 784 * 4}
    assert sizes_of(stored) == Sizes(
        **images, **pixels, latent_bytes=6, clipped_values=3, clipped_images=2
    )
    assert sizes_of(stored.take(np.array([1, 2])))[-2:] == (1, 1)
    (floats,) = StoreLatents("float16").process(batch)
    assert sizes_of(floats) == Sizes(**images, **pixels, latent_bytes=12)
