"""Runs extra_keras_datasets in a process of its own; imports nothing that speaks on import."""

import logging
import os
import shutil
from pathlib import Path

from beam_job.logs import set_up_logging


def load_emnist(name: str, folder: str, archive: str, archive_name: str) -> None:
    """Saves an EMNIST dataset as SPLIT-images.npy and SPLIT-labels.npy in `folder`.

    For a process of its own: it changes the current folder and the environment. The Keras cache
    that load_data sees holds only the archive, under the name that it looks for, so that nothing
    is downloaded, and the archive may lie where nobody can write.
    """
    cache = Path(folder, "keras", "datasets")
    cache.mkdir(parents=True)
    (cache / archive_name).symlink_to(Path(archive).resolve())
    os.environ["KERAS_HOME"] = str(cache.parent)
    os.chdir(folder)
    set_up_logging(debug=False)  # Before Beam is imported, and before load_data does it at INFO.
    import numpy as np

    from transforms.autoencoder import import_keras

    import_keras()
    from extra_keras_datasets import emnist

    logging.disable(logging.WARNING)  # It asks to be cited; the README does.
    loaded = dict(zip(("train", "test"), emnist.load_data(type=name), strict=True))
    for split, (images, labels) in loaded.items():
        np.save(f"{split}-images.npy", images)
        np.save(f"{split}-labels.npy", labels)
    shutil.rmtree(cache.parent)
