import numpy as np
import pytest

from benchmarks.measure import Measurement
from benchmarks.plot import as_svg
from benchmarks.results import Results, as_json, as_markdown, limit_share, ratio
from benchmarks.rounds import Rounds
from benchmarks.ways.encoder import build_encoder, multiply_adds

MEGABYTE = 1024 * 1024


def took(wall_seconds: float, megabytes: float = 100) -> Measurement:
    return Measurement(wall_seconds, 2 * wall_seconds, int(megabytes * MEGABYTE), 1, 0)


@pytest.fixture
def results() -> Results:
    runs = {
        "hand_written": [took(20), took(10), took(12)],
        "job-ncnn": [took(6), took(5), took(60)],
        "job-litert-int8": [took(3)] * 3,
    }
    rounds = Rounds(
        limits={"float32": [8e9, 10e9], "int8": [40e9, 1e9]},
        runs=runs,
        differences={"hand_written": 0.0, "job-ncnn": 1e-6, "job-litert-int8": 0.03},
        expected=np.full((2, 32), 2, np.float32),
    )
    sizes = {1000: [took(3, 50)], 2000: [took(4, 51), took(9, 99), took(4, 51)]}
    growth = {"job-ncnn": {**sizes, 3000: [took(5, 52)]}}
    facts = {"command": "the command"}
    return Results(facts, images=1200, multiply_adds=10_000_000, rounds=rounds, growth=growth)


def test_ratios_are_those_of_medians(results):
    assert ratio(results, "job-ncnn") == 0.5
    assert ratio(results, "hand_written") == 1


def test_a_share_is_of_the_best_rate_in_the_ways_own_precision(results):
    # 100 images a second x 10 million x 2 = 2e9 operations a second, of 10e9 and of 40e9.
    assert limit_share(results, "job-ncnn", 100) == pytest.approx(0.2)
    assert limit_share(results, "job-litert-int8", 100) == pytest.approx(0.05)


def test_markdown_has_a_row_a_way_and_the_lines(results):
    text = as_markdown(results, "some.svg")
    assert "- command: the command\n" in text
    assert "| hand_written | 1.00 | 12.0 | 10.0 to 20.0 | 24.0 | 100 | 100 | 20% | 0 |\n" in text
    assert "| job-litert-int8 | 0.25 | 3.0 | 3.0 to 3.0 | 6.0 | 100 | 400 | 20% | 0.03 |\n" in text
    # 1 s and 1 MB for 1,000 images; 1,000 images a second are 20e9 operations, of 10e9.
    assert "| job-ncnn | 100.00 | 2.0 | +0.0 | 1.024 | +0.0 | 200% |\n" in text.replace(
        "-0.0", "+0.0"
    )
    assert "| job-ncnn | 2,000 | 3 | 4.0 | 51 |\n" in text
    assert text.endswith("(some.svg)\n")


def test_json_has_every_measurement(results):
    every = as_json(results)
    assert [one["wall_seconds"] for one in every["runs"]["hand_written"]] == [20, 10, 12]
    assert [one["peak_bytes"] for one in every["growth"]["job-ncnn"]["3000"]] == [52 * MEGABYTE]
    assert every["limits"]["int8"] == [40e9, 1e9]


def test_the_picture_is_the_same_every_time_and_says_what_it_shows(results):
    drawn = as_svg(results)
    assert drawn == as_svg(results)
    for text in ("this job, ncnn", "0.50", "1,200 images", "seconds", "MB"):
        assert f">{text}<" in drawn or text in drawn


def test_without_growth_there_is_a_table_and_a_picture(results):
    alone = results._replace(growth={})
    assert "Growth" not in as_markdown(alone, "some.svg").replace("and growth", "")
    assert "Ray" not in as_svg(alone)


def test_multiply_adds_of_the_encoder():
    first, second = 28 * 28 * 32 * 3 * 3, 14 * 14 * 64 * 3 * 3 * 32
    third, dense = 14 * 14 * 64 * 3 * 3 * 64, 14 * 14 * 64 * 32
    assert multiply_adds(build_encoder()) == first + second + 2 * third + dense == 18_690_560
