"""Reading a run back: every file and every row is compared with the manifest."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_job.outputs.attempt import ATTEMPT_PREFIX, STRAY_NAMES
from beam_job.outputs.run_directory import (
    MANIFEST,
    REJECTS,
    SIZES,
    CompleteRun,
)
from beam_job.reports.sizes import RunSizes, sizes_report
from beam_job.verify.read_files import AtEnds, Promised, Read, listed_content, read_file
from transforms.errors import ChangedError
from transforms.images import (
    PIXELS,
)
from transforms.json_documents import Count, decode
from transforms.latents import (
    LATENTS_FOLDER,
)
from transforms.shard_files import ShardFile
from transforms.sizes import Sizes
from transforms.storage.files import (
    FoundFile,
    child,
    list_folder,
    list_names,
    open_binary,
)

_CLIPPED = ("clipped_values", "clipped_images")
_FILES_AT_ONCE = 16
_BYTES_AT_ONCE = 64 << 20
"""Files of latents are read whole, as their SHA-256 is checked first: so many at once, at most."""


class _RejectedImage(msgspec.Struct):
    """A line of REJECTS, as far as it is compared."""

    split: str
    image_id: Count


class Problem(NamedTuple):
    """Something that is not as the manifest promises. path: below the run directory."""

    path: str
    problem: str


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


def read_back(compressed: CompleteRun) -> Verified:
    """Compares all that is in a run directory with its manifest."""
    try:
        return _read_back(compressed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"is not what compress writes ({type(error).__name__}: {error})"
        return Verified(problems=[Problem(MANIFEST, reason)])


def _read_back(compressed: CompleteRun) -> Verified:
    listed = Counter(file.path for file in compressed.manifest.listed)
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
) -> Iterator[tuple[str, ShardFile, Read]]:
    """What each file of latents holds, with its split; as many at once as memory allows."""
    promised = Promised(compressed)
    none = np.zeros(0, np.int64)
    largest = max((file.bytes for _, file in compressed.shard_files()), default=0)
    at_once = max(1, min(_FILES_AT_ONCE, _BYTES_AT_ONCE // max(1, largest)))
    waiting: deque[tuple[str, ShardFile, Future[Read]]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        for key, file in compressed.shard_files():
            rejected = rejects.get(key.split, none)
            waiting.append((key.split, file, pool.submit(read_file, promised, file, rejected)))
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
    for file in compressed.manifest.documents:
        content, problem = listed_content(compressed.folder, file)
        documents[file.path] = content if file.path in (SIZES, REJECTS) else b""
        verified.bytes += len(content)
        if problem is not None:
            documents[file.path] = None
            verified.add(file.path, problem)
    return documents


def _rejected_ids(content: bytes, verified: Verified) -> dict[str, np.ndarray]:
    """The image_ids of rejects by split; one that is there twice is a problem."""
    seen = Counter[tuple[str, int]]()
    for line in content.splitlines():
        reject = decode(line, _RejectedImage)
        seen[reject.split, reject.image_id] += 1
    verified.problems += [
        Problem(REJECTS, f"has image_id {image_id} of split {split} {count} times")
        for (split, image_id), count in seen.items()
        if count > 1
    ]
    splits = {split for split, _ in seen}
    return {split: np.array([image for of, image in seen if of == split]) for split in splits}


def _check_split(compressed: CompleteRun, split: str, rejected: int, verified: Verified) -> None:
    counts = compressed.manifest.dataset.splits[split]
    rows = verified.images[split]
    found = {
        "images": rows + rejected,
        "rejected": rejected,
        **dict.fromkeys(("read", "encoded", "written"), rows),
    }
    verified.problems += [
        Problem(MANIFEST, f"says {said:,} for split {split}, {name}: there are {count:,}")
        for name, count in found.items()
        if (said := getattr(counts, name)) != count
    ]
    at_ends = verified.at_ends[split]
    verified.problems += [
        Problem(
            MANIFEST,
            f"says {said:,} for split {split}, {name}: at most {most:,} can have been clipped",
        )
        for name, most in zip(_CLIPPED, at_ends, strict=True)
        if (said := getattr(counts, name) or 0) > most
    ]


def _check_sizes(
    compressed: CompleteRun,
    content: bytes,
    verified: Verified,
    rejects: Mapping[str, np.ndarray],
) -> None:
    """That sizes.json counts what is there."""
    manifest = compressed.manifest
    splits = manifest.dataset.splits
    sizes = {
        split: Sizes(
            images_read=rows,
            images_rejected=len(rejects.get(split, ())),
            images_encoded=rows,
            images_written=rows,
            uint8_bytes=rows * PIXELS,
            float32_bytes=rows * PIXELS * np.dtype(np.float32).itemsize,
            latent_bytes=rows * manifest.model.latent_bytes,
            parquet_bytes=verified.listed_bytes[split],
            # What was clipped cannot be counted again: the encoder's own values are gone.
            **{name: getattr(splits[split], name) or 0 for name in _CLIPPED},
        )
        for split, rows in verified.images.items()
    }
    has_clipped = all(counts.clipped_values is not None for counts in splits.values())
    expected = sizes_report(sizes, manifest.dataset.sources)
    try:
        found = dict(_leaves(msgspec.to_builtins(decode(content, RunSizes))))
    except ValueError as error:
        verified.add(SIZES, f"is not what compress writes ({error})")
        return
    for place, counted in _leaves(msgspec.to_builtins(expected)):
        said = found.get(place)
        if said != counted and (has_clipped or place[-1] not in _CLIPPED):
            name = ".".join(place)
            verified.problems.append(Problem(SIZES, f"says {said} for {name}: it is {counted}"))


def _leaves(value: Mapping[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, below in value.items():
        if isinstance(below, dict):
            yield from _leaves(below, *above, name)
        else:
            yield (*above, name), below
