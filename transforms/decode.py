"""Latents back to images: reading a run's latents, decoding them, and the files of images."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics.metric import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.pvalue import PCollection

from transforms.errors import InputError, RunError, first_line
from transforms.images import (
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    MAX_PIXEL,
    NO_LABEL,
    PIXELS,
    ImageBatch,
    Shard,
    ShardKey,
)
from transforms.inputs.read import read_shard
from transforms.json_documents import parse_json
from transforms.latents import (
    LATENT_COLUMN,
    MAX_LATENTS_FILE_BYTES,
    METADATA_KEY,
    LatentBatch,
    check_latents_fit,
)
from transforms.models.choice import load_decoder
from transforms.models.directory import find_model
from transforms.models.fixed_batches import WholeBatchHandler
from transforms.models.network import Compute, Network
from transforms.quantize import Quantization
from transforms.staged import open_staged, staged_table
from transforms.storage.files import read_bytes
from transforms.write_shards import WriteShards

IMAGES_FOLDER = "images"

_CALL_IMAGES = 1024
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

    key: its shard; `rows` are those in the file. sha256, model: what the manifest says of it.
    """

    key: ShardKey
    path: str
    sha256: str
    model: dict[str, Any]
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


@dataclass(frozen=True)
class DecodedBatch:
    """Decoded images. image_ids: int64 (n,). labels: int16 (n,), NO_LABEL for none.

    pixels: uint8 (n, 784), upright. originals: the same, None where they are not given.
    originals_sha256: as StoredBatch has it.
    """

    shard: ShardKey
    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    originals: np.ndarray | None
    originals_sha256: str = ""

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "DecodedBatch":
        """Some of its images, by position or mask; the batch accounts for the same rows still."""
        parts = (self.image_ids[rows], self.labels[rows], self.pixels[rows])
        originals = None if self.originals is None else self.originals[rows]
        return DecodedBatch(self.shard, self.rows, *parts, originals)


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
    path: str, expected_sha256: str, model: dict[str, Any], batch_size: int
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


def _check_made_by(path: str, file: pq.ParquetFile, model: dict[str, Any]) -> None:
    described = parse_json((file.metadata.metadata or {})[METADATA_KEY])
    if described.get("model", {}) != model:
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
        batch.column(LABEL_COLUMN).cast(pa.int16()).fill_null(NO_LABEL).to_numpy(),
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


class ReadLatents(beam.DoFn):
    """LatentShard -> StoredBatch of at most `batch_size` images."""

    def __init__(self, quantization: Quantization | None, batch_size: int) -> None:
        self._quantization = quantization
        self._batch_size = batch_size
        self._images = Metrics.counter(ReadLatents, "images")

    def process(self, shard: LatentShard) -> Iterator[StoredBatch]:
        for batch in read_latents(shard, self._quantization, self._batch_size):
            self._images.inc(len(batch.latents))
            yield batch


def decoded_pixels(decode: Compute, latents: np.ndarray) -> np.ndarray:
    """float32 latents (n, latent_size) to images uint8 (n, 784), rounded.

    Raises RunError where the decoder gives what is no number.
    """
    if not len(latents):
        return np.zeros((0, PIXELS), np.uint8)
    images = np.concatenate(
        [
            decode(latents[start : start + _CALL_IMAGES])
            for start in range(0, len(latents), _CALL_IMAGES)
        ]
    ).reshape(-1, PIXELS)
    if not np.isfinite(images).all():
        raise RunError("the decoder gave pixels that are not finite: give another --model")
    pixels: np.ndarray = np.rint(np.clip(images, 0, 1) * MAX_PIXEL).astype(np.uint8)
    return pixels


class DecoderHandler(WholeBatchHandler[StoredBatch, DecodedBatch]):
    """Loads a decoder once a process and runs it on a whole StoredBatch at a time.

    model: a model directory; None for the model that comes with the package. engine: what computes
    it, by name; None for the fastest that is there. sha256: what the decoder's file has to have,
    where it is known.
    """

    def __init__(
        self, model: str | None = None, engine: str | None = None, sha256: str | None = None
    ) -> None:
        super().__init__("Decode")
        self._model = model
        self._engine = engine
        self._sha256 = sha256

    def load_model(self) -> Network:
        model = find_model(self._model)
        if self._sha256 is not None:
            model = replace(model, decoder_sha256=self._sha256)
        return load_decoder(model, self._engine)

    def result(self, batch: StoredBatch, network: Network) -> DecodedBatch:
        latents = batch.latents
        return DecodedBatch(
            latents.shard,
            latents.rows,
            latents.image_ids,
            latents.labels,
            decoded_pixels(network.compute, latents.latents),
            batch.originals,
            batch.originals_sha256,
        )

    def batch_bytes(self, batch: StoredBatch) -> int:
        return batch.latents.latents.nbytes


class Decode(beam.PTransform):
    """PCollection[StoredBatch] -> PCollection[DecodedBatch]."""

    def __init__(self, handler: ModelHandler) -> None:
        super().__init__()
        self._handler = handler

    def expand(self, pcoll: PCollection[StoredBatch]) -> PCollection[DecodedBatch]:
        decoded: PCollection[DecodedBatch] = pcoll | "RunInference" >> RunInference(self._handler)
        return decoded


@dataclass(frozen=True)
class ImageFormat:
    """Images in the file of a shard, in the columns of staged images."""

    characters: Mapping[int, str]
    row_group_rows: int
    folder: str = IMAGES_FOLDER

    def table(self, batch: DecodedBatch) -> pa.Table:
        """The images of a batch."""
        return staged_table(batch.image_ids, batch.labels, batch.pixels)

    def open(self, sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
        """A writer of the file, as staged files are."""
        return open_staged(sink, schema, self.characters)


class WriteImages(WriteShards):
    """PCollection[DecodedBatch] -> PCollection[FinishedShard]: one Parquet file a shard.

    See WriteShards for when a file is written, and for `noted`.
    """

    def __init__(
        self,
        output: str,
        characters: Mapping[int, str],
        row_group_rows: int,
        *,
        noted: bool = False,
    ) -> None:
        super().__init__(output, ImageFormat(dict(characters), row_group_rows), noted=noted)
