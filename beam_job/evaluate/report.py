"""An evaluation for people and for other programs: tables, a page, CompressAI's results."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from beam_job.evaluate.classifiers import Accuracy
from beam_job.evaluate.comparisons import (
    OURS,
    BdRate,
    BreakEven,
    EqualBytes,
    EqualPsnr,
    curves_of,
    frontier,
    psnr_of,
)
from beam_job.reports.codecs import Point
from beam_job.reports.page import rendered
from beam_job.reports.plots import Curve
from beam_job.reports.sizes import columns_of_text
from transforms.printable import printable

TOTAL = "total"

PERHAPS_SEEN = (
    "The model's card does not show that these images were not trained on, so its figures may be "
    "too good."
)

_UNKNOWN = "-"


def named_groups(evaluation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Total and splits by name; a split that is alone is the total."""
    splits = evaluation["splits"]
    return {TOTAL: evaluation["total"], **(splits if len(splits) > 1 else {})}


def curves(group: Mapping[str, Any]) -> list[Curve]:
    """The curves of a group, for the picture."""
    points = [Point(**values) for values in group["points"]]
    return [
        Curve(
            name,
            tuple(found.bytes_per_image for found in curve),
            tuple(psnr_of(found) for found in curve),
            ours=name in OURS,
        )
        for name, curve in curves_of(points).items()
    ]


