"""Files of latents, read back batch by batch."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import InputError, first_line
from transforms.images import (
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    NO_LABEL,
    ImageBatch,
    Shard,
    ShardKey,
)
from transforms.inputs.read import read_shard
from transforms.json_documents import decode
from transforms.latents import (
    LATENT_COLUMN,
    MAX_LATENTS_FILE_BYTES,
    METADATA_KEY,
    LatentBatch,
    ModelRecord,
    check_latents_fit,
)
from transforms.quantize import Quantization
from transforms.storage.files import read_bytes

_NOT_LATENTS = (
    pa.ArrowException,
    AttributeError,
    KeyError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
)
"""What reading a file raises that is not one of latents."""

_COLUMNS = [IMAGE_ID_COLUMN, LABEL_COLUMN, LATENT_COLUMN]


class _Rows(Protocol):
    @property
    def image_ids(self) -> np.ndarray: ...

    def take(self, rows: np.ndarray) -> Any: ...


Batch = TypeVar("Batch", bound=_Rows)


class LatentShard(NamedTuple):
    """A file of latents, and the originals of its images where they are given.

    key: its shard; `rows` are those in the file. sha256, model: as the manifest has them; a model
    of None is not compared with the one that the file names.
    """

    key: ShardKey
    path: str
    sha256: str
    model: ModelRecord | None
    originals: Shard | None = None


@dataclass(frozen=True)
class StoredBatch:
    """Latents as read from a file, with the originals of their images where they are given.

    latents: float32, dequantized. originals: uint8 (n, 784). originals_sha256: of all originals of
    the shard, as ImageBatch has it, in the batch that completes the shard; empty in the others.
    """

    latents: LatentBatch
    originals: np.ndarray | None
    originals_sha256: str = ""

    def __len__(self) -> int:
        return len(self.latents)


def read_latents(
    shard: LatentShard, quantization: Quantization | None, batch_size: int
) -> Iterator[StoredBatch]:
    """Reads a file of latents in batches.

    Raises InputError where the file is gone or is not the one that the manifest names, or an
    original is missing or has another label.
    """
    originals = None if shard.originals is None else _Originals(shard.originals, batch_size)
    batches = latent_batches(shard.path, shard.sha256, shard.model, batch_size)
    following = next(batches, None)
    while following is not None:
        stored, following = following, next(batches, None)
        values = values_of(stored.latents, quantization)
        latents = LatentBatch(shard.key, len(values), stored.image_ids, stored.labels, values)
        if originals is None:
            yield StoredBatch(latents, None)
        else:
            pixels = originals.of(stored.image_ids, stored.labels)
            yield StoredBatch(latents, pixels, "" if following else originals.sha256())


class LatentColumns(NamedTuple):
    """Rows of a latents file; latents as they are stored."""

    image_ids: np.ndarray
    labels: np.ndarray
    latents: np.ndarray

    def take(self, rows: np.ndarray) -> "LatentColumns":
        """Some of the rows, by position or mask."""
        return LatentColumns(self.image_ids[rows], self.labels[rows], self.latents[rows])


def latent_batches(
    path: str, expected_sha256: str, model: ModelRecord | None, batch_size: int
) -> Iterator[LatentColumns]:
    """The rows of a latents file, at most `batch_size` at once; image_ids rise.

    Raises InputError where the file is not what the manifest says. Its SHA-256 is checked first.
    """
    try:
        content = read_bytes(path, MAX_LATENTS_FILE_BYTES)
    except OSError as error:
        raise InputError(
            f"{path} is gone or cannot be read: the run directory is not whole; run compress again"
        ) from error
    if sha256(content).hexdigest() != expected_sha256:
        raise InputError(
            f"{path} is not the file that the manifest names (its SHA-256 is another): it was "
            "altered; run compress again"
        )
    try:
        with pq.ParquetFile(io.BytesIO(content)) as file:
            if model is not None:
                _check_made_by(path, file, model)
            check_latents_fit(path, file)
            last = -1
            for batch in file.iter_batches(batch_size, columns=_COLUMNS):
                columns = _columns(batch)
                if (np.diff(columns.image_ids, prepend=last) <= 0).any():
                    raise ValueError("its image_ids do not rise")
                last = int(columns.image_ids[-1])
                yield columns
    except _NOT_LATENTS as error:
        raise InputError(
            f"{path} is not what compress writes ({first_line(error)}): it was altered; run "
            "compress again"
        ) from error


class _MadeBy(msgspec.Struct):
    model: ModelRecord


def _check_made_by(path: str, file: pq.ParquetFile, model: ModelRecord) -> None:
    described = decode((file.metadata.metadata or {})[METADATA_KEY], _MadeBy)
    if described.model != model:
        raise InputError(
            f"{path} was made otherwise than the manifest says (its own metadata name another "
            "model, scale or offset): the manifest was altered; run compress again"
        )


def _columns(batch: pa.RecordBatch) -> LatentColumns:
    image_ids, lists = batch.column(IMAGE_ID_COLUMN), batch.column(LATENT_COLUMN)
    if lists.null_count or lists.flatten().null_count or image_ids.null_count:
        raise ValueError("a latent or an image_id is null")
    return LatentColumns(
        image_ids.to_numpy(),
        batch.column(LABEL_COLUMN).cast(pa.int32()).fill_null(NO_LABEL).to_numpy(),
        lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1),
    )


def values_of(stored: np.ndarray, quantization: Quantization | None) -> np.ndarray:
    """Latents as they are stored to the float32 values that they stand for."""
    if quantization is None:
        return stored.astype(np.float32)
    return quantization.dequantize(stored)


class InStep(Generic[Batch]):
    """Batches whose image_ids rise, read only as far as rising image_ids ask for."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self.last: Batch | None = next(batches, None)
        """The batch that was read last."""

    def of(self, image_ids: np.ndarray) -> list[Batch]:
        """What there is of some images, in order; these follow those of the call before."""
        found = []
        while self.last is not None:
            found.append(self.last.take(np.isin(self.last.image_ids, image_ids)))
            if len(self.last.image_ids) and self.last.image_ids[-1] >= image_ids[-1]:
                break
            self.last = next(self._batches, None)
        return found

    def rest(self) -> Iterator[Batch]:
        """What has not been read yet."""
        return self._batches


