"""The reports, as people see them: opened in a real headless Chromium."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_job.__main__ import run
from tests.conftest import RUNNER, compress

pytestmark = pytest.mark.long

# 3 best, 3 median, 6 worst, and one of each of 10 classes.
PICTURES = {"run": 22, "decoded": 22, "evaluation": 0}
PHONE, DESK = (390, 844), (1200, 900)
# What a page looks like from inside, said in its title.
PROBE = """<script>addEventListener("load", () => {
  const pictures = [...document.images];
  document.title = JSON.stringify({
    width: document.documentElement.scrollWidth,
    window: innerWidth,
    pictures: pictures.length,
    broken: pictures.filter(picture => !picture.naturalWidth).length,
    plots: document.querySelectorAll("svg").length,
    plotWidth: document.querySelector("svg").getBoundingClientRect().width,
    fetched: performance.getEntriesByType("resource")
      .filter(entry => !entry.name.startsWith("data:")).map(entry => entry.name),
  });
})</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail("there is no Chromium, and a CI that does not look at the reports is none")
    pytest.skip("there is no Chromium to look at the reports with")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports of a run, of its reconstruction, and of an evaluation."""
    folder = tmp_path_factory.mktemp("reports")
    data_dir = f"--data_dir={folder / 'data'}"
    flags = ["--latent_dtype=int8", data_dir, f"--output={folder / 'run'}", "--quiet"]
    assert compress("--dataset=sample", *flags) == 0
    decoded = ["--originals=sample", data_dir, f"--output={folder / 'decoded'}", "--quiet"]
    argv = ["reconstruct", f"--input={folder / 'run'}", *decoded, f"--runner={RUNNER}"]
    assert run(argv) == 0
    evaluated = ["--max_images=20", data_dir, f"--output={folder / 'evaluation'}", "--quiet"]
    assert run(["evaluate", "--dataset=sample", *evaluated]) == 0
    return {name: folder / name / "report.html" for name in PICTURES}


def chrome(chromium: str, page: Path, size: tuple[int, int], *flags: str) -> str:
    """Opens a page in a window of this size, with no network but data."""
    profile = page.parent / f"profile-{size[0]}"
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=3000",
            f"--user-data-dir={profile}",
            f"--window-size={size[0]},{size[1]}",
            *flags,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_report_is_whole_and_fits_its_window(name, size, reports, chromium, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(reports[name].read_text().replace("</body>", f"{PROBE}</body>"))
    shown = chrome(chromium, page, size, "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", shown)
    assert title is not None
    seen = json.loads(title[1])
    assert seen["fetched"] == []
    assert seen["broken"] == 0
    assert seen["pictures"] == PICTURES[name]
    assert seen["plots"] == 1
    assert 300 < seen["plotWidth"] <= seen["window"]
    assert seen["width"] <= seen["window"]


def test_a_report_is_drawn_and_prints(reports, chromium, tmp_path):
    picture, printed = tmp_path / "report.png", tmp_path / "report.pdf"
    page = tmp_path / "report.html"
    shutil.copy(reports["run"], page)
    chrome(chromium, page, DESK, f"--screenshot={picture}")
    chrome(chromium, page, DESK, f"--print-to-pdf={printed}")
    with Image.open(picture) as image:
        grey = np.asarray(image.convert("L"))
    assert grey.shape == DESK[::-1]
    assert len(np.unique(grey)) > 50
    assert 0.01 < (grey < 128).mean() < 0.5
    assert len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) == 2


def test_a_report_is_dark_where_the_reader_prefers_it(reports, chromium, tmp_path):
    page, picture = tmp_path / "report.html", tmp_path / "dark.png"
    shutil.copy(reports["run"], page)
    dark = "--blink-settings=preferredColorScheme=0"
    chrome(chromium, page, DESK, dark, f"--screenshot={picture}")
    with Image.open(picture) as image:
        assert np.median(np.asarray(image.convert("L"))) < 30


@pytest.mark.parametrize("name", PICTURES)
def test_a_report_can_be_read_aloud_and_by_keyboard(name, reports):
    text = reports[name].read_text()
    assert text.count("<h1>") == 1
    assert '<html lang="en">' in text
    for tag in re.findall(r"<img [^>]*>", text):
        assert re.search(r'alt="[^"]+"', tag)
    assert len(re.findall(r"<svg", text)) == len(re.findall(r'role="img" aria-label="[^"]+"', text))
    for table in re.findall(r"<div class=\"scroll\"[^>]*>", text):
        assert 'tabindex="0" role="region" aria-label="' in table


def test_a_report_says_what_was_measured(reports):
    run_folder = reports["run"].parent
    text = reports["run"].read_text()
    sizes = json.loads((run_folder / "sizes.json").read_text())["total"]
    times = sizes["uint8_bytes"] / sizes["parquet_bytes"]
    assert f"<h1>1,797 images of sample, {times:.3g} times smaller</h1>" in text
    assert f"{sizes['parquet_bytes'] / 1797:.1f} bytes an image instead of 784" in text
    for fact in ("1.34 MB", "5.37 MB", "pretrained", "32 x int8, 256 levels"):
        assert fact in text
    quality = json.loads((reports["decoded"].parent / "quality.json").read_text())
    assert f"{quality['total']['psnr']:.2f} dB" in reports["decoded"].read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)


def test_values_are_escaped(tmp_path, random_images):
    path = tmp_path / "<b>bold & co.npy"
    np.save(path, random_images)
    assert compress(f"--input={path}", f"--output={tmp_path}/out", "--quiet") == 0
    text = (tmp_path / "out/report.html").read_text()
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold &amp; co.npy" in text
