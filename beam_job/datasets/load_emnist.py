"""Runs extra_keras_datasets in a process of its own; imports nothing that speaks on import.

`python -m beam_job.datasets.load_emnist NAME FOLDER ARCHIVE ARCHIVE_NAME`
"""

import logging
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from beam_job.logs import set_up_logging

NOT_EMNIST = 3
"""The exit status where what is in the archive cannot be read as EMNIST."""
REASON_FILE = "reason.txt"
"""Says what is wrong then."""

_MAX_MEMORY_BYTES = 4 << 30
"""What reading a .mat may take; byclass, the largest, has 640 MB in it."""


def load_emnist(name: str, folder: str, archive: str, archive_name: str) -> int:
    """Saves an EMNIST dataset as SPLIT-images.npy and SPLIT-labels.npy in `folder`.

    For a process of its own, whose exit status it returns: it changes the current folder and the
    environment. The Keras cache that load_data sees holds only the archive, under the name that it
    looks for, so that nothing is downloaded, and the archive may lie where nobody can write.
    """
    cache = Path(folder, "keras", "datasets")
    cache.mkdir(parents=True)
    _link_or_copy(Path(archive).resolve(), cache / archive_name)
    os.environ["KERAS_HOME"] = str(cache.parent)
    os.chdir(folder)
    set_up_logging(debug=False)  # Before Beam is imported, and before load_data does it at INFO.
    from transforms.models.autoencoder import import_keras

    import_keras()
    from extra_keras_datasets import emnist  # noqa: F401  # What it imports is not to be counted.

    logging.disable(logging.WARNING)  # It asks to be cited; the README does.
    _limit_memory()
    try:
        save_splits(name)
    except Exception as error:  # SciPy raises many kinds for a .mat that is none.
        if isinstance(error, OSError) and error.errno is not None:
            raise  # That is this machine's.
        Path(REASON_FILE).write_text(f"{type(error).__name__}: {error}", "utf-8", "replace")
        return NOT_EMNIST
    shutil.rmtree(cache.parent)
    return 0


def _link_or_copy(source: Path, target: Path) -> None:
    with suppress(OSError):
        target.symlink_to(source)
        return
    shutil.copyfile(source, target)  # Some file systems have no links.


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
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        taken = int(fields["VmData"].split()[0]) * 1024
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (taken + _MAX_MEMORY_BYTES, hard))


if __name__ == "__main__":
    sys.exit(load_emnist(*sys.argv[1:]))
