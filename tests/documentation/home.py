"""A folder with the files that the pages' commands name, and running a page in it."""

import gzip
import io
import os
import re
import shlex
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits

from beam_job.cli import parse
from tests.documentation.pages import Command, blocks, commands, read
from tests.support.files_of import ROOT
from tests.support.nist import idx_images, idx_labels, matlab_zip

PLACEHOLDER = re.compile(r"\b(BUCKET|HOST|PROJECT|REGION|IMAGE|MACHINE)\b")
"""In commands that need what no test has: they are read as they would be when run, not run."""
_OURS = (["emnist-latents"], ["python", "-m", "beam_job"])


def make_home(folder: Path) -> None:
    """Makes the files. Images of EMNIST's files are some digits, drawn larger."""
    folder.mkdir(exist_ok=True)
    digits = load_digits()
    images = np.zeros((60, 28, 28), np.uint8)
    images[:, 6:22, 6:22] = np.repeat(np.repeat(digits.images[:60] * 15, 2, 1), 2, 2)
    labels = digits.target[:60]
    for name, content in [
        ("emnist-mnist-test-images-idx3-ubyte", idx_images(images.transpose(0, 2, 1))),
        ("emnist-mnist-test-labels-idx1-ubyte", idx_labels(labels)),
    ]:
        (folder / name).write_bytes(content)
        subprocess.run(["gzip", folder / name], check=True)
    stored = images.transpose(0, 2, 1)
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        for split in ("train", "test"):
            start = f"gzip/emnist-balanced-{split}"
            archive.writestr(f"{start}-images-idx3-ubyte.gz", gzip.compress(idx_images(stored)))
            archive.writestr(f"{start}-labels-idx1-ubyte.gz", gzip.compress(idx_labels(labels)))
    rows = np.column_stack([labels, stored.reshape(-1, 784)])
    np.savetxt(folder / "emnist-balanced-train.csv", rows, "%d", ",")
    for number, image in enumerate(images[:9]):
        picture = folder / f"pictures/{labels[number]}/{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(_png(image))
    for name, array in [("images", images), ("labels", labels)]:
        (folder / name).mkdir()
        np.save(folder / name / "some.npy", array)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    (folder / "scans").mkdir()
    for number, image in enumerate(images[:3]):
        Image.fromarray(255 - image).resize((56, 56)).save(folder / f"scans/{number}.png")
    encoded = [{"bytes": _png(image), "path": None} for image in images[:9]]
    table = pa.table({"image": encoded, "label": pa.array(labels[:9], pa.int64())})
    pq.write_table(table, folder / "hugging-face.parquet")
    cache = folder / "keras/datasets"
    cache.mkdir(parents=True)
    matlab_zip(
        cache / "emnist_matlab.npz",
        {"balanced": {"train": (images, labels), "test": (images[:20], labels[:20])}},
    )


def _png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def run_page(page: str, home: Path, binaries: Path) -> int:
    """Runs a page's commands and examples, top to bottom, and compares what they print.

    binaries: the folder with the environment's programs. Gives how many were run.
    """
    ran = 0
    for block in blocks(read(page)):
        if block.kind == "console":
            for command in commands(block):
                _run_command(command, home, binaries)
                ran += 1
        elif block.kind == "python":
            python = f"{binaries}/python"
            done = _run([python, "-c", block.text], home, binaries)
            assert done.returncode == 0, f"{block.text}\n{done.stderr}"
            ran += 1
    return ran


def _run_command(command: Command, home: Path, binaries: Path) -> None:
    words = shlex.split(command.line, comments=True)
    ours = next((own for own in _OURS if words[: len(own)] == own), None)
    if words[0] == "pip":
        _check_extras(command.line)
        return
    if words[0] == "." or command.line.startswith("python -m venv"):
        return
    if ours and PLACEHOLDER.search(command.line):
        assert parse(words[len(ours) :]).beam_flags.options is not None
        return
    if words[0] == "make":
        recipe = _recipe(words[1])
        if words[1] != "run":
            return
        words = shlex.split(recipe.replace("$(BIN)/", ""))
    done = _run(
        ["bash", "-c", command.line] if words[0] != "emnist-latents" else words, home, binaries
    )
    said = done.stdout + done.stderr
    fails = any(line.startswith(("error: ", "interrupted")) for line in command.shown)
    assert (done.returncode == 0) != fails, f"$ {command.line}\n{said}"
    for line in command.shown:
        alike = any(_alike(line.split(), other.split()) for other in said.splitlines())
        assert alike or line.strip() == "...", f"$ {command.line}\n{line!r} is not in\n{said}"


def _run(argv: list[str], home: Path, binaries: Path) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "KERAS_HOME": str(home / "keras"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        argv, cwd=home, env=environment, capture_output=True, text=True, check=False
    )


def _recipe(target: str) -> str:
    """What the Makefile does for a target, which is there."""
    made = re.search(rf"^{target}:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made, f"make {target}: there is no such target"
    return made[1]


def _check_extras(command: str) -> None:
    """An extra of ours that a page installs is one that setup.py has."""
    for extra in re.findall(r"\[(\w+)\]", command):
        assert f'"{extra}":' in (ROOT / "setup.py").read_text(), f"{command}: no such extra"


def _alike(shown: list[str], said: list[str]) -> bool:
    """The same words; numbers within 2%, as versions of what is below us move file sizes."""
    return len(shown) == len(said) and all(
        one == other or _near(one, other) for one, other in zip(shown, said, strict=True)
    )


def _near(one: str, other: str) -> bool:
    try:
        first, second = (float(word.replace(",", "").rstrip("%")) for word in (one, other))
    except ValueError:
        return False
    return abs(first - second) <= 0.02 * abs(first)
