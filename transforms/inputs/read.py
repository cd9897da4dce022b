"""Reading shards of images as batches: each byte of a file once, in order."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from transforms.errors import ChangedError, InputError, first_line
from transforms.images import (
    MAX_PIXEL,
    NO_LABEL,
    ImageBatch,
    ImageDigest,
    Reject,
    Segment,
    Shard,
    Stretch,
    toned,
    upright,
)
from transforms.inputs.parts import changed, check_unchanged
from transforms.inputs.readers.raw import RAW
from transforms.inputs.readers.rows import Rows
from transforms.inputs.readers.table import READERS


class _Piece(NamedTuple):
    """A segment of a shard. shard: its position within the stretch."""

    shard: int
    segment: Segment


class _Chunk(NamedTuple):
    """Consecutive rows of a segment: what was read of them, and what was rejected."""

    rows: int
    image_ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    rejects: tuple[Reject, ...] = ()


class _Read(NamedTuple):
    """A chunk, and where it belongs: the shard's position within the stretch, and the file."""

    shard: int
    path: str
    chunk: _Chunk


def read_shard(shard: Shard, batch_size: int) -> Iterator[tuple[ImageBatch, tuple[Reject, ...]]]:
    """Reads one shard, as read_stretch does."""
    return read_stretch(Stretch((shard,)), batch_size)


def read_stretch(
    stretch: Stretch, batch_size: int
) -> Iterator[tuple[ImageBatch, tuple[Reject, ...]]]:
    """Reads shards as batches of at most `batch_size` rows, each with the rejects among them.

    No batch holds images of two shards. The last one of a shard has the SHA-256 of the shard's
    images. Batches are full but for the last of each segment and of each row group. What shards
    share of a row group is read once where they follow each other; any others may be left out.

    Raises InputError where a shard has not as many rows as its key says, and where a file is not
    what it was when the shard was planned.
    """
    for shard in stretch.shards:
        _check_rows(shard, sum(segment.rows for segment in shard.segments))
    last = -1
    for position, parts in groupby(_chunks(stretch, batch_size), key=itemgetter(0)):
        shard = stretch.shards[position]
        rows, digest = 0, ImageDigest()
        for _, path, chunk in parts:
            last = _last_rising(chunk.image_ids, last, path)
            rows += chunk.rows
            digest.update(chunk.image_ids, chunk.labels, chunk.pixels)
            done = digest.hexdigest() if rows == shard.key.rows else ""
            yield ImageBatch(shard.key, *chunk[:-1], done, chunk.rejects), chunk.rejects
        _check_rows(shard, rows)


def _check_rows(shard: Shard, rows: int) -> None:
    if rows != shard.key.rows:
        raise InputError(
            f"shard {shard.key.name}: its segments have {rows:,} rows and its key says "
            f"{shard.key.rows:,}: correct the shard, or have transforms.stretches_of make it"
        )


def _last_rising(image_ids: np.ndarray, last: int, path: str) -> int:
    """The last of image_ids that rise from `last` on; raises InputError where they do not."""
    if not len(image_ids):
        return last
    steps = np.diff(image_ids, prepend=last)
    if (steps <= 0).any():
        position = int(np.flatnonzero(steps <= 0)[0])
        before = image_ids[position - 1] if position else last
        raise InputError(
            f"{path}: image_id {image_ids[position]} follows image_id {before}: image_ids must "
            "rise from row to row, each there once"
        )
    return int(image_ids[-1])


def _chunks(stretch: Stretch, batch_size: int) -> Iterator[_Read]:
    for run in _runs(stretch):
        segment = run[0].segment
        split = stretch.shards[run[0].shard].key.split
        try:
            for shard, chunk in _read(run, split, batch_size):
                yield _Read(shard, segment.name, chunk)
            check_unchanged(segment)
        except ChangedError as error:
            raise changed(segment.name) from error
        except (pa.ArrowException, OSError, KeyError, ValueError, MemoryError) as error:
            raise InputError(
                f"{segment.name}: gone or damaged since the job was planned ({first_line(error)}): "
                "put it back, or stage it again, and run it again"
            ) from error


def _runs(stretch: Stretch) -> Iterator[list[_Piece]]:
    """The segments of all shards, those together that follow each other in what is read whole."""
    run: list[_Piece] = []
    for position, shard in enumerate(stretch.shards):
        for segment in filter(lambda segment: segment.rows, shard.segments):
            if run and not _follows(segment, run[-1].segment):
                yield run
                run = []
            run.append(_Piece(position, segment))
    if run:
        yield run


