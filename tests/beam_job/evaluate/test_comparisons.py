import math

import pytest

from beam_job.evaluate.comparisons import bd_rates, break_even, compare, frontier
from beam_job.evaluate.tables import bytes_table, psnr_table
from beam_job.reports.codecs import Point


def at(codec: str, bytes_per_image: float, psnr: float | None, setting: str = "") -> Point:
    total = round(bytes_per_image * 10)
    bpp = total * 8 / 7840
    return Point(
        codec=codec,
        setting=setting,
        images=10,
        bytes=total,
        overhead_bytes=None,
        bytes_per_image=total / 10,
        bpp=bpp,
        psnr=psnr,
        ssim=0.9,
    )


POINTS = [
    at("latents int8", 20, 22.0, "4 bits"),
    at("latents int8", 40, 24.0, "8 bits"),
    at("PCA int8", 40, 20.0),
    at("PCA int8", 80, 24.0),
    at("WebP", 100, 23.0, "quality 0"),
    at("WebP", 400, 25.0, "quality 50"),
    at("PNG", 400, None, "optimized"),
]


def test_points_that_cost_more_for_nothing_are_no_part_of_a_frontier():
    curve = [at("a", 30, 12.0), at("a", 10, 10.0), at("a", 20, 11.0), at("a", 25, 10.5)]
    assert [found.bytes_per_image for found in frontier(curve)] == [10, 20, 30]


def test_other_codecs_are_interpolated_over_the_logarithm_of_bytes():
    points = [*POINTS, at("JPEG", 5, 10.0), at("JPEG", 30, 12.0), at("latents float", 200, 24.5)]
    rows = compare(points)
    found = {(row.latents, row.codec): row for row in rows}
    assert len(found) == len(rows) == 9
    webp = found["latents int8, 8 bits", "WebP"]
    assert webp.their_bytes_per_image == pytest.approx(math.sqrt(100 * 400))
    assert found["latents int8, 8 bits", "PCA int8"].their_bytes_per_image == pytest.approx(80)
    assert found["latents int8, 8 bits", "PCA int8"].their_psnr == 20.0
    half_way = found["latents float, ", "WebP"]  # 200 lies midway from 100 to 400.
    assert (half_way.bytes_per_image, half_way.psnr, half_way.their_psnr) == (200, 24.5, 24.0)
    below = found["latents int8, 4 bits", "WebP"]
    assert (below.their_bytes_per_image, below.their_psnr) == (None, None)
    assert (below.fewest.setting, below.fewest.bytes_per_image) == ("quality 0", 100)
    beyond = found["latents int8, 8 bits", "JPEG"]
    assert (beyond.their_bytes_per_image, beyond.their_psnr) == (None, None)
    assert (beyond.most.bytes_per_image, beyond.most.psnr) == (30, 12.0)


def test_the_tables_say_where_a_codec_is_beyond_comparison():
    points = [*POINTS, at("JPEG", 5, 10.0), at("JPEG", 30, 12.0)]
    needed, reached = bytes_table(compare(points)), psnr_table(compare(points))
    assert needed.header[3:] == reached.header[3:] == ["PCA int8", "WebP", "JPEG"]
    half_way = 40 * 2**0.5  # In the logarithm, from 40 at 20 dB to 80 at 24 dB.
    cells = [f"{half_way:.1f}", "(100.0 at 23.0 dB)", "not reached"]
    assert needed.rows[0] == ["latents int8, 4 bits", "20.0", "22.00", *cells]
    middle = 10 + 2 * math.log(4) / math.log(6)
    cells = ["(40.0 at 20.0 dB)", "(100.0 at 23.0 dB)", f"{middle:.2f}"]
    assert reached.rows[0] == ["latents int8, 4 bits", "20.0", "22.00", *cells]
    assert reached.rows[1][3:] == ["20.00", "(100.0 at 23.0 dB)", "at least 12.00"]


def test_a_model_pays_from_so_many_images_on():
    found = {(row.latents, row.codec): row for row in break_even(POINTS, model_bytes=36_001)}
    assert found["latents int8, 8 bits", "PNG, optimized"].images == 101  # 36001 / (400 - 40).
    assert found["latents int8, 8 bits", "WebP"].at == "equal PSNR"
    smallest = found["latents int8, 4 bits", "WebP"]
    assert (smallest.at, smallest.images) == ("quality 0, 23.0 dB", 451)  # 36001 / (100 - 20).
    assert not [codec for _, codec in found if codec.startswith("PCA")]
    (never,) = break_even([at("latents int8", 500, 20.0), at("PNG", 400, None)], 1)
    assert never.images is None


def test_a_curve_of_twice_the_bytes_has_a_bd_rate_of_100_percent():
    sizes, decibels = [50, 80, 120, 200], [20.0, 22.0, 25.0, 29.0]
    curve = list(zip(sizes, decibels, strict=True))
    points = [at("PCA int8", size, psnr) for size, psnr in curve]
    points += [at("JPEG", 2 * size, psnr) for size, psnr in curve]
    (found,) = bd_rates(points)
    assert (found.codec, found.anchor, found.overlap_db) == ("JPEG", "PCA int8", (20.0, 29.0))
    assert found.percent == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ([(10, 30.0), (20, 40.0)], "less than 0.5 dB in common: 30.0 to 40.0 dB against 20.0 to"),
        ([(10, 22.0)], "JPEG is a point, not a curve"),
    ],
)
def test_curves_that_share_no_psnr_have_no_bd_rate(others, reason):
    points = [at("PCA int8", 10, 20.0), at("PCA int8", 20, 25.0)]
    (found,) = bd_rates(points + [at("JPEG", size, psnr) for size, psnr in others])
    assert (found.percent, found.overlap_db) == (None, None)
    assert found.reason.startswith(reason)
