"""Images of any size in EMNIST's geometry (Cohen et al. 2017, II.B)."""

import numpy as np
import pytest

from transforms.inputs.readers.fit import fit_image


def bar(height: int, width: int, side: int = 128) -> np.ndarray:
    """A bar of ink, off the middle of a black square."""
    image = np.zeros((side, side), np.uint8)
    image[5 : 5 + height, 9 : 9 + width] = 255
    return image


@pytest.mark.parametrize("side", [40, 128, 500])
def test_ink_fills_the_box_and_is_in_the_middle(side: int):
    fitted = fit_image(bar(side // 2, side // 8, side))
    rows, columns = np.flatnonzero(fitted.max(1) > 60), np.flatnonzero(fitted.max(0) > 60)
    assert (rows[0], rows[-1]) == (2, 25)
    assert abs(columns[0] + columns[-1] - 27) <= 1
    assert 4 <= len(columns) <= 9
    assert fitted.max() == 255
    assert fitted[:2].max() == fitted[-2:].max() == 0


def test_a_scan_on_paper_comes_out_as_light_ink_on_black():
    noise = np.random.default_rng(0).integers(-6, 7, (200, 160))
    paper = np.full((200, 160), 230) + noise
    paper[50:150, 70:90] = 30
    fitted = fit_image(paper.astype(np.uint8))
    assert fitted[2:26, 13:15].min() > 128
    assert fitted[:, :8].max() == fitted[:, -8:].max() == 0


def test_a_blank_image_is_black():
    assert not fit_image(np.full((50, 60), 200, np.uint8)).any()
