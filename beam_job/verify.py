"""Reads a run back and says whether it is whole.

`python -m beam_job verify --input=out/sample --against=sample`

Every file is compared with the manifest, and every row with what the manifest promises of it. With
the images at hand some of them, or all, are encoded again and compared with their latents.
"""

import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_job import publishing
from beam_job.datasets import Source, counts_in_words, cut_shards
from beam_job.decoded_sample import one_in
from beam_job.inputs import check_file_system
from beam_job.lines import say
from beam_job.model_facts import STORED_DTYPES, latents_metadata
from beam_job.options import DONE, FAILED, ImageOptions, VerifyOptions
from beam_job.progress import Progress, tick
from beam_job.report import sizes_report
from beam_job.run_directory import (
    CLIPPED,
    MANIFEST,
    REJECTS,
    REPORT,
    SIZES,
    CompleteRun,
    complete_run,
)
from beam_job.run_model import model_of_run
from beam_job.stage import known_dataset, open_dataset, with_gzips_staged
from transforms.decode import LatentColumns, latent_columns
from transforms.encode import latents_of
from transforms.engines.choice import choose_engine, load_encoder
from transforms.engines.network import Network
from transforms.errors import InputError
from transforms.files import PARTS_AT_ONCE, exists, file_bytes, list_files, read_bytes
from transforms.images import (
    IMAGE_ID_COLUMN,
    LABEL_COLUMN,
    NO_LABEL,
    PIXELS,
    ImageBatch,
    Shard,
    read_shard,
)
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
from transforms.quantize import Quantization, stored_values
from transforms.shard_files import ShardFile
from transforms.sizes import Sizes

_TOLERANCE = 1e-4
"""How far apart the float32 latents of two engines may be, as a share of the largest (or of 1)."""

_READ_IMAGES = 1024
_SHOWN_PROBLEMS = 20
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

    at_ends: by split.
    """

    files: int = 0
    bytes: int = 0
    images: dict[str, int] = field(default_factory=dict)
    at_ends: dict[str, AtEnds] = field(default_factory=dict)
    compared: int = 0
    problems: list[Problem] = field(default_factory=list)


class _Read(NamedTuple):
    """What a file of latents was found to hold. is_whole: it is the file that was listed."""

    rows: int
    bytes: int
    first_image_id: int | None
    last_image_id: int | None
    rejected: frozenset[int]
    problems: tuple[str, ...]
    is_whole: bool = True
    at_ends: AtEnds = AtEnds()


def run(options: VerifyOptions) -> int:
    """Verifies the run that the options name, and shows what was found; 0 if it is whole."""
    for flag in ("input", "model"):
        check_file_system(flag, getattr(options, flag))
    compressed = complete_run(options.input)
    if options.against is not None:
        known_dataset(options.against)
    verified = read_back(compressed)
    if options.against is not None and not verified.problems:
        compare_again(compressed, options, options.against, verified)
    _show(compressed, options, verified)
    return FAILED if verified.problems else DONE


def read_back(compressed: CompleteRun) -> Verified:
    """Compares all that is in a run directory with its manifest."""
    try:
        return _read_back(compressed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"is not what compress writes ({type(error).__name__}: {error})"
        return Verified(problems=[Problem(MANIFEST, reason)])


def _read_back(compressed: CompleteRun) -> Verified:
    manifest = compressed.manifest
    listed = Counter(file["path"] for file in manifest["files"])
    verified = Verified(files=len(listed))
    verified.problems += [
        Problem(MANIFEST, f"lists {path} {count} times")
        for path, count in listed.items()
        if count > 1
    ]
    verified.problems += [
        Problem(path, "is not in the manifest") for path in _unlisted(compressed.folder, listed)
    ]
    verified.problems += [
        Problem(MANIFEST, f"does not list {name}") for name in (SIZES, REPORT) if not listed[name]
    ]
    documents = _documents(compressed, verified)
    rejects = _rejected_ids(documents.get(REJECTS, b""), verified)
    keys_and_files = compressed.shard_files()
    extra = {path for path in listed if path.startswith(f"{LATENTS_FOLDER}/")}
    extra -= {file.path for _, file in keys_and_files}
    verified.problems += [Problem(path, "is of no shard of the dataset") for path in sorted(extra)]
    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        reads = list(
            pool.map(
                lambda pair: _read_file(
                    compressed, pair[1], rejects.get(pair[0].split, frozenset())
                ),
                keys_and_files,
            )
        )
    for (_, file), read in zip(keys_and_files, reads, strict=True):
        verified.problems += [Problem(file.path, problem) for problem in read.problems]
        verified.bytes += read.bytes
    parts = list(zip(keys_and_files, reads, strict=True))
    for split in compressed.staged:
        of_split = [(file, read) for (key, file), read in parts if key.split == split]
        verified.images[split] = sum(read.rows for _, read in of_split)
        verified.at_ends[split] = AtEnds(
            sum(read.at_ends.values for _, read in of_split),
            sum(read.at_ends.images for _, read in of_split),
        )
        _check_order(of_split, verified)
    # What is counted of files that are gone, or altered, would only say again that they are.
    if len(documents) + sum(read.is_whole for read in reads) == len(listed) - len(extra):
        for split in compressed.staged:
            _check_split(compressed, split, rejects.get(split, frozenset()), verified)
        if SIZES in documents:
            _check_sizes(compressed, documents[SIZES], verified, rejects)
    return verified


def _unlisted(folder: str, listed: Mapping[str, int]) -> Iterator[str]:
    """What lies in a run's own folders, and is not in the manifest, by its path below the run."""
    for name in (LATENTS_FOLDER, "rejects"):
        known = {publishing.child(folder, path) for path in listed}
        top = publishing.child(folder, "x").removesuffix("x")
        for path in list_files(publishing.child(folder, f"{name}/**")):
            if path not in known:
                yield path.removeprefix(top)


