"""Reports as HTML pages, from the templates next to this module."""

from typing import TYPE_CHECKING, Any

import msgspec

from beam_job.reports.quality import QualityReport, class_rows, quality_rows, worst_rows
from beam_job.reports.sizes import RunSizes, SplitSizes, readable_size
from transforms.images import PIXELS
from transforms.printable import printable_lines

if TYPE_CHECKING:
    from beam_job.outputs.run_directory import Manifest
    from beam_job.reports.preview import Preview

_LISTED_SOURCES = 10


class Bar(msgspec.Struct, frozen=True):
    """A row of the chart of bytes. percent: of the longest bar. ours: what this project makes."""

    name: str
    size: str
    per_image: str
    percent: float
    ours: bool


def report_html(manifest: "Manifest", sizes: RunSizes, preview: "Preview | None") -> str:
    """A run of compress as one HTML file that needs no network; all values are escaped."""
    return render_page(
        "report.html.jinja",
        manifest=manifest,
        headline=_headline(manifest.dataset.name, sizes.total),
        lead=_lead(sizes.total, preview),
        bars=_bars(sizes.total),
        ratios=_ratios(sizes.total),
        splits=_split_rows(sizes) if len(sizes.splits) > 1 else [],
        preview=preview,
        quality=quality_rows(preview.quality) if preview else [],
        provenance=_provenance(manifest),
    )


def _headline(dataset: str, total: SplitSizes) -> str:
    times = total.uint8_to_parquet
    if times is None or times < 1:
        return f"{total.images:,} images of {dataset} as latents"
    return f"{total.images:,} images of {dataset}, {times:.3g} times smaller"


def _lead(total: SplitSizes, preview: "Preview | None") -> str:
    if not total.images:
        return "There are no images in this run."
    lead = (
        f"{readable_size(total.uint8_bytes)} of pixels became {readable_size(total.parquet_bytes)} "
        f"of Parquet: {total.parquet_bytes / total.images:.1f} bytes an image instead of {PIXELS}."
    )
    if preview is None:
        return lead
    quality = preview.quality.total
    found = "exactly as they were" if quality.psnr is None else f"at {quality.psnr:.1f} dB"
    return (
        f"{lead} Decoded, they come back {found} (SSIM {quality.ssim or 0:.3f}), measured on "
        f"{preview.images:,} of them."
    )


def _bars(total: SplitSizes) -> list[Bar]:
    named = {
        "pixels as float32": total.float32_bytes,
        "pixels as uint8": total.uint8_bytes,
        "source files": total.source_bytes,
        "latents, values alone": total.latent_bytes,
        "latents, Parquet files": total.parquet_bytes,
    }
    counts = {name: count for name, count in named.items() if count is not None}
    longest = max(1, *counts.values())
    return [
        Bar(
            name,
            readable_size(count),
            f"{count / max(1, total.images):,.1f}",
            100 * count / longest,
            count == total.parquet_bytes and name.endswith("files"),
        )
        for name, count in counts.items()
    ]


def _ratios(total: SplitSizes) -> list[str]:
    lines = {
        "float32 pixels to latent values, as the notebook counts": total.float32_to_latent,
        "uint8 pixels to Parquet files": total.uint8_to_parquet,
        "source files to Parquet files": total.source_to_parquet,
    }
    return [f"{name}: {ratio:.2f} : 1." for name, ratio in lines.items() if ratio is not None]


def _split_rows(sizes: RunSizes) -> list[list[str]]:
    return [
        ["split", "images", "rejected", "pixels as uint8", "Parquet files", "bytes an image"],
        *(
            [
                name,
                f"{split.images:,}",
                f"{split.rejected:,}",
                readable_size(split.uint8_bytes),
                readable_size(split.parquet_bytes),
                f"{split.parquet_bytes / max(1, split.images):.1f}",
            ]
            for name, split in sizes.splits.items()
        ),
    ]


def _provenance(manifest: "Manifest") -> list[tuple[str, str]]:
    """What made a run, as names and values."""
    sources, model = manifest.dataset.sources, manifest.model
    rows = [
        ("created", manifest.created),
        *(("assumed", note) for note in manifest.notes),
        ("dataset fingerprint", manifest.dataset.fingerprint),
        *(
            ("source", f"{source.path} ({source.bytes:,} bytes)")
            for source in sources[:_LISTED_SOURCES]
        ),
    ]
    if len(sources) > _LISTED_SOURCES:
        rows.append(("source", f"{len(sources) - _LISTED_SOURCES:,} more: see manifest.json"))
    levels = model.quantization and f", {2**model.quantization.bits} levels"
    return [
        *rows,
        ("model", f"{model.name} ({model.parameters:,} parameters)"),
        ("encoder SHA-256", model.sha256),
        ("decoder SHA-256", str(model.decoder_sha256)),
        ("engine", f"{model.engine} {model.precision}"),
        ("latents", f"{model.latent_size} x {model.latent_dtype}{levels or ''}"),
        ("versions", _versions(manifest.versions)),
    ]


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def reconstruction_html(seal: Any, quality: QualityReport | None, preview: "Preview | None") -> str:
    """A reconstruction as one HTML file; quality: of all images, None where it is not known."""
    return render_page(
        "reconstruction.html.jinja",
        seal=seal,
        preview=preview,
        quality=quality_rows(quality) if quality else [],
        classes=class_rows(quality.classes) if quality else [],
        worst=worst_rows(quality.worst) if quality else [],
        provenance=[
            ("run", f"{seal.run.folder} ({seal.run.run_id})"),
            ("model", seal.model.name),
            ("decoder SHA-256", seal.model.decoder_sha256),
            ("versions", _versions(seal.versions)),
        ],
    )


def render_page(name: str, **values: Any) -> str:
    """A page from a template of this package.

    All values but pictures are escaped: nothing in them is markup, or changes the direction of the
    text next to it.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("beam_job.reports"),
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)


def _printable(value: Any) -> Any:
    is_markup = hasattr(value, "__html__")
    return printable_lines(value) if isinstance(value, str) and not is_markup else value
