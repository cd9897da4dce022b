"""Reading a run back: every file and every row is compared with the manifest."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_job.outputs.attempt import ATTEMPT_PREFIX, STRAY_NAMES
from beam_job.outputs.model_record import STORED_DTYPES, latents_metadata
from beam_job.outputs.run_directory import (
    CLIPPED,
    MANIFEST,
    REJECTS,
    SIZES,
    CompleteRun,
)
from beam_job.reports.sizes import sizes_report
from transforms.errors import InputError
from transforms.images import (
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    MAX_LABEL,
    PIXELS,
)
from transforms.inputs.dataset import Source
from transforms.json_documents import check_shape, is_count, parse_json
from transforms.latents import (
    CHARACTER_COLUMN,
    LATENT_COLUMN,
    LATENTS_FOLDER,
    MAX_LATENTS_FILE_BYTES,
    METADATA_KEY,
    check_latents_fit,
    latent_schema,
)
from transforms.shard_files import ShardFile
from transforms.sizes import Sizes
from transforms.storage.errors import ChangedError
from transforms.storage.files import (
    FoundFile,
    child,
    list_folder,
    list_names,
    open_binary,
    read_bytes,
)

_READ_ROWS = 4_096
_FILES_AT_ONCE = 16
_BYTES_AT_ONCE = 64 << 20
"""Files of latents are read whole, as their SHA-256 is checked first: so many at once, at most."""

_REJECT = {"split": str, "image_id": is_count}


class Problem(NamedTuple):
    """Something that is not as the manifest promises. path: below the run directory."""

    path: str
    problem: str


class AtEnds(NamedTuple):
    """What of quantized latents may have been clipped: the values at the ends of the range."""

    values: int = 0
    images: int = 0


@dataclass
class Verified:
    """What was found. images: rows read, by split; compared: images that were encoded again.

    listed_bytes: what the manifest says of the files of latents, by split. at_ends: by split.
    notes: what is there and is not part of the run.
    """

    files: int = 0
    bytes: int = 0
    images: dict[str, int] = field(default_factory=dict)
    listed_bytes: dict[str, int] = field(default_factory=dict)
    at_ends: dict[str, AtEnds] = field(default_factory=dict)
    compared: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, path: str, *problems: str) -> None:
        """Adds problems of a file."""
        self.problems += [Problem(path, problem) for problem in problems]


class _Read(NamedTuple):
    """What a file of latents was found to hold. is_whole: it is the file that was listed."""

    rows: int
    bytes: int
    first_image_id: int | None
    last_image_id: int | None
    problems: tuple[str, ...]
    is_whole: bool = True
    at_ends: AtEnds = AtEnds()


def read_back(compressed: CompleteRun) -> Verified:
    """Compares all that is in a run directory with its manifest."""
    try:
        return _read_back(compressed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"is not what compress writes ({type(error).__name__}: {error})"
        return Verified(problems=[Problem(MANIFEST, reason)])


def _read_back(compressed: CompleteRun) -> Verified:
    listed = Counter(file["path"] for file in compressed.manifest["files"])
    verified = Verified()
    verified.add(
        MANIFEST, *(f"lists {path} {count} times" for path, count in listed.items() if count > 1)
    )
    _check_folder(compressed, set(listed), verified)
    if not listed[SIZES]:
        verified.add(MANIFEST, f"does not list {SIZES}")
    documents = _documents(compressed, verified)
    rejects = _rejected_ids(documents.get(REJECTS) or b"", verified)
    is_whole = _read_files(compressed, rejects, verified)
    # What is counted of files that are gone, or altered, would only say again that they are.
    if is_whole and None not in documents.values():
        for split in compressed.staged:
            _check_split(compressed, split, len(rejects.get(split, ())), verified)
        sizes = documents.get(SIZES)
        if sizes is not None:
            _check_sizes(compressed, sizes, verified, rejects)
    return verified


def _check_folder(compressed: CompleteRun, listed: set[str], verified: Verified) -> None:
    """What is in a run's folders, and is not in the list of its files."""
    folder = compressed.folder
    extra = {path for path in listed if path.startswith(f"{LATENTS_FOLDER}/")}
    for _, file in compressed.shard_files():
        extra.discard(file.path)
        listed.add(file.path)
    verified.files = len(listed)
    for path in sorted(extra):
        verified.add(path, "is of no shard of the dataset")
    top = child(folder, "x").removesuffix("x")
    for name in (LATENTS_FOLDER, "rejects"):
        for found in list_folder(child(folder, name)):
            path = found.path.removeprefix(top)
            if path.rpartition("/")[2] in STRAY_NAMES:
                verified.notes.append(f"{path} is not part of the run")
            elif path not in listed and _has_rows(found):
                verified.add(path, "is not in the manifest")
    for name in list_names(folder):
        if name in STRAY_NAMES or name.startswith(ATTEMPT_PREFIX):
            verified.notes.append(f"{name} is not part of the run")


