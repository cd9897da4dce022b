"""How well a linear classifier finds the class in the latents, in PCA and in the pixels."""

import warnings
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
from tqdm import tqdm

from beam_job.datasets.partition import Images, by_split
from transforms.images import NO_LABEL

Features = Callable[[np.ndarray], np.ndarray]
"""Images uint8 (n, 784) to float32 (n, size)."""

_STEPS = 200


class Accuracy(msgspec.Struct, frozen=True):
    """A linear classifier on some features. accuracy: of held-out images, from 0 to 1."""

    features: str
    dimensions: int
    accuracy: float
    converged: bool
    steps: int


class Classification(msgspec.Struct, frozen=True):
    """The classifiers of one split. classes: of the images that they are fitted to."""

    fitted_images: int
    measured_images: int
    classes: int
    classifiers: list[Accuracy]


def classify(
    features: Mapping[str, Features], training: Images, held_out: Images, *, quiet: bool
) -> dict[str, Classification]:
    """Fits and tests a linear classifier for each split with labels of two classes or more.

    features: what the classifiers see, by name.

    A label may mean something else in another split, so each split has its own classifiers. They
    are fitted to the training images of the split, or of the split train where it has none.
    """
    found = {}
    for split, tested in by_split(_labelled(held_out)).items():
        fitted = _labelled(training)
        fitted = fitted.take(fitted.splits == (split if split in fitted.splits else "train"))
        classes = len(np.unique(fitted.labels))
        if classes == 1 or not len(fitted):
            continue
        progress = tqdm(
            features.items(), desc=f"classifying {split}", unit=" features", disable=quiet or None
        )
        classifiers = [fit_classifier(name, encode, fitted, tested) for name, encode in progress]
        found[split] = Classification(len(fitted), len(tested), classes, classifiers)
    return found


def _labelled(images: Images) -> Images:
    return images.take(images.labels != NO_LABEL)


def fit_classifier(name: str, encode: Features, fitted: Images, tested: Images) -> Accuracy:
    """Fits a logistic regression to standardized features of some images, and tests it on others.

    Labels that were never fitted count as errors.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    seen = encode(fitted.pixels)
    scaler = StandardScaler().fit(seen)
    regression = LogisticRegression(max_iter=_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` reports it.
        regression.fit(scaler.transform(seen), fitted.labels)
    found = regression.predict(scaler.transform(encode(tested.pixels)))
    steps = int(regression.n_iter_.max())
    accuracy = round(float((found == tested.labels).mean()), 4)
    return Accuracy(name, seen.shape[1], accuracy, steps < _STEPS, steps)
