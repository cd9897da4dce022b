"""Reports as HTML pages, from the templates next to this module."""

from typing import TYPE_CHECKING, Any

import msgspec

from beam_job.reports.quality import QualityReport, class_rows, quality_rows
from beam_job.reports.sizes import RunSizes, table_rows
from transforms.printable import printable_lines

if TYPE_CHECKING:
    from beam_job.outputs.run_directory import Manifest
    from beam_job.reports.preview import Preview


def report_html(manifest: "Manifest", sizes: RunSizes, preview: "Preview | None") -> str:
    """A run of compress as one HTML file that needs no network; all values are escaped."""
    return render_page(
        "report.html.jinja",
        manifest=manifest,
        model=msgspec.to_builtins(manifest.model),
        columns=list(sizes.columns),
        rows=table_rows(sizes),
        total=sizes.total,
        preview=preview,
        quality=quality_rows(preview.quality) if preview else [],
    )


def reconstruction_html(seal: Any, quality: QualityReport | None, preview: "Preview | None") -> str:
    """A reconstruction as one HTML file; quality: of all images, None where it is not known."""
    return render_page(
        "reconstruction.html.jinja",
        seal=seal,
        preview=preview,
        quality=quality_rows(quality) if quality else [],
        classes=class_rows(quality.classes) if quality else [],
        worst=quality.worst if quality else [],
    )


def render_page(name: str, **values: Any) -> str:
    """A page from a template of this package; all values are escaped but for pictures.

    So that nothing in them is markup, or turns the direction of the text beside it.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("beam_job.reports"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)


def _shown(value: Any) -> Any:
    is_markup = hasattr(value, "__html__")
    return printable_lines(value) if isinstance(value, str) and not is_markup else value
