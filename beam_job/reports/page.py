"""Reports as HTML pages, from the templates next to this module."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from beam_job.reports.quality import class_lines, quality_lines
from beam_job.reports.sizes import RunSizes, table_rows
from transforms.printable import printable_lines

if TYPE_CHECKING:
    from beam_job.outputs.run_directory import Manifest
    from beam_job.reports.comparison import Shown


def report_html(manifest: "Manifest", sizes: RunSizes, shown: "Shown | None") -> str:
    """A run of compress as one HTML file that needs no network; all values are escaped."""
    return rendered(
        "report.html.jinja",
        manifest=manifest,
        model=msgspec.to_builtins(manifest.model),
        columns=list(sizes.columns),
        rows=table_rows(sizes),
        total=sizes.total,
        shown=shown,
        quality=quality_lines(shown.quality) if shown else [],
    )


def reconstruction_html(seal: Any, quality: Mapping[str, Any] | None, shown: "Shown | None") -> str:
    """A reconstruction as one HTML file; quality: of all images, None where it is not known."""
    return rendered(
        "reconstruction.html.jinja",
        seal=seal,
        shown=shown,
        quality=quality_lines(quality) if quality else [],
        classes=class_lines(quality) if quality else [],
        worst=quality["worst"] if quality else [],
    )


def rendered(name: str, **values: Any) -> str:
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
