"""CSV with a pixel a column, as Kaggle has EMNIST and MNIST."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from transforms.errors import ChangedError, InputError, first_line
from transforms.images import PIXELS
from transforms.inputs.content import HEAD_BYTES, Content, scratch_content
from transforms.inputs.dataset import CHARACTERS
from transforms.inputs.formats.arrays import raw_part, scale_of
from transforms.inputs.formats.parquet import LABEL_NAMES
from transforms.inputs.formats.part import Part, Wanted, is_transposed, with_texts
from transforms.inputs.names import is_of_emnist, kind_of
from transforms.inputs.parts import changed
from transforms.inputs.readers.raw import RawLayout
from transforms.inputs.readers.rows import to_pixels
from transforms.storage.scratch import ScratchFile

NAME = "CSV"

_DELIMITERS = ",;\t"
_BLOCK_BYTES = 4 << 20
_MOST_LABEL_CHARACTERS = 1000


class _Columns(NamedTuple):
    """What the columns are. label: the position of the labels; None where there are none."""

    delimiter: str
    label: int | None
    has_header: bool
    are_whole: bool


def recognizes(content: Content) -> bool:
    """Whether the first line is text of some hundred columns."""
    line = _first_lines(content)[:1]
    return bool(line) and any(line[0].count(mark) >= PIXELS - 1 for mark in _DELIMITERS)


def describe(content: Content, wanted: Wanted) -> list[Part]:
    """The images; how many there are is known at the end, so they are unpacked as they are read."""
    columns = _columns(content)
    try:
        part = _unpacked(content, columns, wanted)
    except ChangedError as error:
        raise changed(content.name) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{content.name}: cannot be read as CSV ({_without_row(error)}): save it again"
        ) from error
    header = "a header" if columns.has_header else "no header"
    label = "" if columns.label is None else f"column {columns.label + 1}"
    return [
        part._replace(
            characters=CHARACTERS.get(kind_of(content.name) or "", {}),
            labels_in=label,
            notes=(*part.notes, f"{content.name}: {header}"),
        )
    ]


def _without_row(error: Exception) -> str:
    """What Arrow says, without the row itself."""
    return re.sub(r"(got \d+).*", r"\1", first_line(error))


def _first_lines(content: Content) -> list[str]:
    head = content.head
    if head.count(b"\n") < 2:  # noqa: PLR2004
        head = content.first(HEAD_BYTES)
    return head.removeprefix(b"\xef\xbb\xbf").decode("latin-1").splitlines()[:2]


def _columns(content: Content) -> _Columns:
    lines = _first_lines(content)
    delimiter = max(_DELIMITERS, key=lines[0].count)
    first, *others = csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter)
    has_header = sum(map(_is_number, first)) < PIXELS - 1
    values = others[0] if has_header and others else first
    label = _label_column(content.name, first, has_header=has_header)
    return _Columns(delimiter, label, has_header, not re.search(r"[.eE]", "".join(values[1:])))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label_column(name: str, first: Sequence[str], *, has_header: bool) -> int | None:
    if len(first) == PIXELS:
        return None
    named = [text.strip().lower() for text in first] if has_header else []
    by_name = next((named.index(label) for label in LABEL_NAMES if label in named), None)
    if len(first) == PIXELS + 1 and (by_name is not None or not has_header):
        return by_name or 0
    raise InputError(
        f"{name}: has {len(first)} columns; images are {PIXELS}, and one of labels: first, or "
        f"called {LABEL_NAMES[0]!r}: save it so"
    )


def _unpacked(content: Content, columns: _Columns, wanted: Wanted) -> Part:
    labels: list[str] = []
    rows = 0
    scale: float | None = None
    notes: tuple[str, ...] = ()
    with ScratchFile(content.name, wanted.scratch, wanted.max_unpacked_bytes) as file:
        for values, texts in _batches(content, columns):
            if scale is None:
                scale, notes = scale_of(content.name, values)
            file.write(to_pixels(content.name, values, scale))
            labels += texts
            rows += len(values)
    unpacked = scratch_content(content.name, file.found())
    transposed = is_transposed(wanted.orientation, stored_by_nist=is_of_emnist(content.name))
    part = raw_part(unpacked, RawLayout(rows=rows), wanted, transposed=transposed)
    part = part._replace(notes=notes)
    return part if columns.label is None else with_texts(part, labels)


def _batches(content: Content, columns: _Columns) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Pixels (n, 784), and the texts of the labels, if there are any."""
    names = [str(place) for place in range(PIXELS + (columns.label is not None))]
    label = None if columns.label is None else names[columns.label]
    pixels = [name for name in names if name != label]
    kind = pa.int16() if columns.are_whole else pa.float32()
    types = dict.fromkeys(pixels, kind) | ({} if label is None else {label: pa.string()})
    with content.stream() as stream:
        reader = pa.csv.open_csv(
            pa.PythonFile(stream, "r"),
            pa.csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                column_names=names,
                skip_rows=int(columns.has_header),
            ),
            pa.csv.ParseOptions(delimiter=columns.delimiter),
            pa.csv.ConvertOptions(column_types=types),
        )
        for batch in reader:
            values = np.stack(
                [batch.column(name).to_numpy(zero_copy_only=False) for name in pixels], 1
            )
            texts = [] if label is None else batch.column(label).to_pylist()
            yield values, [_label_text(text) for text in texts]


def _label_text(text: str | None) -> str:
    """A label as it is written; a whole number as float is one."""
    if not text:
        raise ValueError("a label is empty")
    number = text.strip().removesuffix(".0")
    return number[:_MOST_LABEL_CHARACTERS]
