"""Letters drawn from the Hershey stroke fonts, for shapes that the real images at hand lack.

They are brought to 28x28 as EMNIST's own images were (Cohen et al. 2017, section II.B): drawn at
128x128, blurred, cut to the box of the character, centred in a square with a margin, scaled down.
"""

import string

import numpy as np
from HersheyFonts import HersheyFonts
from PIL import Image, ImageDraw, ImageFilter

from transforms.images import PIXELS, SIDE

_FONTS = ("futural", "rowmans", "scripts", "scriptc", "cursive", "rowmand", "timesi")
_CANVAS = 128
_MARGIN = 2
_POINTS = 12


def drawn_letters(each: int, seed: int) -> np.ndarray:
    """`each` drawings of every lower-case letter in every font: uint8 (n, 784), upright."""
    random = np.random.default_rng(seed)
    drawings: list[np.ndarray] = []
    for font in _FONTS:
        fonts = HersheyFonts()
        fonts.load_default_font(font)
        for letter in string.ascii_lowercase:
            strokes = _strokes(fonts, letter)
            drawings.extend(_as_emnist(_drawn(strokes, random)) for _ in range(each))
    return np.stack(drawings)


def _strokes(fonts: HersheyFonts, letter: str) -> np.ndarray:
    """The lines of a letter, ends at the corners of a unit square: (n, _POINTS, 2)."""
    lines = np.array(list(fonts.lines_for_text(letter)), float)
    low, high = lines.min((0, 1)), lines.max((0, 1))
    lines = (lines - (low + high) / 2) / (high - low).max()
    steps = np.linspace(0, 1, _POINTS)[None, :, None]
    points: np.ndarray = lines[:, :1] * (1 - steps) + lines[:, 1:] * steps
    return points


def _drawn(strokes: np.ndarray, random: np.random.Generator) -> Image.Image:
    """The strokes slanted, turned, bent and drawn with a pen of some width."""
    slant, turn, aspect = random.normal(0, (0.2, 0.1, 0.15))
    matrix = np.array([[np.exp(aspect), slant], [0, 1]]) @ np.array(
        [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    )
    waves, phases = random.uniform(2, 6, 2), random.uniform(0, 2 * np.pi, 2)
    bent = strokes + 0.04 * np.sin(strokes[..., ::-1] * waves + phases)
    points = bent @ matrix.T
    points *= 0.6 * _CANVAS / np.abs(points).max() / 2 * random.uniform(0.9, 1.3)
    width = random.uniform(5, 12)
    image = Image.new("L", (_CANVAS, _CANVAS))
    pen = ImageDraw.Draw(image)
    for line in points + _CANVAS / 2:
        corners = [(float(x), float(y)) for x, y in line]
        pen.line(corners, fill=255, width=round(width), joint="curve")
        for x, y in (corners[0], corners[-1]):
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return image.filter(ImageFilter.GaussianBlur(1))


def _as_emnist(image: Image.Image) -> np.ndarray:
    """Cut to its box, centred in a square, scaled into 28x28 with a margin of 2: uint8 (784,)."""
    cut = image.crop(image.getbbox())
    side = max(cut.size)
    square = Image.new("L", (side, side))
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    inner = SIDE - 2 * _MARGIN
    result = Image.new("L", (SIDE, SIDE))
    result.paste(square.resize((inner, inner), Image.Resampling.BICUBIC), (_MARGIN, _MARGIN))
    return np.asarray(result, np.uint8).reshape(PIXELS)
