"""Reading one file of latents, and comparing its rows with what the manifest promises."""

from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_job.outputs.model_record import latents_metadata
from beam_job.outputs.run_directory import CompleteRun, ListedFile
from transforms.errors import InputError
from transforms.images import (
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    MAX_LABEL,
)
from transforms.json_documents import decode
from transforms.latents import (
    CHARACTER_COLUMN,
    LATENT_COLUMN,
    MAX_LATENTS_FILE_BYTES,
    METADATA_KEY,
    LatentsMetadata,
    check_latents_fit,
    latent_schema,
)
from transforms.shard_files import ShardFile
from transforms.storage.files import (
    child,
    read_bytes,
)

_READ_ROWS = 4_096


class AtEnds(NamedTuple):
    """What of quantized latents may have been clipped: the values at the ends of the range."""

    values: int = 0
    images: int = 0


class Read(NamedTuple):
    """What a file of latents was found to hold. is_whole: it is the file that was listed."""

    rows: int
    bytes: int
    first_image_id: int | None
    last_image_id: int | None
    problems: tuple[str, ...]
    is_whole: bool = True
    at_ends: AtEnds = AtEnds()


def listed_content(folder: str, file: ListedFile | ShardFile) -> tuple[bytes, str | None]:
    """A file's bytes, and what is wrong with them."""
    try:
        content = read_bytes(child(folder, file.path), MAX_LATENTS_FILE_BYTES)
    except FileNotFoundError:
        return b"", "is gone"
    except OSError as error:
        return b"", f"cannot be read ({error.strerror or error})"
    if len(content) != file.bytes:
        return b"", f"has {len(content):,} bytes, and the manifest says {file.bytes:,}"
    if sha256(content).hexdigest() != file.sha256:
        return content, "has another SHA-256 than the manifest says: it was altered"
    return content, None


class Promised:
    """What the manifest promises of every file of latents."""

    def __init__(self, compressed: CompleteRun) -> None:
        manifest, model = compressed.manifest, compressed.manifest.model
        value_type = pa.from_numpy_dtype(np.dtype(model.stored_dtype))
        self.folder = compressed.folder
        self.schema = latent_schema(model.latent_size, value_type)
        self.metadata = latents_metadata(manifest.dataset.name, model)
        self.characters = pa.array(
            [manifest.characters.get(label) for label in range(MAX_LABEL + 1)], pa.string()
        )
        self.longest = max(map(len, manifest.characters.values()), default=0)
        self.bits = None if model.quantization is None else model.quantization.bits


def read_file(promised: Promised, file: ShardFile, rejected: np.ndarray) -> Read:
    content, problem = listed_content(promised.folder, file)
    if problem is not None:
        return Read(0, len(content), None, None, (problem,), is_whole=False)
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as parquet:
            metadata = parquet.metadata
            problems = tuple(_promise_problems(promised, file, parquet))
            if not parquet.schema_arrow.equals(promised.schema):
                return Read(metadata.num_rows, len(content), None, None, problems)
            check_latents_fit(file.path, parquet)
        rows = _Rows(promised, rejected)
        # A character that is stored once, for all rows to refer to, stays so.
        with pq.ParquetFile(
            pa.BufferReader(content), metadata=metadata, read_dictionary=[CHARACTER_COLUMN]
        ) as parquet:
            for batch in parquet.iter_batches(_READ_ROWS, use_threads=False):
                rows.check(batch)
    except (OSError, ValueError, MemoryError, pa.ArrowException, InputError) as error:
        problem = f"cannot be read as Parquet ({' '.join(str(error).split())})"
        return Read(0, len(content), None, None, (problem,), is_whole=False)
    problems += tuple(rows.problems.values())
    if (rows.first, rows.last) != (file.first_image_id, file.last_image_id):
        listed = f"{file.first_image_id} to {file.last_image_id}"
        found = f"goes from image_id {rows.first} to {rows.last}"
        problems += (f"{found}, and the manifest says from {listed}",)
    return Read(rows.count, len(content), rows.first, rows.last, problems, at_ends=rows.at_ends)


def _promise_problems(
    promised: Promised, file: ShardFile, parquet: pq.ParquetFile
) -> Iterator[str]:
    """What a file says of itself otherwise than the manifest."""
    described = (parquet.metadata.metadata or {}).get(METADATA_KEY)
    if described is None or decode(described, LatentsMetadata) != promised.metadata:
        yield "says otherwise than the manifest what it was made of, and by which model"
    if parquet.metadata.num_rows != file.rows:
        yield f"has {parquet.metadata.num_rows:,} rows, and the manifest says {file.rows:,}"
    schema = parquet.schema_arrow
    if not schema.equals(promised.schema):
        yield f"has other columns than the manifest promises: {' '.join(str(schema).split())}"


class _Rows:
    """The rows of a file, checked batch by batch; of each kind of problem the first one is kept."""

    def __init__(self, promised: Promised, rejected: np.ndarray) -> None:
        self._promised = promised
        self._rejected = rejected
        self.count = 0
        self.first: int | None = None
        self.last: int | None = None
        self.at_ends = AtEnds()
        self.problems: dict[str, str] = {}

    def check(self, batch: pa.RecordBatch) -> None:
        """Checks the rows that follow."""
        if not batch.num_rows:
            return
        image_ids = batch.column(IMAGE_ID_COLUMN).to_numpy()
        self._check_ids(image_ids)
        self._check_characters(batch.column(LABEL_COLUMN), batch.column(CHARACTER_COLUMN))
        self._check_latents(batch.column(LATENT_COLUMN), image_ids)
        self.count += batch.num_rows
        self.first = int(image_ids[0]) if self.first is None else self.first
        self.last = int(image_ids[-1])

    def _check_ids(self, image_ids: np.ndarray) -> None:
        before = np.concatenate([[-1 if self.last is None else self.last], image_ids[:-1]])
        for place in np.flatnonzero(image_ids <= before)[:1]:
            self._add("order", f"has image_id {image_ids[place]} behind {before[place]}")
        for image_id in image_ids[np.isin(image_ids, self._rejected)][:1]:
            self._add("rejected", f"has image_id {image_id}, which was rejected")

    def _check_characters(self, labels: pa.Array, stored: pa.DictionaryArray) -> None:
        longest = pc.max(pc.utf8_length(stored.dictionary)).as_py() or 0
        named = self._promised.characters.take(labels)
        if longest > self._promised.longest or not stored.dictionary_decode().equals(named):
            self._add("characters", "names other characters for its labels than the manifest")

    def _check_latents(self, lists: pa.FixedSizeListArray, image_ids: np.ndarray) -> None:
        if lists.null_count or lists.flatten().null_count:
            self._add("nulls", "lacks latents: some are null")
            return
        latents = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1)
        for place in np.flatnonzero(~np.isfinite(latents).all(axis=1))[:1]:
            self._add("finite", f"has a latent that is not finite, for image_id {image_ids[place]}")
        bits = self._promised.bits
        if bits is not None and (latents >= 2**bits).any():
            self._add("bits", f"has a latent of {latents.max()}, more than {bits} bits hold")
        if bits is not None:
            at_ends = (latents == 0) | (latents == 2**bits - 1)
            self.at_ends = AtEnds(
                self.at_ends.values + int(at_ends.sum()),
                self.at_ends.images + int(at_ends.any(axis=1).sum()),
            )

    def _add(self, kind: str, problem: str) -> None:
        self.problems.setdefault(kind, problem)
