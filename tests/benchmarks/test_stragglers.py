import heapq

import numpy as np
import pytest

from benchmarks.stragglers import (
    SCALES,
    SHARD_SIZES,
    Scale,
    as_svg,
    dealt_seconds,
    drawn_speeds,
    outcomes,
    queue_seconds,
    times_ideal,
)


def queued_one_by_one(shards: int, seconds: list[float]) -> float:
    """The queue played out: whoever is free first takes the next shard."""
    free = [(0.0, worker) for worker in range(len(seconds))]
    for _ in range(shards):
        at, worker = heapq.heappop(free)
        heapq.heappush(free, (at + seconds[worker], worker))
    return max(at for at, _ in free)


@pytest.mark.parametrize("makespan", [queue_seconds, dealt_seconds])
def test_equal_workers_with_as_many_shards_each_take_their_turns(makespan):
    assert makespan(12, np.full(4, 5.0)) == pytest.approx(15)
    assert makespan(13, np.full(4, 5.0)) == pytest.approx(20)
    assert makespan(3, np.full(4, 5.0)) == pytest.approx(5)


def test_one_slow_worker_by_hand():
    # Three workers take 1 s a shard and one takes 4 s. Of 12 shards the slow one is dealt 3, which
    # take it 12 s. From a queue it takes its first at 0 s and is at it until 4 s; by 3 s the others
    # have begun 9 more, and at 3 s two of them begin the last two.
    seconds = np.array([1.0, 1, 1, 4])
    assert dealt_seconds(12, seconds) == 12
    assert queue_seconds(12, seconds) == pytest.approx(4)
    # The 14th begins at 4 s, with whoever is free.
    assert queue_seconds(14, seconds) == pytest.approx(5)


def test_a_slow_worker_that_takes_the_last_shard_ends_the_job():
    assert queue_seconds(2, np.array([1.0, 10.0])) == pytest.approx(10)


@pytest.mark.parametrize("shards", [1, 2, 7, 50, 333])
def test_the_queue_is_that_played_out_one_by_one(shards):
    seconds = np.random.default_rng(shards).uniform(1, 3, 7)
    expected = queued_one_by_one(shards, seconds.tolist())
    assert queue_seconds(shards, seconds) == pytest.approx(expected)


def test_the_queue_never_ends_after_what_was_dealt_by_more_than_a_shard():
    seconds = np.random.default_rng(1).uniform(1, 3, 20)
    assert queue_seconds(400, seconds) <= dealt_seconds(400, seconds) + seconds.max()


def test_workers_are_about_as_fast_as_measured_and_some_are_slow():
    speeds = drawn_speeds(100_000, np.random.default_rng(0))
    assert np.array_equal(speeds, drawn_speeds(100_000, np.random.default_rng(0)))
    assert np.median(speeds) == pytest.approx(1, abs=0.01)
    # 2 % are at half of about 1; of the others none is below half.
    assert np.mean(speeds < 0.5) == pytest.approx(0.01, abs=0.002)
    assert speeds.mean() == pytest.approx(0.98 + 0.02 / 2, abs=0.002)


def test_what_shards_take_whatever_their_size_is_added():
    # Shards so small that none is left over: 1 s of images and 1 s of requests each.
    def one_after_the_other(shards: int, seconds: np.ndarray) -> float:
        return float(shards / np.sum(1 / seconds))

    twice = times_ideal(one_after_the_other, Scale(10_000, 1), 10, rate=10, overhead=0)
    assert twice == pytest.approx(1)
    slow = times_ideal(one_after_the_other, Scale(10_000, 1), 10, rate=10, overhead=1)
    assert 1.9 < slow < 2.1


def test_small_shards_cost_requests_and_large_ones_idle_workers():
    found = outcomes(Scale(10**6, 8), rate=2_000, overhead=0.5)
    assert [one.shard_size for one in found] == list(SHARD_SIZES)
    # 1,024 images take half a second, and so do the requests.
    assert 1.9 < found[0].queue < 2.2
    # 4 shards for 8 workers.
    assert found[-1].queue > 2
    best = min(one.queue for one in found)
    assert best < 1.4
    assert all(one.queue <= one.dealt * 1.05 for one in found)


def test_the_picture_is_the_same_every_time_and_has_all_scales():
    drawn = as_svg(rate=2_000, overhead=0.5)
    assert drawn == as_svg(rate=2_000, overhead=0.5)
    for scale in SCALES:
        assert f"{scale.images:,}" in drawn