def _has_rows(found: FoundFile) -> bool:
    """Whether a file may be taken for a part of the run; what --overwrite emptied may not."""
    if not found.bytes or not found.path.endswith(".parquet"):
        return found.bytes > 0
    try:
        with open_binary(found.path, found) as file, pq.ParquetFile(file) as parquet:
            return bool(parquet.metadata.num_rows)
    except (pa.ArrowException, OSError, ChangedError):
        return True


def _read_files(
    compressed: CompleteRun, rejects: Mapping[str, np.ndarray], verified: Verified
) -> bool:
    """Reads the files of latents; whether all are those that were listed."""
    is_whole = True
    last: dict[str, int] = {}
    verified.images = dict.fromkeys(compressed.staged, 0)
    verified.listed_bytes = dict.fromkeys(compressed.staged, 0)
    verified.at_ends = dict.fromkeys(compressed.staged, AtEnds())
    for split, file, read in _reads(compressed, rejects):
        verified.add(file.path, *read.problems)
        verified.bytes += read.bytes
        verified.images[split] += read.rows
        values, images = verified.at_ends[split]
        verified.at_ends[split] = AtEnds(values + read.at_ends.values, images + read.at_ends.images)
        verified.listed_bytes[split] += file.bytes
        is_whole = is_whole and read.is_whole
        if read.first_image_id is not None:
            before = last.get(split, -1)
            if read.first_image_id <= before:
                verified.add(
                    file.path,
                    f"begins with image_id {read.first_image_id}, and the file before it ends "
                    f"with {before}",
                )
            last[split] = read.last_image_id  # type: ignore[assignment]
    return is_whole


