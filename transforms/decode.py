"""Latents back to images: reading a run's latents, decoding them, and the files of images."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics.metric import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.pvalue import PCollection

from transforms.engines.choice import load_decoder
from transforms.engines.network import Compute, Network
from transforms.errors import InputError, RunError, first_line
from transforms.files import read_bytes
from transforms.images import (
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    MAX_PIXEL,
    NO_LABEL,
    PIXELS,
    Shard,
    ShardKey,
    read_shard,
)
from transforms.json_documents import parse_json
from transforms.latents import (
    LATENT_COLUMN,
    MAX_LATENTS_FILE_BYTES,
    METADATA_KEY,
    LatentBatch,
    check_latents_fit,
)
from transforms.model_directory import find_model
from transforms.quantize import Quantization
from transforms.staged import staged_bytes, staged_table
from transforms.whole_batches import WholeBatchHandler
from transforms.write_shards import WriteShards

IMAGES_FOLDER = "images"

_CALL_IMAGES = 1024


class LatentShard(NamedTuple):
    """A file of latents, and the originals of its images where they are at hand.

    key: its shard; `rows` are those in the file. sha256, model: what the manifest says of it.
    """

    key: ShardKey
    path: str
    sha256: str
    model: dict[str, Any]
    originals: Shard | None = None


@dataclass(frozen=True)
class StoredBatch:
    """Latents as read from a file, with the originals of their images where they are at hand.

    latents: float32, dequantized. originals: uint8 (n, 784).
    """

    latents: LatentBatch
    originals: np.ndarray | None

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True)
class DecodedBatch:
    """Images that came back. image_ids: int64 (n,). labels: int16 (n,), NO_LABEL for none.

    pixels: uint8 (n, 784), upright. originals: the same, None where they are not at hand.
    """

    shard: ShardKey
    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    originals: np.ndarray | None

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "DecodedBatch":
        """Some of its images, by position or mask, as a batch of their own."""
        parts = (self.image_ids[rows], self.labels[rows], self.pixels[rows])
        originals = None if self.originals is None else self.originals[rows]
        return DecodedBatch(self.shard, len(parts[0]), *parts, originals)


def read_latents(
    shard: LatentShard, quantization: Quantization | None, batch_size: int
) -> Iterator[StoredBatch]:
    """Reads a file of latents in batches.

    Raises InputError where the file is gone or is not the one that the manifest names, or an
    original is missing or has another label.
    """
    stored = latent_columns(shard.path, shard.sha256, shard.model)
    originals = None if shard.originals is None else _Originals(shard.originals)
    for start in range(0, len(stored.image_ids), batch_size):
        rows = slice(start, start + batch_size)
        image_ids, labels = stored.image_ids[rows], stored.labels[rows]
        latents = values_of(stored.latents[rows], quantization)
        yield StoredBatch(
            LatentBatch(shard.key, len(image_ids), image_ids, labels, latents),
            None if originals is None else originals.of(image_ids, labels),
        )


class LatentColumns(NamedTuple):
    """The rows of a latents file; latents as they are stored."""

    image_ids: np.ndarray
    labels: np.ndarray
    latents: np.ndarray


def latent_columns(path: str, expected_sha256: str, model: dict[str, Any]) -> LatentColumns:
    """All rows of a latents file; raises InputError where it is not what the manifest says."""
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
            return _columns(path, file, model)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, MemoryError) as error:
        raise InputError(
            f"{path} is not what compress writes ({first_line(error)}): it was altered; run "
            "compress again"
        ) from error


def _columns(path: str, file: pq.ParquetFile, model: dict[str, Any]) -> LatentColumns:
    if parse_json((file.metadata.metadata or {})[METADATA_KEY])["model"] != model:
        raise InputError(
            f"{path} was made otherwise than the manifest says (its own metadata name another "
            "model, scale or offset): the manifest was altered; run compress again"
        )
    check_latents_fit(path, file)
    table = file.read(columns=[IMAGE_ID_COLUMN, LABEL_COLUMN, LATENT_COLUMN])
    lists = table.column(LATENT_COLUMN).combine_chunks()
    if lists.null_count or lists.flatten().null_count or table.column(IMAGE_ID_COLUMN).null_count:
        raise ValueError("a latent or an image_id is null")
    values = lists.flatten().to_numpy(zero_copy_only=False)
    labels = table.column(LABEL_COLUMN).cast(pa.int16()).fill_null(NO_LABEL)
    return LatentColumns(
        table.column(IMAGE_ID_COLUMN).to_numpy(),
        labels.to_numpy(),
        values.reshape(len(table), lists.type.list_size),
    )


def values_of(stored: np.ndarray, quantization: Quantization | None) -> np.ndarray:
    """Latents as they are stored to the float32 values that they stand for."""
    if quantization is None:
        return stored.astype(np.float32)
    return quantization.dequantize(stored)


class _Originals:
    """The images of a shard, to be looked up by image_id."""

    def __init__(self, shard: Shard) -> None:
        self._split = shard.key.split
        batches = [batch for batch, _ in read_shard(shard, max(1, shard.key.rows))]
        self._image_ids = np.concatenate([batch.image_ids for batch in batches])
        self._labels = np.concatenate([batch.labels for batch in batches])
        self._pixels = np.concatenate([batch.pixels for batch in batches])

    def of(self, image_ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """uint8 (n, 784); raises InputError for an image_id that is missing or labelled anew."""
        wrong = ~np.isin(image_ids, self._image_ids)
        if wrong.any():
            raise InputError(
                f"--originals has no image_id {image_ids[wrong][0]} in split {self._split}: give "
                "the images that the run was made of"
            )
        places = np.searchsorted(self._image_ids, image_ids)
        theirs = self._labels[places]
        differ = (theirs != labels) & (theirs != NO_LABEL) & (labels != NO_LABEL)
        if differ.any():
            raise InputError(
                f"--originals has label {theirs[differ][0]} for image_id {image_ids[differ][0]} of "
                f"split {self._split}, the run {labels[differ][0]}: give the images that the run "
                "was made of"
            )
        return self._pixels[places]


def original_pixels(shard: Shard, image_ids: np.ndarray) -> np.ndarray:
    """uint8 (n, 784) of some images of a shard; raises InputError where one is missing."""
    return _Originals(shard).of(image_ids, np.full(len(image_ids), NO_LABEL))


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

    def table(self, batches: list[DecodedBatch]) -> pa.Table:
        """The images of a shard, ordered by image_id."""
        parts = sorted(batches, key=lambda batch: batch.image_ids[:1].tolist())
        image_ids, labels, pixels = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("image_ids", "labels", "pixels")
        )
        return staged_table(image_ids, labels, pixels)

    def content(self, table: pa.Table) -> bytes:
        """The file, as staged files are."""
        return staged_bytes(table, self.characters, self.row_group_rows)


class WriteImages(WriteShards):
    """PCollection[DecodedBatch] -> PCollection[ShardFile]: one Parquet file a shard."""

    def __init__(self, output: str, characters: Mapping[int, str], row_group_rows: int) -> None:
        super().__init__(output, ImageFormat(dict(characters), row_group_rows))