def compressai_results(evaluation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each curve of all images as CompressAI keeps results, by a name for its file.

    See results/ in github.com/InterDigitalInc/CompressAI. A lossless codec has no PSNR, and is
    not among them.
    """
    points = [Point(**values) for values in evaluation["total"]["points"]]
    dataset, images = evaluation["dataset"]["name"], evaluation["images"]["measured"]
    perhaps_seen = "" if evaluation["unseen"] else f". {PERHAPS_SEEN}"
    return {
        _file_name(codec): {
            "name": codec,
            "description": f"{images:,} held-out images of {dataset}; bpp of all bytes written"
            + (perhaps_seen if codec in OURS else ""),
            "results": {
                "bpp": [found.bpp for found in frontier(curve)],
                "psnr": [found.psnr for found in frontier(curve)],
                "ssim": [found.ssim for found in frontier(curve)],
            },
        }
        for codec, curve in curves_of(points).items()
    }


def _file_name(codec: str) -> str:
    return re.sub("[^a-z0-9]+", "-", codec.lower())


class Table(NamedTuple):
    """Cells of text. text_columns: how many columns, from the left, are words and no numbers."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]
    text_columns: int


def points_table(group: Mapping[str, Any]) -> Table:
    """Every codec at every setting."""
    header = ["codec", "setting", "bytes an image", "of them overhead", "bits a pixel"]
    return Table(
        "Every codec, every setting",
        f"Overhead: bytes that carry no pixels; {_UNKNOWN} where they cannot be told apart. "
        "Latents and PCA are in Parquet with image_id, label and character, which count as "
        "overhead, as does the file's own footer, with what made the latents; it weighs less the "
        "more images are in a file.",
        [*header, "PSNR in dB", "SSIM"],
        [_point_cells(Point(**values)) for values in group["points"]],
        2,
    )


def _point_cells(found: Point) -> list[str]:
    overhead = found.overhead_bytes
    return [
        found.codec,
        found.setting,
        f"{found.bytes_per_image:.1f}",
        _UNKNOWN if overhead is None else f"{overhead / found.images:.1f}",
        f"{found.bpp:.3f}",
        _decibels(found.psnr),
        f"{found.ssim:.4f}",
    ]


def _decibels(psnr: float | None) -> str:
    return "lossless" if psnr is None else f"{psnr:.2f}"


def equal_psnr_table(group: Mapping[str, Any]) -> Table:
    """What other codecs need to be as good as our latents."""
    rows = [EqualPsnr(**values) for values in group["equal_psnr"]]
    return Table(
        "Bytes an image at the PSNR of the latents",
        "Interpolated between a codec's settings; in brackets, where ours is below all of them: "
        "its fewest bytes, and their PSNR.",
        ["latents", "PSNR in dB", "bytes", *dict.fromkeys(row.codec for row in rows)],
        [
            [ours, f"{found[0].psnr:.2f}", f"{found[0].bytes_per_image:.1f}", *map(_needed, found)]
            for ours, found in _by_latents(rows).items()
        ],
        1,
    )


_Row = TypeVar("_Row", EqualPsnr, EqualBytes)


def _by_latents(rows: Iterable[_Row]) -> dict[str, list[_Row]]:
    found: dict[str, list[_Row]] = {}
    for row in rows:
        found.setdefault(row.latents, []).append(row)
    return found


def _needed(row: EqualPsnr) -> str:
    if row.their_bytes_per_image is not None:
        return f"{row.their_bytes_per_image:.1f}"
    if row.psnr < row.smallest_psnr:
        return f"({row.smallest_bytes_per_image:.1f} at {row.smallest_psnr:.1f} dB)"
    return "not reached"


def equal_bytes_table(group: Mapping[str, Any]) -> Table:
    """How good other codecs are in the bytes of our latents."""
    rows = [EqualBytes(**values) for values in group["equal_bytes"]]
    return Table(
        "At equal bytes: PSNR in dB at the bytes of the latents",
        "Interpolated between a codec's settings; in brackets, where even its fewest bytes are "
        "more than ours: these, and their PSNR; at least, where even its most bytes are fewer.",
        ["latents", "bytes an image", "PSNR in dB", *dict.fromkeys(row.codec for row in rows)],
        [
            [ours, f"{found[0].bytes_per_image:.1f}", f"{found[0].psnr:.2f}", *map(_reached, found)]
            for ours, found in _by_latents(rows).items()
        ],
        1,
    )


def _reached(row: EqualBytes) -> str:
    if row.their_psnr is not None:
        return f"{row.their_psnr:.2f}"
    if row.bytes_per_image < row.smallest_bytes_per_image:
        return f"({row.smallest_bytes_per_image:.1f} at {row.smallest_psnr:.1f} dB)"
    return f"at least {row.largest_psnr:.2f}"


def break_even_table(group: Mapping[str, Any]) -> Table:
    """From how many images on the model's own bytes are made up for."""
    rows = [BreakEven(**values) for values in group["break_even"]]
    ours = list(dict.fromkeys(row.latents for row in rows))
    rivals = dict.fromkeys(row.codec for row in rows)
    cells = {(row.latents, row.codec): row for row in rows}
    return Table(
        "From how many images on latents and the model's files together are smaller",
        "Against lossless codecs, and against the others at equal PSNR (or at their fewest bytes, "
        "where even these are better).",
        ["against", *ours],
        [[rival, *(_images(cells.get((our, rival))) for our in ours)] for rival in rivals],
        1,
    )


def _images(row: BreakEven | None) -> str:
    if row is None:
        return _UNKNOWN
    return "never" if row.images is None else f"{row.images:,}"


def bd_rate_table(group: Mapping[str, Any]) -> Table:
    """The Bjontegaard rates."""
    rows = [BdRate(**values) for values in group["bd_rate"]]
    return Table(
        "BD-rate",
        "How many bytes a codec needs beside an anchor at equal PSNR, over the range that both "
        "reach; less than 0 % is fewer.",
        ["codec", "anchor", "bytes", "over"],
        [[row.codec, row.anchor, *_bd_cells(row)] for row in rows],
        2,
    )


def _bd_cells(row: BdRate) -> tuple[str, str]:
    if row.percent is None or row.overlap_db is None:
        return _UNKNOWN, str(row.reason)
    low, high = row.overlap_db
    return f"{row.percent:+.1f} %", f"{low:.1f} to {high:.1f} dB"


def classifiers_table(split: str, judged: Mapping[str, Any]) -> Table:
    """How well a linear classifier tells the labels of a split."""
    rows = [Accuracy(**values) for values in judged["classifiers"]]
    return Table(
        f"A linear classifier on {split}",
        f"Logistic regression to {judged['classes']} classes, fitted to "
        f"{judged['fitted_images']:,} images and tested on {judged['measured_images']:,} held out.",
        ["features", "dimensions", "accuracy", "converged"],
        [
            [
                row.features,
                str(row.dimensions),
                f"{row.accuracy:.2%}",
                "yes" if row.converged else f"no, stopped after {row.steps} steps",
            ]
            for row in rows
        ],
        1,
    )


def tables(evaluation: Mapping[str, Any], name: str) -> list[Table]:
    """All tables of a group."""
    group = named_groups(evaluation)[name]
    judged = evaluation["classifiers"] or {}
    shown = (
        judged
        if len(named_groups(evaluation)) == 1
        else {split: values for split, values in judged.items() if split == name}
    )
    return [
        equal_psnr_table(group),
        equal_bytes_table(group),
        points_table(group),
        break_even_table(group),
        bd_rate_table(group),
        *(classifiers_table(split, values) for split, values in shown.items()),
    ]


def title(evaluation: Mapping[str, Any]) -> str:
    """The heading of an evaluation."""
    return f"Rate and distortion: {evaluation['dataset']['name']}"


def warnings(evaluation: Mapping[str, Any]) -> list[str]:
    """Why its figures may mislead, a paragraph each."""
    return [] if evaluation["unseen"] else [PERHAPS_SEEN]


def notes(evaluation: Mapping[str, Any]) -> list[str]:
    """What a reader has to know first, a paragraph each."""
    images, network = evaluation["images"], evaluation["model"]["bytes"]
    measured_on = (
        f"{images['measured']:,} of {images['held_out']:,} held-out images ({images['rule']})."
    )
    model = (
        f"Model {evaluation['model']['name']}: encoder {network['encoder']:,} and decoder "
        f"{network['decoder']:,} bytes, which no figure an image includes."
    )
    paragraphs = [measured_on, model]
    for left in evaluation["left_out"]:
        paragraphs.append(f"Left out: {left['codec']} ({left['setting']}): {left['reason']}.")
    return paragraphs


def markdown(evaluation: Mapping[str, Any]) -> str:
    """The evaluation as Markdown, a section for each group."""
    lines = [f"# {_text(title(evaluation))}", *warnings(evaluation), *map(_text, notes(evaluation))]
    for name in named_groups(evaluation):
        lines.append(f"## {_text(name)}")
        for table in tables(evaluation, name):
            lines += [f"### {_text(table.title)}", table.note, _markdown_rows(table)]
    return "\n\n".join(lines) + "\n"


def _markdown_rows(table: Table) -> str:
    rule = ["---" if column < table.text_columns else "---:" for column in range(len(table.header))]
    header, *rows = [[_text(cell) for cell in row] for row in (table.header, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _text(text: str) -> str:
    """Text for Markdown: no HTML, link, code or cell begins in it."""
    return re.sub(r"[\\`<&\[|]", r"\\\g<0>", printable(text))


def report_html(evaluation: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """The evaluation as one HTML file that needs no network; all values are escaped."""
    return rendered(
        "evaluation.html.jinja",
        title=title(evaluation),
        warnings=warnings(evaluation),
        notes=notes(evaluation),
        groups=[(name, picture, tables(evaluation, name)) for name, picture in pictures.items()],
        facts=_facts(evaluation),
    )


def _facts(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("created", evaluation["created"]),
        ("dataset fingerprint", str(evaluation["dataset"]["fingerprint"])),
        *(("source", source["path"]) for source in evaluation["dataset"]["sources"]),
        ("encoder SHA-256", evaluation["model"]["encoder_sha256"]),
        ("decoder SHA-256", evaluation["model"]["decoder_sha256"]),
        *evaluation["versions"].items(),
    ]


def terminal_table(evaluation: Mapping[str, Any]) -> list[str]:
    """Bytes an image and PSNR of every codec and setting, for each group."""
    groups = named_groups(evaluation)
    units = [cell for name in groups for cell in (f"{name}: bytes an image", "dB")]
    columns = [[Point(**values) for values in group["points"]] for group in groups.values()]
    lines = [["codec", "setting", *units]]
    for row in zip(*columns, strict=True):
        cells = [
            cell
            for found in row
            for cell in (f"{found.bytes_per_image:.1f}", _decibels(found.psnr))
        ]
        lines.append([row[0].codec, row[0].setting, *cells])
    return columns_of_text(lines, text=(0, 1))
