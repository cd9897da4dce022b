"""An evaluation for people and for other programs: Markdown, a page, CompressAI's results."""

import re

from beam_job.evaluate.comparisons import OURS, curves_of, frontier, psnr_of
from beam_job.evaluate.evaluation import Evaluation
from beam_job.evaluate.tables import Table, group_table, tables
from beam_job.reports.page import render_page
from beam_job.reports.plots import Curve, rate_distortion_png, rate_distortion_svg
from beam_job.reports.quality import in_decibels, worst_first
from beam_job.reports.sizes import columns_of_text
from transforms.json_documents import encode
from transforms.printable import printable

TABLE = "table.md"
REPORT = "report.html"
PICTURE = "rate_distortion"
RESULTS = "results"

PERHAPS_SEEN = (
    "The model's card does not show that these images were not trained on, so its figures may be "
    "too good."
)
_WORST_CLASSES = 5


def documents(evaluation: Evaluation) -> dict[str, bytes]:
    """The files for people and other programs, by path."""
    curves = _curves(evaluation)
    svg = rate_distortion_svg(curves)
    return {
        TABLE: markdown(evaluation).encode(),
        REPORT: _report_html(evaluation, svg).encode(),
        f"{PICTURE}.svg": svg.encode(),
        f"{PICTURE}.png": rate_distortion_png(curves),
        **{
            f"{RESULTS}/{name}.json": encode(result)
            for name, result in compressai_results(evaluation).items()
        },
    }


def _curves(evaluation: Evaluation) -> list[Curve]:
    return [
        Curve(
            name,
            tuple(point.bytes_per_image for point in curve),
            tuple(psnr_of(point) for point in curve),
            ours=name in OURS,
        )
        for name, curve in curves_of(evaluation.points).items()
    ]


def compressai_results(evaluation: Evaluation) -> dict[str, dict[str, object]]:
    """Each curve of all images as CompressAI keeps results, by a name for its file.

    See results/ in github.com/InterDigitalInc/CompressAI. A lossless codec has no PSNR, and is
    not among them.
    """
    dataset, images = evaluation.dataset.name, evaluation.images.measured
    perhaps_seen = "" if evaluation.unseen else f". {PERHAPS_SEEN}"
    return {
        re.sub("[^a-z0-9]+", "-", codec.lower()): {
            "name": codec,
            "description": f"{images:,} held-out images of {dataset}; bpp of all bytes written"
            + (perhaps_seen if codec in OURS else ""),
            "results": {
                name: [getattr(point, name) for point in frontier(curve)]
                for name in ("bpp", "psnr", "ssim")
            },
        }
        for codec, curve in curves_of(evaluation.points).items()
    }


def _title(evaluation: Evaluation) -> str:
    return f"Rate and distortion: {evaluation.dataset.name}"


def _warnings(evaluation: Evaluation) -> list[str]:
    """Why its figures may mislead, a paragraph each."""
    return [] if evaluation.unseen else [PERHAPS_SEEN]


def _notes(evaluation: Evaluation) -> list[str]:
    """What a reader has to know first, a paragraph each."""
    images, model = evaluation.images, evaluation.model
    model_bytes = (
        f"Model {model.name}: encoder {model.bytes['encoder']:,} and decoder "
        f"{model.bytes['decoder']:,} bytes, which no figure an image includes."
    )
    left_out = [
        f"Left out: {codec.codec} ({codec.setting}): {codec.reason}."
        for codec in evaluation.left_out
    ]
    return [
        *worst_classes(evaluation),
        f"{images.measured:,} of {images.held_out:,} held-out images ({images.rule}).",
        model_bytes,
        *left_out,
    ]


def worst_classes(evaluation: Evaluation) -> list[str]:
    """A sentence that names the worst classes; none where there is one class or none."""
    classes = evaluation.quality["float32"].classes
    named = [
        f"{name} ({in_decibels(classes[name].psnr)})"
        for name in worst_first(classes)[:_WORST_CLASSES]
    ]
    return [f"Worst classes: {', '.join(named)}."] if len(classes) > 1 else []


def markdown(evaluation: Evaluation) -> str:
    """The evaluation as Markdown."""
    lines = [
        f"# {_text(_title(evaluation))}",
        *_warnings(evaluation),
        *map(_text, _notes(evaluation)),
    ]
    for table in tables(evaluation):
        lines += [f"## {_text(table.title)}", table.note, _markdown_rows(table)]
    return "\n\n".join(filter(None, lines)) + "\n"


def _markdown_rows(table: Table) -> str:
    rule = ["---" if column < table.text_columns else "---:" for column in range(len(table.header))]
    header, *rows = [[_text(cell) for cell in row] for row in (table.header, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _text(text: str) -> str:
    """Text for Markdown, in which no HTML, link, code or cell begins."""
    return re.sub(r"[\\`<&\[|]", r"\\\g<0>", printable(text))


def _report_html(evaluation: Evaluation, picture: str) -> str:
    """The evaluation as one HTML file that needs no network; all values are escaped."""
    return render_page(
        "evaluation.html.jinja",
        title=_title(evaluation),
        warnings=_warnings(evaluation),
        notes=_notes(evaluation),
        picture=picture,
        tables=tables(evaluation),
        provenance=[
            ("created", evaluation.created),
            ("dataset fingerprint", str(evaluation.dataset.fingerprint)),
            *(("source", source.path) for source in evaluation.dataset.sources),
            ("encoder SHA-256", evaluation.model.encoder_sha256),
            ("decoder SHA-256", str(evaluation.model.decoder_sha256)),
            *evaluation.versions.items(),
        ],
    )


def terminal_lines(evaluation: Evaluation) -> list[str]:
    """Bytes an image and PSNR of every codec and setting, then the quality by group."""
    points = [
        [
            point.codec,
            point.setting,
            f"{point.bytes_per_image:.1f}",
            "lossless" if point.psnr is None else f"{point.psnr:.2f}",
        ]
        for point in evaluation.points
    ]
    groups = group_table(evaluation.quality)
    return [
        *columns_of_text([["codec", "setting", "bytes an image", "dB"], *points], text=(0, 1)),
        "",
        *columns_of_text([["PSNR in dB", *groups.header[1:]], *groups.rows]),
        *worst_classes(evaluation),
    ]
