from tests.documentation.inputs_page import PAGE, with_table
from tests.support.forms import FORMS


def test_the_table_of_forms_is_what_the_program_does():
    page = PAGE.read_text("utf-8")
    assert page == with_table(page), "run `python -m tests.documentation.inputs_page`"
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    read = [form for form in FORMS if not form.refused]
    assert sum(row.endswith("| right |") for row in rows) == len(read)