def _reads(
    compressed: CompleteRun, rejects: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, ShardFile, _Read]]:
    """What each file of latents holds, with its split; as many at once as memory allows."""
    promised = _Promised(compressed)
    none = np.zeros(0, np.int64)
    largest = max((file.bytes for _, file in compressed.shard_files()), default=0)
    at_once = max(1, min(_FILES_AT_ONCE, _BYTES_AT_ONCE // max(1, largest)))
    waiting: deque[tuple[str, ShardFile, Future[_Read]]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        for key, file in compressed.shard_files():
            rejected = rejects.get(key.split, none)
            waiting.append((key.split, file, pool.submit(_read_file, promised, file, rejected)))
            if len(waiting) > at_once:
                split, first, read = waiting.popleft()
                yield split, first, read.result()
        for split, first, read in waiting:
            yield split, first, read.result()


def _documents(compressed: CompleteRun, verified: Verified) -> dict[str, bytes | None]:
    """The files that are not latents, by path; those that are not as listed are problems, None.

    Only what is looked into is kept.
    """
    documents: dict[str, bytes | None] = {}
    for file in compressed.manifest["files"]:
        path = file["path"]
        if not path.startswith(f"{LATENTS_FOLDER}/"):
            content, problem = _content(compressed.folder, file)
            documents[path] = content if path in (SIZES, REJECTS) else b""
            verified.bytes += len(content)
            if problem is not None:
                documents[path] = None
                verified.add(path, problem)
    return documents


def _content(folder: str, file: Mapping[str, Any]) -> tuple[bytes, str | None]:
    """A file's bytes, and what is wrong with them."""
    try:
        content = read_bytes(child(folder, file["path"]), MAX_LATENTS_FILE_BYTES)
    except FileNotFoundError:
        return b"", "is gone"
    except OSError as error:
        return b"", f"cannot be read ({error.strerror or error})"
    if len(content) != file["bytes"]:
        return b"", f"has {len(content):,} bytes, and the manifest says {file['bytes']:,}"
    if sha256(content).hexdigest() != file["sha256"]:
        return content, "has another SHA-256 than the manifest says: it was altered"
    return content, None


def _rejected_ids(content: bytes, verified: Verified) -> dict[str, np.ndarray]:
    """The image_ids of rejects by split; one that is there twice is a problem."""
    seen = Counter[tuple[str, int]]()
    for line in content.splitlines():
        reject = parse_json(line)
        check_shape(reject, _REJECT)
        seen[reject["split"], reject["image_id"]] += 1
    verified.problems += [
        Problem(REJECTS, f"has image_id {image_id} of split {split} {count} times")
        for (split, image_id), count in seen.items()
        if count > 1
    ]
    splits = {split for split, _ in seen}
    return {split: np.array([image for of, image in seen if of == split]) for split in splits}


class _Promised:
    """What the manifest promises of every file of latents."""

    def __init__(self, compressed: CompleteRun) -> None:
        model = compressed.manifest["model"]
        value_type = pa.from_numpy_dtype(np.dtype(STORED_DTYPES[model["latent_dtype"]]))
        self.folder = compressed.folder
        self.schema = latent_schema(model["latent_size"], value_type)
        self.metadata = latents_metadata(compressed.manifest["dataset"]["name"], model)
        self.characters = pa.array(
            [compressed.characters.get(label) for label in range(MAX_LABEL + 1)], pa.string()
        )
        self.longest = max(map(len, compressed.characters.values()), default=0)
        quantization = compressed.quantization
        self.bits = None if quantization is None else quantization.bits


def _read_file(promised: _Promised, file: ShardFile, rejected: np.ndarray) -> _Read:
    content, problem = _content(promised.folder, file._asdict())
    if problem is not None:
        return _Read(0, len(content), None, None, (problem,), is_whole=False)
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as parquet:
            metadata = parquet.metadata
            problems = tuple(_promise_problems(promised, file, parquet))
            if not parquet.schema_arrow.equals(promised.schema):
                return _Read(metadata.num_rows, len(content), None, None, problems)
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
        return _Read(0, len(content), None, None, (problem,), is_whole=False)
    problems += tuple(rows.problems.values())
    if (rows.first, rows.last) != (file.first_image_id, file.last_image_id):
        listed = f"{file.first_image_id} to {file.last_image_id}"
        found = f"goes from image_id {rows.first} to {rows.last}"
        problems += (f"{found}, and the manifest says from {listed}",)
    return _Read(rows.count, len(content), rows.first, rows.last, problems, at_ends=rows.at_ends)


def _promise_problems(
    promised: _Promised, file: ShardFile, parquet: pq.ParquetFile
) -> Iterator[str]:
    """What a file says of itself otherwise than the manifest."""
    metadata = parquet.metadata.metadata or {}
    if parse_json(metadata.get(METADATA_KEY, b"null")) != promised.metadata:
        yield "says otherwise than the manifest what it was made of, and by which model"
    if parquet.metadata.num_rows != file.rows:
        yield f"has {parquet.metadata.num_rows:,} rows, and the manifest says {file.rows:,}"
    schema = parquet.schema_arrow
    if not schema.equals(promised.schema):
        yield f"has other columns than the manifest promises: {' '.join(str(schema).split())}"


class _Rows:
    """The rows of a file, checked batch by batch; of each kind of problem the first one is kept."""

    def __init__(self, promised: _Promised, rejected: np.ndarray) -> None:
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


def _check_split(compressed: CompleteRun, split: str, rejected: int, verified: Verified) -> None:
    counts = compressed.manifest["dataset"]["splits"][split]
    rows = verified.images[split]
    found = {
        "images": rows + rejected,
        "rejected": rejected,
        **dict.fromkeys(("read", "encoded", "written"), rows),
    }
    verified.problems += [
        Problem(MANIFEST, f"says {counts[name]:,} for split {split}, {name}: there are {count:,}")
        for name, count in found.items()
        if counts[name] != count
    ]
    at_ends = verified.at_ends[split]
    verified.problems += [
        Problem(
            MANIFEST,
            f"says {counts[name]:,} for split {split}, {name}: at most {most:,} can have been "
            "clipped",
        )
        for name, most in zip(CLIPPED, at_ends, strict=True)
        if counts.get(name, 0) > most
    ]


def _check_sizes(
    compressed: CompleteRun,
    content: bytes,
    verified: Verified,
    rejects: Mapping[str, np.ndarray],
) -> None:
    """That sizes.json counts what is there."""
    manifest = compressed.manifest
    splits = manifest["dataset"]["splits"]
    sizes = {
        split: Sizes(
            images_read=rows,
            images_rejected=len(rejects.get(split, ())),
            images_encoded=rows,
            images_written=rows,
            uint8_bytes=rows * PIXELS,
            float32_bytes=rows * PIXELS * np.dtype(np.float32).itemsize,
            latent_bytes=rows * manifest["model"]["latent_bytes"],
            parquet_bytes=verified.listed_bytes[split],
            # What was clipped cannot be counted again: the encoder's own values are gone.
            **{name: splits[split].get(name, 0) for name in CLIPPED},
        )
        for split, rows in verified.images.items()
    }
    has_clipped = all(name in counts for counts in splits.values() for name in CLIPPED)
    sources = [Source(**source) for source in manifest["dataset"]["sources"]]
    expected, found = sizes_report(sizes, sources), dict(_leaves(parse_json(content)))
    for place, counted in _leaves(expected):
        said = found.get(place)
        if said != counted and (has_clipped or place[-1] not in CLIPPED):
            name = ".".join(place)
            verified.problems.append(Problem(SIZES, f"says {said} for {name}: it is {counted}"))


def _leaves(value: Mapping[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, below in value.items():
        if isinstance(below, dict):
            yield from _leaves(below, *above, name)
        else:
            yield (*above, name), below
