import pytest

from benchmarks import assumptions, measured, scaling
from benchmarks.growth import fitted_line
from benchmarks.scaling import latent_bytes
from benchmarks.stragglers import Scale


@pytest.fixture
def _round_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be reckoned in the head: 1,000 images/s a core after 10 s, 2 s a shard."""
    monkeypatch.setattr(measured, "engine_line", lambda _way: fitted_line({0: 10, 10_000: 15}))
    monkeypatch.setattr(measured, "cores", lambda: 2)
    monkeypatch.setattr(measured, "shard_requests", lambda: 40)
    monkeypatch.setattr(measured, "requests_a_file", lambda _phase: {"HEAD": 1, "COPY": 1})
    monkeypatch.setattr(
        assumptions, "REQUEST_SECONDS", assumptions.REQUEST_SECONDS._replace(value=0.05)
    )
    monkeypatch.setattr(assumptions, "START_SECONDS", assumptions.START_SECONDS._replace(value=100))
    for name in ("SPEED_SPREAD", "SLOW_SHARE"):
        monkeypatch.setattr(assumptions, name, getattr(assumptions, name)._replace(value=0))


@pytest.mark.usefixtures("_round_numbers")
def test_time_is_start_and_images_and_requests_of_all_shards_on_equal_cores():
    # 64 shards of 1,000 images on 4 cores: 16 each, of 1 s and 2 s of requests.
    took = scaling.seconds(Scale(64_000, 4), "job-ncnn", shard_size=1_000)
    assert took == pytest.approx(100 + 10 + 16 * (1 + 2))


@pytest.mark.usefixtures("_round_numbers")
def test_files_are_published_and_inspected_sixty_four_at_a_time():
    assert scaling.shards(10**10, 16_384) == 610_352
    assert scaling.publish_seconds(610_352) == pytest.approx(61_035.2 / 64)
    assert scaling.inspect_seconds(64) == pytest.approx(0.1)


def test_the_graph_is_full_where_its_line_meets_the_limit(monkeypatch: pytest.MonkeyPatch):
    lines = {
        "staged": fitted_line({100: 100_000, 200: 120_000}),
        "raw with labels": fitted_line({100: 1_718_400, 200: 3_356_800}),
    }
    monkeypatch.setattr(measured, "graph_line", lines.__getitem__)
    limit = assumptions.GRAPH_LIMIT._replace(value=1_080_000)
    monkeypatch.setattr(assumptions, "GRAPH_LIMIT", limit)
    # 80,000 bytes without shards, 200 a shard: 5,000 of them, of 16,384 images.
    assert scaling.graph_images("staged") == 5_000 * 16_384
    # A label takes (16,384 - 200) / 16,384 of a byte; 80,000 + 10 x 200 + that of 16,384 images.
    labelled = scaling.labelled_graph_bytes(16_384, 10)
    assert labelled == pytest.approx(80_000 + 2_000 + 16_384 - 200)


def test_a_core_hour_of_dataflow_has_its_memory_and_disk():
    # 0.056 + 3.75 x 0.003557 + 6.25 x 0.000054, by hand.
    assert assumptions.dataflow_core_hour() == pytest.approx(0.06967625)
    assert len(assumptions.every()) > 10


def test_bytes_an_image_are_the_readmes():
    assert {"float32", "float16", "int8, 8 bits", "int8, 4 bits"} <= set(latent_bytes())
    assert latent_bytes()["float32"] > latent_bytes()["float16"] > latent_bytes()["int8, 5 bits"]


@pytest.mark.parametrize(
    ("took", "shown"),
    [(0.15, "0.15 s"), (119.9, "120 s"), (681, "11 min"), (91_553, "25 h"), (10**6, "12 days")],
)
def test_times_are_shown_in_the_unit_that_fits(took: float, shown: str):
    assert scaling._time(took) == shown