class _Originals:
    """The images of a shard, read in step with its latents."""

    def __init__(self, shard: Shard, batch_size: int) -> None:
        self._split = shard.key.split
        self._sha256 = ""
        self._images = InStep(self._read(shard, batch_size))

    def _read(self, shard: Shard, batch_size: int) -> Iterator[ImageBatch]:
        for batch, _ in read_shard(shard, batch_size):
            self._sha256 = batch.sha256
            yield batch

    def of(self, image_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """uint8 (n, 784); raises InputError for an image_id that is missing or labelled anew."""
        parts = self._images.of(image_ids)
        found = np.concatenate([image_ids[:0], *(part.image_ids for part in parts)])
        missing = image_ids[~np.isin(image_ids, found)]
        if len(missing):
            raise InputError(
                f"--originals has no image_id {missing[0]} in split {self._split}: give "
                "the images that the run was made of"
            )
        theirs = np.concatenate([part.labels for part in parts])
        differ = (theirs != labels) & (theirs != NO_LABEL) & (labels != NO_LABEL)
        if differ.any():
            raise InputError(
                f"--originals has label {theirs[differ][0]} for image_id {image_ids[differ][0]} of "
                f"split {self._split}, the run {labels[differ][0]}: give the images that the run "
                "was made of"
            )
        return np.concatenate([part.pixels for part in parts])

    def sha256(self) -> str:
        """Of all images of the shard, the rest of which is read for it."""
        for _ in self._images.rest():
            pass
        return self._sha256


def original_pixels(shard: Shard, image_ids: np.ndarray, batch_size: int) -> np.ndarray:
    """uint8 (n, 784) of some images of a shard, in order; InputError where one is missing."""
    return _Originals(shard, batch_size).of(image_ids, np.full(len(image_ids), NO_LABEL))
