"""What README.md and docs/ say of time, memory, requests and bytes is what was measured."""

import re

import pytest

from beam_job import exit_status
from beam_job.runners.beam_flags import check_running_mode
from benchmarks import measured
from benchmarks.documents import DOCUMENTS, SECTIONS, filled
from benchmarks.scaling import latent_bytes
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


def test_sizes_of_balanced_are_its_images_times_the_bytes_of_an_image():
    images, size = 112_800, latent_bytes()
    text = " ".join(read("README.md").split())
    pixels, parquet = re.findall(r"([\d.]+) MB of (?:pixels|Parquet)", text)
    assert float(pixels) == pytest.approx(images * 784 / 1e6, abs=0.05)
    assert float(parquet) == pytest.approx(images * size["int8, 5 bits"] / 1e6, abs=0.05)
    answer = " ".join(read("docs/faq.md").split())
    floats, small = re.findall(r"([\d.]+) MB with (?:float32 latents|5 bits)", answer)
    assert float(floats) == pytest.approx(images * size["float32"] / 1e6, abs=0.5)
    assert small == parquet


def test_memory_is_what_was_measured():
    answer = " ".join(read("docs/faq.md").split())
    (light, heavy) = re.findall(r"needs ([\d.]+) MB of memory instead of ([\d.]+) GB", answer)[0]
    assert float(light) == pytest.approx(measured.peak_bytes("job-ncnn") / 2**20, rel=0.1)
    assert float(heavy) == pytest.approx(measured.peak_bytes("job-tensorflow") / 2**30, rel=0.1)
    (most, files) = re.findall(
        r"takes less than (\d+) MB, and has (\d+) files open",
        " ".join(read("docs/reliability.md").split()),
    )[0]
    (load,) = re.findall(
        r"`compress --precision=int8`, 8,142,550 images \| (\d+) MB \| (\d+) \|",
        read("benchmarks/CAMPAIGNS.md"),
    )
    assert int(most) - 50 < int(load[0]) < int(most)
    assert files == load[1]


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
