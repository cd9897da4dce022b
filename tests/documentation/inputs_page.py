"""The table of forms in docs/inputs.md: `python -m tests.documentation.inputs_page`."""

import os
import re
import tempfile
from pathlib import Path

from tests.support.files_of import ROOT
from tests.support.forms import FORMS, Form
from transforms.errors import InputError
from transforms.inputs.dataset import cut_stretches
from transforms.inputs.files import files_dataset
from transforms.inputs.read import read_stretch

PAGE = ROOT / "docs/inputs.md"
_TABLE = re.compile(r"(?s)(<!-- forms: .*?-->\n).*?(<!-- end -->)")
_RIGHT = "right"


def with_table(page: str) -> str:
    """The page with the table of what each form gives."""
    lines = ["", "| form | | what comes out |", "|---|---|---|"]
    lines += [f"| {form.group} | {form.name} | {answer(form)} |" for form in FORMS]
    table = "\n".join([*lines, "", ""])
    return _TABLE.sub(lambda found: found[1] + table + found[2], page)


def answer(form: Form) -> str:
    """What the program says of a form, asked in its folder; `right` where it reads it."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            dataset = files_dataset(form.make(Path()), None, "auto", **form.flags)
            for stretch in cut_stretches(dataset, 16):
                for _ in read_stretch(stretch, 16):
                    pass
        except InputError as error:
            return f"refused: {_plain(str(error))}"
        finally:
            os.chdir(before)
    return _RIGHT


def _plain(line: str) -> str:
    """A line in a cell: no marks of Markdown or HTML, and no addresses in memory."""
    return re.sub(r"([|<>*_`\\])", r"\\\1", line)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), encoding="utf-8")
