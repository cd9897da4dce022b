"""The checkpoint of a training: where it stands, as one .npz file with nothing to unpickle."""

import io
import zipfile
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from transforms.inputs.formats.npy import npy_header
from transforms.json_documents import Count, parse_json

MAX_CHECKPOINT_BYTES = 1 << 30
"""The weights of a network four times: a checkpoint of ours takes about 30 MB."""


class Epoch(msgspec.Struct, frozen=True):
    """The result of one epoch. PSNR in dB, of validation images; dead: units that stay at 0."""

    epoch: Count
    training_loss: float
    validation_loss: float
    validation_psnr: float
    dead: Count


@dataclass
class Progress:
    """Where a training stands between two epochs: all that it needs to continue.

    weights, best: of encoder and decoder, those of the last and of the best epoch. state: of the
    optimizer and the random numbers.
    """

    history: list[Epoch] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    state: list[np.ndarray] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)

    @property
    def best_epoch(self) -> Epoch | None:
        """The epoch of least validation loss."""
        return min(self.history, key=lambda epoch: epoch.validation_loss, default=None)


class Checkpoint(NamedTuple):
    """Where a training stands, and the settings and images that it has."""

    progress: Progress
    settings: dict[str, Any]
    fingerprint: str


class _Description(msgspec.Struct):
    settings: dict[str, Any]
    fingerprint: str
    history: list[Epoch]


_ARRAYS = ("weights", "state", "best")


def checkpoint_bytes(progress: Progress, settings: dict[str, Any], fingerprint: str) -> bytes:
    """A checkpoint as .npz: arrays and JSON."""
    described = msgspec.json.encode(_Description(settings, fingerprint, progress.history))
    arrays = {
        f"{kind}/{position}": array
        for kind in _ARRAYS
        for position, array in enumerate(getattr(progress, kind))
    }
    content = io.BytesIO()
    np.savez(content, described=np.array(described.decode()), **arrays)
    return content.getvalue()


def read_checkpoint(content: bytes) -> Checkpoint:
    """Reads the bytes of a whole checkpoint; raises ValueError where they are not one."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # Parts that are not compressed cannot unpack to more than there is.
            if any(member.compress_type for member in archive.infolist()):
                raise ValueError("parts of it are compressed")
            arrays = {
                member.filename.removesuffix(".npy"): _stored_array(archive.read(member))
                for member in archive.infolist()
            }
        text = str(arrays["described"])
        described = msgspec.convert(parse_json(text.encode()), _Description)
    except (KeyError, TypeError, OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error
    progress = Progress(described.history, *(_numbered(arrays, kind) for kind in _ARRAYS))
    return Checkpoint(progress, described.settings, described.fingerprint)


def _numbered(arrays: dict[str, np.ndarray], kind: str) -> list[np.ndarray]:
    count = sum(name.startswith(f"{kind}/") for name in arrays)
    try:
        return [arrays[f"{kind}/{position}"] for position in range(count)]
    except KeyError as error:
        raise ValueError(f"{error} is missing") from error


def _stored_array(content: bytes) -> np.ndarray:
    """An array from a .npy that holds all its values; nothing is unpickled."""
    shape, fortran, dtype, offset = npy_header(content)
    array = np.frombuffer(bytearray(content), dtype, offset=offset)  # One that may be changed.
    return array.reshape(shape, order="F" if fortran else "C")
