import subprocess
import sys

from tests.documentation.cli_page import PAGE
from tests.support.files_of import ROOT


def test_the_page_is_what_the_parsers_say():
    code = "from tests.documentation.cli_page import cli_page; print(cli_page(), end='')"
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert PAGE.read_text("utf-8") == made.stdout, "run `make cli`"
