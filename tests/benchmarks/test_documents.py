"""What README.md and docs/ say of time, memory, requests and bytes is what was measured."""

import re

import pytest

from beam_job import exit_status
from beam_job.runners.beam_flags import check_running_mode
from benchmarks import measured
from benchmarks.documents import DOCUMENTS, SECTIONS, filled
from tests.documentation.pages import read
from transforms.errors import UsageError
from transforms.storage.files import REQUESTS_AT_ONCE


@pytest.mark.parametrize("page", DOCUMENTS)
def test_the_tables_are_what_the_script_computes(page: str):
    text = read(page)
    assert re.search(r"^<!-- \w+: ", text, re.MULTILINE)
    assert filled(text) == text, "run python -m benchmarks.documents"


def test_every_table_is_on_a_page():
    shown = re.findall(r"^<!-- (\w+): python", "".join(map(read, DOCUMENTS)), re.MULTILINE)
    assert sorted(shown) == sorted(SECTIONS)


def test_worker_processes_are_refused_for_what_they_took():
    times = [several.wall / one.wall for one, several in measured.processes().values()]
    with pytest.raises(UsageError) as refused:
        check_running_mode(["--direct_running_mode=multi_processing"])
    assert f"{min(times):.1f} to {max(times):.1f} times as long" in str(refused.value)
    assert len(times) == 2


def test_publishing_is_one_copy_a_file_as_many_at_a_time_as_the_page_says():
    assert measured.requests_a_file("publish").get("COPY") == 1
    assert f"one copy for each file, {REQUESTS_AT_ONCE} at a time" in " ".join(
        read("docs/reliability.md").split()
    )


def test_failures_lists_the_exit_statuses_that_there_are():
    table = read("docs/failures.md").partition("<!-- statuses -->")[2]
    listed = [int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert listed == [
        exit_status.DONE,
        exit_status.FAILED,
        exit_status.WRONG,
        exit_status.WITH_REJECTS,
        exit_status.INTERRUPTED,
    ]


def test_the_readmes_quality_is_that_of_the_table():
    table = read("benchmarks/quality/table.md")
    rows = re.findall(
        r"^\| ((?:float|int8)[^|]*?) \| [\d.]+ \| (.+)\|$", read("README.md"), re.MULTILINE
    )
    assert len(rows) >= 4
    for name, cells in rows:
        setting = name.removeprefix("int8, ")
        measured_rows = re.findall(rf"^\| latents \w+ \| {setting} \|(.*)$", table, re.MULTILINE)
        for psnr, ssim in re.findall(r"([\d.]+) dB(?:, SSIM|,) ([\d.]+)", cells):
            assert any(
                psnr in row
                and any(f"{float(one):.3f}" == ssim for one in re.findall(r"0\.\d{4}", row))
                for row in measured_rows
            ), f"{name}: {psnr} dB, {ssim}"
