"""How much of the class a linear classifier finds in the latents, in PCA and in the pixels."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from beam_job.datasets.partition import Images, by_split
from transforms.images import NO_LABEL

Features = Callable[[np.ndarray], np.ndarray]
"""Images uint8 (n, 784) to float32 (n, size)."""

_STEPS = 500


class Accuracy(NamedTuple):
    """A linear classifier on some features. accuracy: of held-out images, from 0 to 1."""

    features: str
    dimensions: int
    accuracy: float
    converged: bool
    steps: int


def classified(
    features: Mapping[str, Features], training: Images, held_out: Images, *, quiet: bool
) -> dict[str, Any] | None:
    """What a linear classifier makes of the labels, for each split; None where there are none.

    features: what the classifiers see, by name.

    What a label means may differ between splits, so each is judged alone: fitted to the training
    images of its own split, or of the split train where it has none.
    """
    judged = {}
    for split, tested in by_split(_labelled(held_out)).items():
        fitted = _labelled(training)
        own = fitted.splits == (split if split in fitted.splits else "train")
        fitted = fitted.take(own)
        classes = len(np.unique(fitted.labels))
        if classes < len(("a class", "another")):
            continue
        named = tqdm(
            features.items(), desc=f"classifying {split}", unit=" features", disable=quiet or None
        )
        judged[split] = {
            "fitted_images": len(fitted),
            "measured_images": len(tested),
            "classes": classes,
            "classifiers": [
                linear_accuracy(name, encode, fitted, tested)._asdict() for name, encode in named
            ],
        }
    return judged or None


def _labelled(images: Images) -> Images:
    return images.take(images.labels != NO_LABEL)


def linear_accuracy(name: str, encode: Features, fitted: Images, tested: Images) -> Accuracy:
    """Fits a logistic regression to standardized features of some images, and tests it on others.

    Labels that were never fitted count as missed.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(seen := encode(fitted.pixels))
    regression = LogisticRegression(max_iter=_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # It is reported.
        regression.fit(scaler.transform(seen), fitted.labels)
    found = regression.predict(scaler.transform(encode(tested.pixels)))
    steps = int(regression.n_iter_.max())
    return Accuracy(
        name,
        seen.shape[1],
        round(float((found == tested.labels).mean()), 4),
        steps < _STEPS,
        steps,
    )