def _follows(segment: Segment, before: Segment) -> bool:
    """Whether a segment goes on where another one ends, and both are read by one reading."""
    if segment.format == RAW and not segment.packing:
        return False
    same = (segment.path, segment.layout, segment.packing)
    return same == (before.path, before.layout, before.packing) and segment.first_row == before.end


def _whole(run: Sequence[_Piece]) -> Segment:
    """All rows of a run as one segment, for the reader; labels and names go with the pieces."""
    rows = run[-1].segment.end - run[0].segment.first_row
    files = [piece.segment.files for piece in run]
    joined = tuple(name for some in files for name in some or ()) if files[0] is not None else None
    return run[0].segment._replace(rows=rows, labels=None, files=joined)


def _read(run: Sequence[_Piece], split: str, batch_size: int) -> Iterator[tuple[int, _Chunk]]:
    """The rows of a run, as (position of the shard within the stretch, chunk)."""
    rows = READERS[run[0].segment.format].read(_whole(run), batch_size)
    for shard, parts in groupby(_cut(rows, run), key=itemgetter(0)):
        chunks = (_chunk(some, segment, start, split) for _, segment, start, some in parts)
        yield from ((shard, chunk) for chunk in _joined(chunks, batch_size))


def _cut(rows: Iterable[Rows], run: Sequence[_Piece]) -> Iterator[tuple[int, Segment, int, Rows]]:
    """The rows by the pieces that they belong to: (shard, segment, its row they begin at, rows)."""
    pieces = deque(run)
    row = run[0].segment.first_row
    for some in rows:
        end = row + some.count
        while pieces and pieces[0].segment.first_row < end:
            shard, segment = pieces[0]
            start, stop = max(row, segment.first_row), min(end, segment.end)
            if start < stop:
                yield shard, segment, start - segment.first_row, some.slice(start - row, stop - row)
            if segment.end > end:
                break
            pieces.popleft()
        row = end


def _chunk(rows: Rows, segment: Segment, start: int, split: str) -> _Chunk:
    """Rows of a segment from its row `start` on, with their labels and image_ids."""
    count, first = rows.count, segment.first_image_id + start
    image_ids = rows.image_ids
    if image_ids is None:
        image_ids = np.arange(first, first + count, dtype=np.int64)
    labels = segment.label_numbers(start, start + count)
    if labels is None:
        labels = rows.labels
    if labels is None:
        labels = np.full(count, NO_LABEL, np.int32)
    pixels = upright(rows.pixels) if segment.transposed else rows.pixels
    pixels = _toned(segment, pixels)
    if not rows.reasons:
        return _Chunk(count, image_ids, labels, pixels)
    row = segment.first_row + start
    rejects = tuple(
        Reject(split, int(image_ids[position]), segment.name, row + position, reason)
        for position, reason in sorted(rows.reasons.items())
    )
    return _Chunk(count, image_ids[rows.readable], labels[rows.readable], pixels, rejects)


def _toned(segment: Segment, pixels: np.ndarray) -> np.ndarray:
    """The pixels from 0 to 255; raises InputError where one is above what the first ones go to."""
    if segment.full < MAX_PIXEL and pixels.size and pixels.max() > segment.full:
        raise InputError(
            f"{segment.name}: has a pixel of {pixels.max()}, and those looked at go up to "
            f"{segment.full}: say by --max_pixel what stands for white"
        )
    return toned(pixels, segment.full, inverted=segment.inverted)


def _joined(chunks: Iterator[_Chunk], batch_size: int) -> Iterator[_Chunk]:
    """The chunks, small ones put together as long as they have no more rows than a batch."""
    waiting: list[_Chunk] = []
    for chunk in chunks:
        rows = sum(each.rows for each in waiting)
        if rows and rows + chunk.rows > batch_size:
            yield _one(waiting)
            waiting, rows = [], 0
        waiting.append(chunk)
        if rows + chunk.rows == batch_size:  # Nobody has to wait for the next one.
            yield _one(waiting)
            waiting = []
    if waiting:
        yield _one(waiting)


def _one(chunks: Sequence[_Chunk]) -> _Chunk:
    if len(chunks) == 1:
        return chunks[0]
    return _Chunk(
        sum(chunk.rows for chunk in chunks),
        np.concatenate([chunk.image_ids for chunk in chunks]),
        np.concatenate([chunk.labels for chunk in chunks]),
        np.concatenate([chunk.pixels for chunk in chunks]),
        tuple(reject for chunk in chunks for reject in chunk.rejects),
    )
