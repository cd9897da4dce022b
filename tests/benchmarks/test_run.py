import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_the_benchmark_on_few_images(tmp_path, emnist_data):
    flags = ["--images=600", "--repeats=1", "--growth", "300", "900", "--one_environment"]
    command = [sys.executable, "-m", "benchmarks.run", *flags, "--ways=job-ncnn"]
    output = [f"--output={tmp_path}/RESULTS.md", f"--data={emnist_data}"]
    done = subprocess.run(
        [*command, *output], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    text = (tmp_path / "RESULTS.md").read_text()
    assert "| hand_written | 1.00 |" in text
    assert "| job-ncnn | " in text
    assert "(results.svg)" in text
    assert (tmp_path / "results.svg").read_text().rstrip().endswith("</svg>")
    every = json.loads((tmp_path / "RESULTS.json").read_text())
    assert list(every["runs"]) == ["hand_written", "job-ncnn"]
    assert list(every["growth"]["job-ncnn"]) == ["300", "900"]
    assert every["differences"]["job-ncnn"] < 1e-4
    assert all(rate > 1e9 for rates in every["limits"].values() for rate in rates)