def _documents(compressed: CompleteRun, verified: Verified) -> dict[str, bytes]:
    """The files that are no latents, by path; those that are not as listed are problems."""
    documents = {}
    for file in compressed.manifest["files"]:
        if not file["path"].startswith(f"{LATENTS_FOLDER}/"):
            content, problem = _content(compressed.folder, file)
            if problem is None:
                documents[file["path"]] = content
            else:
                verified.problems.append(Problem(file["path"], problem))
            verified.bytes += len(content)
    return documents


def _content(folder: str, file: Mapping[str, Any]) -> tuple[bytes, str | None]:
    """A file's bytes, and what is wrong with them."""
    name = file["path"]
    path = publishing.child(folder, name)
    if not exists(path):
        return b"", "is gone"
    try:
        size = file_bytes(path)
        if size != file["bytes"]:
            return b"", f"has {size:,} bytes, and the manifest says {file['bytes']:,}"
        content = read_bytes(path, MAX_LATENTS_FILE_BYTES)
    except OSError as error:
        return b"", f"cannot be read ({error.strerror or error})"
    if sha256(content).hexdigest() != file["sha256"]:
        return content, "has another SHA-256 than the manifest says: it was altered"
    return content, None


def _rejected_ids(content: bytes, verified: Verified) -> dict[str, frozenset[int]]:
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
    return {split: frozenset(image for of, image in seen if of == split) for split in splits}


