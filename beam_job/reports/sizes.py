"""The byte counts of a run: sizes.json, and as text."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from beam_job.outputs.run_directory import MEGABYTE
from transforms.inputs.dataset import Source
from transforms.json_documents import Count
from transforms.printable import printable
from transforms.sizes import Sizes, add_sizes

_MANY_CLIPPED = 0.01
"""EMNIST's own test images have 0.02% of their values clipped in 8 bits, and 0.5% in 4 bits."""


class SplitSizes(msgspec.Struct, frozen=True):
    """What a split was before and is after, in bytes, megabytes and ratios.

    source_bytes: None where no file, or none that is of one split alone, was the source. clipped_*:
    None in earlier runs.
    """

    images: Count
    rejected: Count
    uint8_bytes: Count
    float32_bytes: Count
    latent_bytes: Count
    parquet_bytes: Count
    source_bytes: Count | None
    clipped_values: Count | None = None
    clipped_images: Count | None = None
    uint8_mb: float = 0
    float32_mb: float = 0
    latent_mb: float = 0
    parquet_mb: float = 0
    float32_to_latent: float | None = None
    uint8_to_latent: float | None = None
    uint8_to_parquet: float | None = None
    source_to_parquet: float | None = None


class RunSizes(msgspec.Struct, frozen=True):
    """sizes.json: each split, and all of them."""

    splits: dict[str, SplitSizes]
    total: SplitSizes

    @property
    def columns(self) -> dict[str, SplitSizes]:
        """What a table of them shows: no total of a single split."""
        return self.splits if len(self.splits) == 1 else {**self.splits, "total": self.total}


def sizes_report(sizes: Mapping[str, Sizes], sources: Sequence[Source]) -> RunSizes:
    """The sizes of each split and in total."""
    splits = {
        split: _split_sizes(counted, _source_bytes(sources, split))
        for split, counted in sizes.items()
    }
    total = sum(source.bytes for source in sources) if sources else None
    return RunSizes(splits, _split_sizes(add_sizes(sizes.values()), total))


def _source_bytes(sources: Sequence[Source], split: str) -> int | None:
    if not sources or any(source.split is None for source in sources):
        return None
    return sum(source.bytes for source in sources if source.split == split)


def _split_sizes(sizes: Sizes, source_bytes: int | None) -> SplitSizes:
    return SplitSizes(
        images=sizes.images_written,
        rejected=sizes.images_rejected,
        uint8_bytes=sizes.uint8_bytes,
        float32_bytes=sizes.float32_bytes,
        latent_bytes=sizes.latent_bytes,
        parquet_bytes=sizes.parquet_bytes,
        source_bytes=source_bytes,
        clipped_values=sizes.clipped_values,
        clipped_images=sizes.clipped_images,
        uint8_mb=sizes.uint8_bytes / MEGABYTE,
        float32_mb=sizes.float32_bytes / MEGABYTE,
        latent_mb=sizes.latent_bytes / MEGABYTE,
        parquet_mb=sizes.parquet_bytes / MEGABYTE,
        float32_to_latent=_ratio(sizes.float32_bytes, sizes.latent_bytes),
        uint8_to_latent=_ratio(sizes.uint8_bytes, sizes.latent_bytes),
        uint8_to_parquet=_ratio(sizes.uint8_bytes, sizes.parquet_bytes),
        source_to_parquet=None if not source_bytes else _ratio(source_bytes, sizes.parquet_bytes),
    )


def clipping_notes(sizes: Mapping[str, Sizes]) -> list[str]:
    """A line for each split of whose latent values more than _MANY_CLIPPED were clipped."""
    return [
        # Values are clipped only where they are quantized, and one takes a byte then.
        f"{counted.clipped_values / counted.latent_bytes:.1%} of the latent values of split "
        f"{split} are outside the range that the model was calibrated on and were clipped, in "
        f"{counted.clipped_images:,} of {counted.images_encoded:,} images: the images are unlike "
        "those that the model was trained on; check that they are upright and that ink is bright "
        "on black (255 on 0), or train a model on images like these"
        for split, counted in sizes.items()
        if counted.clipped_values > _MANY_CLIPPED * counted.latent_bytes
    ]


def _ratio(before: int, after: int) -> float | None:
    return round(before / after, 4) if after else None


_ROWS = (
    ("images", "images", "count"),
    ("  rejected", "rejected", "some"),
    ("original, uint8", "uint8_bytes", "bytes"),
    ("", "uint8_mb", "megabytes"),
    ("original, float32", "float32_bytes", "bytes"),
    ("", "float32_mb", "megabytes"),
    ("latents, values alone", "latent_bytes", "bytes"),
    ("", "latent_mb", "megabytes"),
    ("latents, Parquet files", "parquet_bytes", "bytes"),
    ("source files", "source_bytes", "bytes"),
    ("float32 : latent values", "float32_to_latent", "ratio"),
    ("uint8 : Parquet files", "uint8_to_parquet", "ratio"),
    ("source : Parquet files", "source_to_parquet", "ratio"),
)
_NOTES = {
    "float32_to_latent": "as the notebook counts",
    "uint8_to_parquet": "the honest ratio",
}


def terminal_table(sizes: RunSizes) -> list[str]:
    """The byte counts as lines of plain text: each split and the total, and a note."""
    header = ["", *sizes.columns, ""]
    rows = [
        [label, *(_cell(getattr(column, field), kind) for column in sizes.columns.values()), note]
        for label, field, kind in _ROWS
        for note in (_NOTES.get(field, ""),)
    ]
    lines = [header, *(row for row in rows if any(row[1:-1]))]
    return columns_of_text(lines, text=(0, len(header) - 1))


def _cell(value: float | None, kind: str) -> str:
    if value is None or (kind == "some" and not value):
        return ""
    if kind == "bytes":
        return f"{value:,} B"
    if kind == "megabytes":
        return f"{value!r} MB"  # Exact, as the reference prints it.
    return f"{value:.2f} : 1" if kind == "ratio" else f"{value:,}"


def readable_size(count: int) -> str:
    """A number of bytes in MB or KB, with three digits that matter."""
    size, unit = (count / MEGABYTE, "MB") if count >= MEGABYTE / 10 else (count / 1024, "KB")
    places = max(0, 2 - int(math.log10(size))) if size >= 1 else 2
    return f"{size:,.{places}f} {unit}"


def columns_of_text(lines: Sequence[Sequence[str]], text: Sequence[int] = (0,)) -> list[str]:
    """Cells under each other; numbers to the right, the columns of `text` to the left."""
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if position in text else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
