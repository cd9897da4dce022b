"""Makes the statistics of strokes by which upright images are told from transposed ones.

    EMNIST_DATA=... python -m recipes.orientation

They are fitted to the real images of real-emnist-more, each upright and transposed, and measured
on the official byclass test images, of which none is among those: on digits, on letters, on all,
and on each class alone, by how many images are looked at.
"""

import gzip
import json
import lzma
import os
from pathlib import Path

import numpy as np
from sklearn.neural_network import MLPClassifier

from beam_job.console import say
from transforms.images import PIXELS, upright
from transforms.inputs.dataset import CHARACTERS
from transforms.inputs.looks import STROKES_FILE, features, leanings, orientation_of

_IMAGES = 40_000
_HIDDEN = 16
_DIGITS = 4
"""After the point, of the numbers that are stored."""
_TRIALS = 100


def main() -> None:
    """Fits, stores and measures."""
    data = Path(os.environ["EMNIST_DATA"])
    rng = np.random.default_rng(0)
    more = _images(lzma.decompress((data / "real-emnist-more-images-idx3-ubyte.xz").read_bytes()))
    fit(more[rng.permutation(len(more))[:_IMAGES]])
    packed = (data / "emnist-byclass-test-images-idx3-ubyte.gz").read_bytes()
    labels = (data / "emnist-byclass-test-labels-idx1-ubyte.gz").read_bytes()
    classes = np.frombuffer(gzip.decompress(labels), np.uint8, offset=8)
    measure(upright(_images(gzip.decompress(packed))), classes, rng)


def _images(idx: bytes) -> np.ndarray:
    return np.frombuffer(idx, np.uint8, offset=16).reshape(-1, PIXELS)


def _features(images: np.ndarray) -> np.ndarray:
    return np.concatenate([features(part) for part in np.array_split(images, len(images) // 500)])


def fit(images: np.ndarray) -> None:
    """Writes STROKES_FILE. images: upright, uint8 (n, 784)."""
    found = np.concatenate([_features(images), _features(upright(images))])
    is_upright = np.arange(len(found)) < len(images)
    network = MLPClassifier((_HIDDEN,), max_iter=20, batch_size=500, random_state=0)
    network.learning_rate_init = 3e-3
    network.fit(found, is_upright)
    stored = {
        "hidden": network.coefs_[0],
        "hidden_bias": network.intercepts_[0],
        "output": network.coefs_[1][:, 0],
    }
    rounded = {name: np.round(values, _DIGITS).tolist() for name, values in stored.items()}
    STROKES_FILE.write_text(json.dumps(rounded, separators=(",", ":")) + "\n")


def measure(images: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> None:
    """Prints how often sets of images are judged right, wrong, or not at all."""
    digits = classes < 10  # noqa: PLR2004
    characters = CHARACTERS["byclass"]
    for name, chosen in (("digits", digits), ("letters", ~digits), ("all", digits | True)):
        able = np.flatnonzero(chosen)
        for count in (20, 50, 100, 300):
            sets = [images[rng.choice(able, count, replace=False)] for _ in range(_TRIALS)]
            judged = [orientation_of(some) for some in sets]
            turned = [orientation_of(upright(some)) for some in sets]
            right = judged.count("upright") + turned.count("transposed")
            wrong = judged.count("transposed") + turned.count("upright")
            say(f"{name:8} {count:4} images: {right} of {2 * _TRIALS} right, {wrong} wrong")
    lean = {
        characters[label]: float(leanings(images[classes == label][:500]).mean())
        for label in characters
    }
    for name, value in sorted(lean.items(), key=lambda item: item[1])[:12]:
        say(f"class {name} alone leans {value:.2f}")
    judged = [orientation_of(images[classes == label][:300]) for label in characters]
    say(
        f"single classes: {judged.count('upright')} right, {judged.count('transposed')} wrong, "
        f"{judged.count(None)} not judged"
    )


if __name__ == "__main__":
    main()