def _read_file(compressed: CompleteRun, file: ShardFile, rejected: frozenset[int]) -> _Read:
    content, problem = _content(compressed.folder, file._asdict())
    if problem is not None:
        return _Read(0, len(content), None, None, frozenset(), (problem,), is_whole=False)
    try:
        with pq.ParquetFile(io.BytesIO(content)) as parquet:
            problems = tuple(_promise_problems(compressed, file, parquet))
            if not parquet.schema_arrow.equals(_schema(compressed)):
                rows = parquet.metadata.num_rows
                return _Read(rows, len(content), None, None, frozenset(), problems)
            check_latents_fit(file.path, parquet)
        # A character that is stored once, for all rows to refer to, is to stay so.
        with pq.ParquetFile(io.BytesIO(content), read_dictionary=[CHARACTER_COLUMN]) as parquet:
            table = parquet.read()
        problems += tuple(_row_problems(compressed, file, table))
    except (OSError, ValueError, MemoryError, pa.ArrowException, InputError) as error:
        problem = f"cannot be read as Parquet ({' '.join(str(error).split())})"
        return _Read(0, len(content), None, None, frozenset(), (problem,), is_whole=False)
    image_ids = table.column(IMAGE_ID_COLUMN).to_pylist()
    first, last = (image_ids[0], image_ids[-1]) if image_ids else (None, None)
    found = rejected.intersection(image_ids)
    at_ends = _at_ends(table, compressed.quantization)
    return _Read(table.num_rows, len(content), first, last, found, problems, at_ends=at_ends)


def _schema(compressed: CompleteRun) -> pa.Schema:
    model = compressed.manifest["model"]
    value_type = pa.from_numpy_dtype(np.dtype(STORED_DTYPES[model["latent_dtype"]]))
    return latent_schema(model["latent_size"], value_type)


def _promise_problems(
    compressed: CompleteRun, file: ShardFile, parquet: pq.ParquetFile
) -> Iterator[str]:
    """What a file says of itself otherwise than the manifest."""
    manifest, metadata = compressed.manifest, parquet.metadata.metadata or {}
    promised = latents_metadata(manifest["dataset"]["name"], manifest["model"])
    if parse_json(metadata.get(METADATA_KEY, b"null")) != promised:
        yield "says otherwise than the manifest what it was made of, and by which model"
    if parquet.metadata.num_rows != file.rows:
        yield f"has {parquet.metadata.num_rows:,} rows, and the manifest says {file.rows:,}"
    schema = parquet.schema_arrow
    if not schema.equals(_schema(compressed)):
        yield f"has other columns than the manifest promises: {' '.join(str(schema).split())}"


def _row_problems(compressed: CompleteRun, file: ShardFile, table: pa.Table) -> Iterator[str]:
    image_ids = table.column(IMAGE_ID_COLUMN).to_numpy()
    if (np.diff(image_ids) <= 0).any():
        place = int(np.flatnonzero(np.diff(image_ids) <= 0)[0])
        yield f"has image_id {image_ids[place + 1]} behind {image_ids[place]}"
    ends = (int(image_ids[0]), int(image_ids[-1])) if len(image_ids) else (None, None)
    if ends != (file.first_image_id, file.last_image_id):
        yield (
            f"goes from image_id {ends[0]} to {ends[1]}, and the manifest says from "
            f"{file.first_image_id} to {file.last_image_id}"
        )
    yield from _value_problems(compressed, table, image_ids)


def _at_ends(table: pa.Table, quantization: Quantization | None) -> AtEnds:
    """What of a file's latents may have been clipped; nothing where they are not quantized."""
    if quantization is None:
        return AtEnds()
    lists = table.column(LATENT_COLUMN).combine_chunks().drop_null()
    numbers = lists.flatten().fill_null(1).to_numpy(zero_copy_only=False)
    numbers = numbers.reshape(len(lists), lists.type.list_size)
    at_ends = (numbers == 0) | (numbers == 2**quantization.bits - 1)
    return AtEnds(int(at_ends.sum()), int(at_ends.any(axis=1).sum()))


def _value_problems(
    compressed: CompleteRun, table: pa.Table, image_ids: np.ndarray
) -> Iterator[str]:
    labels = table.column(LABEL_COLUMN).to_pylist()
    named = pa.array([compressed.characters.get(label) for label in labels], pa.string())
    if not _same_characters(table.column(CHARACTER_COLUMN), named):
        yield "names other characters for its labels than the manifest"
    lists = table.column(LATENT_COLUMN).combine_chunks()
    if lists.null_count or lists.flatten().null_count:
        yield "lacks latents: some are null"
        return
    latents = lists.flatten().to_numpy(zero_copy_only=False)
    latents = latents.reshape(len(image_ids), lists.type.list_size)
    wrong = ~np.isfinite(latents).all(axis=1)
    if wrong.any():
        yield f"has a latent that is not finite, for image_id {image_ids[wrong][0]}"
    quantization = compressed.quantization
    if quantization is not None and (latents >= 2**quantization.bits).any():
        yield f"has a latent of {latents.max()}, more than {quantization.bits} bits hold"


