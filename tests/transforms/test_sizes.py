import random

from hypothesis import given
from hypothesis import strategies as st

from transforms.sizes import ByteCounts, Sizes

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
