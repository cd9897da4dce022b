import numpy as np
import pytest

from recipes.pretrained import LETTER_SCALE, enlarged
from recipes.strokes import drawn_letters

FONTS, LETTERS = 7, 26


@pytest.fixture(scope="module")
def letters() -> np.ndarray:
    return drawn_letters(2, seed=0).reshape(-1, 28, 28)


def test_every_letter_of_every_font_is_drawn_so_often(letters):
    assert letters.shape == (LETTERS * FONTS * 2, 28, 28)
    assert letters.dtype == np.uint8


def test_letters_fill_the_box_that_emnists_fill(letters):
    inner = letters[:, 2:-2, 2:-2].astype(int)
    np.testing.assert_array_equal(inner.sum(axis=(1, 2)), letters.astype(int).sum(axis=(1, 2)))
    # One side or the other reaches the margin on both ends.
    across = inner[:, [0, -1]].any(axis=2).all(axis=1)
    upright = inner[:, :, [0, -1]].any(axis=1).all(axis=1)
    assert (across | upright).all()


def test_letters_are_ink_on_black_and_no_two_the_same(letters):
    assert (letters.max(axis=(1, 2)) > 200).all()
    share = (letters > 127).mean(axis=(1, 2))
    assert 0.02 < share.min() < share.max() < 0.6
    assert len(np.unique(letters.reshape(len(letters), -1), axis=0)) == len(letters)


def test_letters_are_upright(letters):
    """An l is taller than wide, and of a b most ink is below, of a p above."""
    first_font = letters[: 2 * LETTERS].reshape(LETTERS, 2, 28, 28)

    def drawn(letter):
        return first_font[ord(letter) - ord("a")].astype(float)

    rows = np.arange(28) - 13.5
    height, width = (
        np.mean([np.flatnonzero(one.max(axis=axis) > 127).size for one in drawn("l")])
        for axis in (1, 0)
    )
    assert height > 2 * width
    centre = {
        letter: (drawn(letter).sum(axis=2) @ rows).sum() / drawn(letter).sum() for letter in "bp"
    }
    assert centre["b"] > 0 > centre["p"]


def test_a_seed_gives_the_same_letters_and_another_gives_others(letters):
    np.testing.assert_array_equal(drawn_letters(2, seed=0).reshape(letters.shape), letters)
    others = drawn_letters(1, seed=1)
    assert others.shape == (LETTERS * FONTS, 784)
    assert (others.reshape(-1, 28, 28) != letters[::2]).any(axis=(1, 2)).all()


def box(image: np.ndarray) -> tuple[int, int, int, int]:
    """The first and last row and column with ink of more than half."""
    rows, columns = (np.flatnonzero(image.max(axis=axis) > 127) for axis in (1, 0))
    return rows[0], rows[-1], columns[0], columns[-1]


@pytest.mark.parametrize(("height", "width"), [(20, 20), (20, 10), (8, 16)])
def test_letters_grow_about_the_centre(height, width):
    letter = np.zeros((28, 28), np.uint8)
    top, left = (28 - height) // 2, (28 - width) // 2
    letter[top : top + height, left : left + width] = 255
    (found,) = enlarged(letter.reshape(1, 784)).reshape(-1, 28, 28)
    first_row, last_row, first_column, last_column = box(found)
    assert last_row - first_row + 1 == pytest.approx(LETTER_SCALE * height, abs=1)
    assert last_column - first_column + 1 == pytest.approx(LETTER_SCALE * width, abs=1)
    assert (first_row + last_row, first_column + last_column) == (27, 27)


def test_letters_off_the_centre_stay_on_their_side():
    letter = np.zeros((28, 28), np.uint8)
    letter[6:10, 16:22] = 255
    (found,) = enlarged(letter.reshape(1, 784)).reshape(-1, 28, 28)
    first_row, last_row, first_column, last_column = box(found)
    # Away from the middle at 13.5 by a fifth more than before.
    assert (first_row + last_row) / 2 - 13.5 == pytest.approx(1.2 * (7.5 - 13.5), abs=0.6)
    assert (first_column + last_column) / 2 - 13.5 == pytest.approx(1.2 * (18.5 - 13.5), abs=0.6)


def test_each_letter_is_enlarged_alone_and_the_given_ones_stay(letters):
    given = letters.reshape(-1, 784)[:5].copy()
    before = given.copy()
    found = enlarged(given)
    assert (found.shape, found.dtype) == ((5, 784), np.uint8)
    np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(enlarged(given[::-1])[::-1], found)
