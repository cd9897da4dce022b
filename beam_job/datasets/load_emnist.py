"""Runs extra_keras_datasets in a process of its own; imports nothing that speaks on import."""

import logging
import os
import resource
import shutil
from pathlib import Path

from beam_job.logs import set_up_logging

_MAX_MEMORY_BYTES = 4 << 30
"""What reading a .mat may take; byclass, the largest, has 640 MB in it."""


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
    from transforms.models.autoencoder import import_keras

    import_keras()
    from extra_keras_datasets import emnist  # noqa: F401  # What it imports is not to be counted.

    logging.disable(logging.WARNING)  # It asks to be cited; the README does.
    _limit_memory()
    save_splits(name)
    shutil.rmtree(cache.parent)


def save_splits(name: str) -> None:
    """Saves what load_data gives as SPLIT-images.npy and SPLIT-labels.npy in the current folder."""
    import numpy as np
    from extra_keras_datasets import emnist

    loaded = dict(zip(("train", "test"), emnist.load_data(type=name), strict=True))
    for split, (images, labels) in loaded.items():
        np.save(f"{split}-images.npy", images)
        np.save(f"{split}-labels.npy", labels)


def _limit_memory() -> None:
    """Lets this process take _MAX_MEMORY_BYTES more, where the system can say what it has.

    A few bytes of a .mat can speak of any number of arrays.
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        taken = int(fields["VmData"].split()[0]) * 1024
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (taken + _MAX_MEMORY_BYTES, hard))