def _same_characters(stored: pa.ChunkedArray, named: pa.Array) -> bool:
    """Whether characters, stored as a dictionary in each chunk, are those that labels stand for."""
    longest = max([0, *(len(name) for name in named.unique().to_pylist() if name)])
    for chunk in stored.chunks:
        lengths = pc.utf8_length(chunk.dictionary)
        if len(lengths) and pc.max(lengths).as_py() > longest:
            return False
    return bool(stored.cast(pa.string()).combine_chunks().equals(named))


def _check_order(files: Sequence[tuple[ShardFile, _Read]], verified: Verified) -> None:
    """Every image_id of a split once and in order, over its files; none is a reject too."""
    for file, read in files:
        for image_id in sorted(read.rejected)[:1]:
            verified.problems.append(
                Problem(file.path, f"has image_id {image_id}, which was rejected")
            )
    filled = [(file, read) for file, read in files if read.first_image_id is not None]
    for (_, before), (file, after) in pairwise(filled):
        if after.first_image_id <= before.last_image_id:  # type: ignore[operator]
            verified.problems.append(
                Problem(
                    file.path,
                    f"begins with image_id {after.first_image_id}, and the file before it ends "
                    f"with {before.last_image_id}",
                )
            )


def _check_split(
    compressed: CompleteRun, split: str, rejected: frozenset[int], verified: Verified
) -> None:
    counts = compressed.manifest["dataset"]["splits"][split]
    rows = verified.images[split]
    found = {
        "images": rows + len(rejected),
        "rejected": len(rejected),
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
    rejects: Mapping[str, frozenset[int]],
) -> None:
    """That sizes.json counts what is there."""
    manifest = compressed.manifest
    splits = manifest["dataset"]["splits"]
    files = [file for _, file in compressed.shard_files()]
    sizes = {
        split: Sizes(
            images_read=rows,
            images_rejected=len(rejects.get(split, ())),
            images_encoded=rows,
            images_written=rows,
            uint8_bytes=rows * PIXELS,
            float32_bytes=rows * PIXELS * np.dtype(np.float32).itemsize,
            latent_bytes=rows * manifest["model"]["latent_bytes"],
            parquet_bytes=sum(file.bytes for file in files if file.split == split),
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


def compare_again(
    compressed: CompleteRun, options: VerifyOptions, against: ImageOptions, verified: Verified
) -> None:
    """Encodes images again and compares them with the run's latents.

    Raises InputError where the images, or the model, are not those of the run.
    """
    model = model_of_run(compressed, options.model, decodes=False)
    engine = choose_engine(model, None, compressed.manifest["model"]["precision"])
    network = load_encoder(model, engine)
    every = -(-compressed.images // options.max_images)
    with tempfile.TemporaryDirectory(prefix="emnist-verify-") as folder:
        dataset = with_gzips_staged(open_dataset(against), folder)
        if dataset.rows != compressed.staged:
            raise InputError(
                f"--against holds {counts_in_words(dataset.rows)}, and the run in "
                f"{compressed.folder} was made of {counts_in_words(compressed.staged)}: give the "
                "images that it was made of"
            )
        shards = {shard.key: shard for shard in cut_shards(dataset, compressed.shard_size)}
        with Progress(min(compressed.images, options.max_images), quiet=options.quiet) as progress:
            for key, file in compressed.shard_files():
                compared, problem = _compare_shard(compressed, shards[key], file, network, every)
                verified.compared += compared
                if problem is not None:
                    verified.problems.append(Problem(file.path, problem))
                tick(progress.path, compared)


def _compare_shard(
    compressed: CompleteRun, shard: Shard, file: ShardFile, network: Network, every: int
) -> tuple[int, str | None]:
    """How many images of a shard were encoded again, and what is wrong with their latents."""
    facts = compressed.manifest["model"]
    stored = latent_columns(publishing.child(compressed.folder, file.path), file.sha256, facts)
    compared = 0
    for whole, _ in read_shard(shard, _READ_IMAGES):
        batch = whole.take(np.flatnonzero(one_in(whole.image_ids, every)))
        if not len(batch):
            continue
        missing = ~np.isin(batch.image_ids, stored.image_ids)
        if missing.any():
            return compared, f"lacks image_id {batch.image_ids[missing][0]}"
        encoded = latents_of(network.compute, batch.pixels)
        problem = _difference(batch, stored, encoded, compressed, network.output_step)
        if problem is not None:
            return compared, problem
        compared += len(batch)
    return compared, None


def _difference(
    batch: ImageBatch,
    stored: LatentColumns,
    encoded: np.ndarray,
    compressed: CompleteRun,
    output_step: float,
) -> str | None:
    """What differs between images encoded again and what is stored of them; None for nothing."""
    rows = np.searchsorted(stored.image_ids, batch.image_ids)
    theirs = stored.labels[rows]
    relabelled = (theirs != batch.labels) & (theirs != NO_LABEL) & (batch.labels != NO_LABEL)
    if relabelled.any():
        return f"has another label for image_id {batch.image_ids[relabelled][0]}"
    dtype = STORED_DTYPES[compressed.manifest["model"]["latent_dtype"]]
    quantization = compressed.quantization
    far = _far_apart(stored.latents[rows], encoded, dtype, quantization, output_step)
    if not far.any():
        return None
    return f"has other latents than the encoder gives for image_id {batch.image_ids[far][0]}"


def _far_apart(
    stored: np.ndarray,
    encoded: np.ndarray,
    dtype: str,
    quantization: Quantization | None,
    output_step: float = 0.0,
) -> np.ndarray:
    """Which rows differ by more than another engine, or another rounding, makes them: bool (n,).

    output_step: as Network has it. Other kernels, on another processor or by another version, round
    the sums of an encoder in int8 otherwise, which moves a value by one step.
    """
    expected = stored_values(encoded, dtype, quantization)
    difference = np.abs(stored.astype(np.float64) - expected.astype(np.float64))
    if quantization is not None:
        steps = np.ceil(output_step / np.asarray(quantization.scale, np.float64))
        return np.asarray((difference > steps + 1).any(axis=1))  # 1: on the edge of two levels.
    allowed = _TOLERANCE * np.maximum(1.0, np.abs(encoded).max(axis=1, keepdims=True)) + output_step
    if dtype == "float16":
        allowed = allowed + np.spacing(np.abs(expected)).astype(np.float64)
    return np.asarray((difference > allowed).any(axis=1))


def _show(compressed: CompleteRun, options: VerifyOptions, verified: Verified) -> None:
    if options.json:
        described = {
            "input": compressed.folder,
            "run_id": compressed.manifest["run_id"],
            "whole": not verified.problems,
            "files": verified.files,
            "bytes": verified.bytes,
            "images": verified.images,
            "compared": verified.compared,
            "problems": [problem._asdict() for problem in verified.problems],
        }
        say(*json.dumps(described, indent=2).split("\n"))
        return
    for problem in verified.problems[:_SHOWN_PROBLEMS]:
        say(f"{problem.path} {problem.problem}")
    if len(verified.problems) > _SHOWN_PROBLEMS:
        say(f"... and {len(verified.problems) - _SHOWN_PROBLEMS:,} problems more: --json has all")
    if verified.problems:
        say(f"{compressed.folder} is NOT whole: compress again")
    elif not options.quiet:
        images = " and ".join(
            f"{rows:,} images of {name}" for name, rows in verified.images.items()
        )
        again = f"; {verified.compared:,} encoded again" if options.against else ""
        say(
            f"{compressed.folder} is whole: {verified.files} files, {verified.bytes:,} bytes, "
            f"{images}{again}"
        )
