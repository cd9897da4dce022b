import pytest

from benchmarks.growth import fitted_line


def test_points_on_a_line_leave_no_residuals():
    line = fitted_line({1_000: 7, 2_000: 9, 5_000: 15})
    assert line.slope == pytest.approx(0.002)
    assert line.start == pytest.approx(5)
    assert line.residuals == pytest.approx([0, 0, 0], abs=1e-9)
    assert line.at(10_000) == pytest.approx(25)


def test_a_point_off_the_line_is_the_largest_residual():
    # By hand: means 1 and 1, slope (0 + 0 + 3) / 2 over deviations -1, 0, 1, so 1.5 x - 0.5.
    line = fitted_line({0: 0, 1: 0, 2: 3})
    assert (line.start, line.slope) == pytest.approx((-0.5, 1.5))
    assert line.residuals == pytest.approx([0.5, -1, 0.5])
    assert line.largest_residual == pytest.approx(-1)
