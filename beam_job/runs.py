"""Complete runs for programs that read them: latents, and what encodes and decodes them.

run = beam_job.open_run("out/sample")
latents = run.to_numpy("test")
images = run.decode(latents)
"""

import os
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa

from beam_job.outputs.run_directory import SIZES, CompleteRun, Manifest, complete_run
from beam_job.outputs.run_model import model_of_run
from beam_job.reports.sizes import RunSizes
from transforms.errors import InputError
from transforms.images import PIXELS, SIDE
from transforms.json_documents import read_document
from transforms.latents import LatentBatch, latent_schema, latent_table
from transforms.models.arrays import decoded_pixels, latents_of
from transforms.models.choice import choose_engine, load_decoder, load_encoder
from transforms.models.network import Network
from transforms.read_latents import LatentShard, read_latents
from transforms.storage.files import child

SPLIT_COLUMN = "split"
_READ_ROWS = 65_536


def open_run(folder: str | os.PathLike[str], *, model: str | None = None) -> "Run":
    """Opens a run directory, on this machine or in a store (s3://, gs://).

    model: the model that made the run, where it is not where the run names it. Raises InputError
    where there is no complete run; its message is one line.
    """
    return Run(complete_run(os.fspath(folder)), model)


class Run:
    """A complete run. Rows come by split, then by image_id; files are read when they are asked for.

    Methods that read raise InputError where a file is not the one that the manifest names.
    """

    def __init__(self, complete: CompleteRun, model: str | None = None) -> None:
        self._complete = complete
        self._model = model

    def __repr__(self) -> str:
        return f"Run({self._complete.folder!r}, splits={self.splits}, latent_size={self._size})"

    @property
    def manifest(self) -> Manifest:
        """What the run was made of, how, and by which model."""
        return self._complete.manifest

    @property
    def splits(self) -> dict[str, int]:
        """Rows of each split."""
        splits = self.manifest.dataset.splits
        return {split: splits[split].written for split in sorted(splits)}

    @property
    def characters(self) -> dict[int, str]:
        """What each label stands for, where that is known."""
        return self.manifest.characters

    @cached_property
    def sizes(self) -> RunSizes:
        """Bytes before and after, by split and in total: sizes.json."""
        return read_document(child(self._complete.folder, SIZES), RunSizes)

    def to_table(self, split: str | None = None) -> pa.Table:
        """The rows of a split, or of all.

        split: string. image_id: int64. label: uint16, character: string, both null where unknown.
        latent: fixed-size list of float32, dequantized.
        """
        empty = latent_schema(self._size, pa.float32()).empty_table()
        parts = [(name, latent_table(rows, self.characters)) for name, rows in self._rows(split)]
        tables = [_with_split(table, name) for name, table in parts]
        return pa.concat_tables([_with_split(empty, ""), *tables])

    def to_numpy(self, split: str | None = None) -> np.ndarray:
        """The latents of a split, or of all, in the order of to_table: float32 (n, latent_size)."""
        none = np.zeros((0, self._size), np.float32)
        return np.concatenate([none, *(rows.latents for _, rows in self._rows(split))])

    def encode(self, images: np.ndarray) -> np.ndarray:
        """The latents of images, by the encoder of the run: float32 (n, latent_size).

        images: uint8 (n, 28, 28) or (n, 784), upright, strokes bright on 0.
        """
        if images.dtype != np.uint8 or images.shape[1:] not in ((SIDE, SIDE), (PIXELS,)):
            raise InputError(
                f"images are {images.dtype} {images.shape}: give uint8 (n, {SIDE}, {SIDE})"
            )
        if not len(images):
            return np.zeros((0, self._size), np.float32)
        return latents_of(self._encoder.compute, images.reshape(-1, PIXELS))

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """The images of latents, (n, latent_size), by the decoder of the run: uint8 (n, 28, 28)."""
        if latents.ndim != 2 or latents.shape[1] != self._size:  # noqa: PLR2004
            raise InputError(f"latents are of shape {latents.shape}: give (n, {self._size})")
        pixels = decoded_pixels(self._decoder.compute, latents.astype(np.float32))
        return pixels.reshape(-1, SIDE, SIDE)

    @property
    def _size(self) -> int:
        return self.manifest.model.latent_size

    @cached_property
    def _encoder(self) -> Network:
        model = model_of_run(self._complete, self._model, decodes=False)
        return load_encoder(model, choose_engine(model, None, self.manifest.model.precision))

    @cached_property
    def _decoder(self) -> Network:
        return load_decoder(model_of_run(self._complete, self._model, decodes=True))

    def _rows(self, split: str | None) -> Iterator[tuple[str, LatentBatch]]:
        """(split, some of its rows), dequantized."""
        if split is not None and split not in self.splits:
            raise InputError(f"there is no split {split!r}: give one of {', '.join(self.splits)}")
        record = self.manifest.model
        for key, file in self._complete.shard_files():
            if split in (None, key.split):
                path = child(self._complete.folder, file.path)
                shard = LatentShard(key, path, file.sha256, record)
                for batch in read_latents(shard, record.quantization, _READ_ROWS):
                    yield key.split, batch.latents


def _with_split(table: pa.Table, split: str) -> pa.Table:
    return table.add_column(0, SPLIT_COLUMN, pa.repeat(pa.scalar(split), len(table)))
