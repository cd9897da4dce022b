"""Text from data does no harm where it is shown, nothing in it is executed, modes are ordinary."""

import ast
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_job.__main__ import run
from beam_job.console import say, tell
from beam_job.datasets.emnist import archive_path, fetch_archive
from beam_job.evaluate.report import _text
from beam_job.exit_status import WITH_REJECTS
from beam_job.reports.plots import Curve, rate_distortion_svg
from tests.beam_job.conftest import FileServer
from tests.conftest import PRETRAINED, RUNNER, compress, rows
from tests.support.error_inputs import pictures
from tests.support.files_of import ROOT
from tests.support.nist import idx_images, matlab_zip
from tests.transforms.test_images import png
from transforms.printable import is_unicode, printable, printable_lines

SOURCES = sorted([*ROOT.glob("beam_job/**/*.py"), *ROOT.glob("transforms/**/*.py")])

# A tag, quotes, what clears a screen (in seven bits and in eight), goes back, or begins a line that
# looks like ours, and what turns the direction of text.
HOSTILE = "<img src=x onerror=alert(1)>\"'&|`$x$\x1b[2J\x9b2J\r\b\x07\x7f\nerror: no\u202egpj.x"
ESCAPED = (
    "<img src=x onerror=alert(1)>\"'&|`$x$\\x1b[2J\\x9b2J\\r\\x08\\x07\\x7f\\nerror: no\\u202egpj.x"
)
CHARACTERS = ["<script>alert(1)</script>", "\x1b[2J\u202e", "|", "é"]


def test_what_is_not_printable_is_shown_as_escapes():
    assert printable(HOSTILE) == printable(ESCAPED) == ESCAPED
    assert printable("Zoë's 画像 № 5.npy") == "Zoë's 画像 № 5.npy"
    assert printable("f\udcff\u2028\u200b\t") == r"f\udcff\u2028\u200b\t"
    assert printable_lines("a\x1b\nb\r") == "a\\x1b\nb\\r"
    assert [is_unicode(text) for text in ("é", "\udcff", "\ud83d\ude00", "😀")] == [1, 0, 0, 1]


def test_only_lines_print():
    printing = {
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    }
    assert printing == {"console.py"}, "beam_job.console says things so that they do no harm"


def test_lines_are_those_that_were_given(capsys):
    say("a", HOSTILE)
    tell(HOSTILE)
    assert capsys.readouterr() == (f"a\n{ESCAPED}\n", f"{ESCAPED}\n")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of images, and a model, of hostile names; labels stand for such too."""
    folder = tmp_path_factory.mktemp("hostile")
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28), np.uint8)
    features = {"info": {"features": {"label": {"names": CHARACTERS}}}}
    table = pa.table(
        {"image": pictures(*map(png, images), b"none"), "label": [0, 1, 2, 3, 0, 1, 2, 3, 0]}
    ).replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, folder / HOSTILE)
    shutil.copytree(PRETRAINED, folder / f"model {HOSTILE}")
    return folder


@pytest.fixture(scope="module")
def hostile_run(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of them, and all that was said of it."""
    output = tmp_path_factory.mktemp("runs") / "run"
    argv = ["compress", f"--input={hostile / HOSTILE}", f"--output={output}", "--max_rejects=1"]
    argv += [f"--model={hostile}/model {HOSTILE}", "--latent_dtype=int8", f"--runner={RUNNER}"]
    command = [sys.executable, "-m", "beam_job", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == WITH_REJECTS, done.stderr
    return output, done.stdout + done.stderr


def assert_harmless(text: str) -> None:
    assert [char for char in text if not char.isprintable() and char != "\n"] == []


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless_page(path: Path) -> Tags:
    page = path.read_text()
    assert_harmless(page)
    parsed = Tags(page)
    assert all(tag != "script" for tag, _ in parsed.tags)
    assert not [name for _, names in parsed.tags for name in names if name.startswith("on")]
    return parsed


def test_a_run_of_hostile_names_is_like_any_other(hostile, hostile_run, capfd):
    output, said = hostile_run
    assert_harmless(said)
    page = assert_harmless_page(output / "report.html")
    assert ESCAPED.replace("\\n", "\n") in page.text  # Where a line ends is white space there.
    assert CHARACTERS[0] in page.text
    manifest = json.loads((output / "manifest.json").read_bytes().decode("ascii"))
    assert manifest["dataset"]["sources"][0]["path"] == str(hostile / HOSTILE)
    assert manifest["model"]["name"] == f"{hostile}/model {HOSTILE}"
    (reject,) = (output / "rejects/rejects.jsonl").read_bytes().decode("ascii").splitlines()
    assert json.loads(reject)["path"] == str(hostile / HOSTILE)
    assert rows(output)["character"].tolist() == [*CHARACTERS, *CHARACTERS]
    against = f"--against={hostile / HOSTILE}"
    assert run(["verify", f"--input={output}", against]) == 0
    assert_harmless(capfd.readouterr().out)


def test_a_plan_of_hostile_names_is_harmless(hostile, tmp_path, capfd):
    argv = [f"--input={hostile / HOSTILE}", f"--output={tmp_path}/out", "--plan"]
    assert compress(*argv) == 0
    said = capfd.readouterr().out
    assert_harmless(said)
    assert said.count(ESCAPED) == 3


@pytest.mark.parametrize(
    "argv",
    [
        ["compress", "--output=o", "--input={}"],
        ["compress", "--output=o", "--dataset={}"],
        ["compress", "--output=o", "--dataset=sample", "--{}"],
        ["compress", "--output=o", "--dataset=sample", "--model={}"],
        ["train", "--output=o", "--input={}"],
        ["verify", "--input={}"],
        ["{}"],
    ],
    ids=str,
)
def test_an_error_about_a_hostile_name_is_one_line(argv, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    name = "no " + HOSTILE.replace("[", "")
    assert run([word.format(name) for word in argv]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert_harmless(said.err)


@pytest.mark.long
def test_a_reconstruction_of_hostile_names_is_harmless(hostile, hostile_run, tmp_path, capfd):
    argv = [f"--input={hostile_run[0]}", f"--originals={hostile / HOSTILE}"]
    output = tmp_path / "out"
    assert run(["reconstruct", *argv, f"--output={output}", f"--runner={RUNNER}"]) == 0
    said = capfd.readouterr()
    assert_harmless(said.out + said.err)
    page = assert_harmless_page(output / "report.html")
    assert CHARACTERS[0] in page.text
    for path in ("quality.json", "reconstruction.json"):
        json.loads((output / path).read_bytes().decode("ascii"))


def test_half_a_character_for_a_label_is_none(tmp_path):
    features = {"info": {"features": {"label": {"names": ["a", "\ud800"]}}}}
    table = pa.table({"image": pictures(*[png(np.zeros((28, 28), np.uint8))] * 2), "label": [0, 1]})
    described = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(described, tmp_path / "f")
    assert compress(f"--input={tmp_path}/f", f"--output={tmp_path}/out", "--quiet") == 0
    assert rows(tmp_path / "out")["character"].isna().all()


def test_pages_let_nothing_but_our_pictures_through_unescaped():
    templates = sorted((ROOT / "beam_job").rglob("*.jinja"))
    unescaped = {
        found for path in templates for found in re.findall(r"\S+ \| *safe", path.read_text())
    }
    assert len(templates) >= 5
    assert unescaped == {"picture | safe", "preview.plot | safe"}
    assert not any("autoescape" in path.read_text() for path in templates)


def test_text_in_a_plot_is_text():
    svg = rate_distortion_svg([Curve("<script>alert(1)</script>&", (10.0, 20.0), (20.0, 30.0))])
    drawn = ElementTree.fromstring(svg)
    assert not [element for element in drawn.iter() if element.tag.endswith("script")]
    assert "<script>alert(1)</script>&" in "".join(drawn.itertext())


def test_text_in_markdown_is_text():
    text = _text(f"{HOSTILE}\\[a](javascript:alert(1))")
    assert_harmless(text)
    assert "\n" not in text
    assert re.findall(r"(?<!\\)(?:\\\\)*[`<&\[|]", text) == []


# What ruff's S102, S301, S307, S310, S506, S602 to S607 look for too; here nothing is excused, but
# for addresses, which the person gives. Beam pickles what it sends to its own workers by itself.
FORBIDDEN_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "subprocess"}
STARTS = {"emnist.py": ["subprocess"]}
"""It starts Python with a program of ours, apart from which a library reads the archive."""
FORBIDDEN_CALLS = {"__import__", "compile", "eval", "exec"} | {
    f"os.{name}" for name in dir(os) if name.startswith(("exec", "spawn", "posix_spawn"))
}
FORBIDDEN_CALLS |= {"os.popen", "os.system", "yaml.load", "yaml.unsafe_load"}
FORBIDDEN_METHODS = {"extractall", "enable_unsafe_deserialization"}
IMPORTED_BY_NAME = {
    "import_module(command.module)",
    "import_module(_PACKAGES[engine])",
    "import_module(f'{__name__}.{module}')",
    "import_module(name)",  # Of REPORT_IMPORTS.
}


def executing(tree: ast.AST) -> Iterator[str]:
    """What in a module could run what lies in data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if not names else []
            yield from (name for name in names if name.partition(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Call):
            yield from _executing_call(node)


def _executing_call(node: ast.Call) -> Iterator[str]:
    name, source = ast.unparse(node.func), ast.unparse(node)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in FORBIDDEN_CALLS or name.rpartition(".")[2] in FORBIDDEN_METHODS:
        yield source
    if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
        yield source
    if name.endswith("saving.load_model") and given.get("safe_mode") != "True":
        yield source
    if name.endswith("import_module") and source not in IMPORTED_BY_NAME:
        yield source
    if given.get("shell") or given.get("safe_mode") == "False":
        yield source


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_executed_that_lies_in_data(path: Path):
    assert list(executing(ast.parse(path.read_text()))) == STARTS.get(path.name, [])


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import os.path, subprocess",
        "eval(text)",
        "os.execvp(name, names)",
        "yaml.load(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "archive.extractall(folder)",
        "keras.saving.load_model(path)",
        "import_module(card['module'])",
    ],
)
def test_what_would_execute_it_is_found(code: str):
    assert len(list(executing(ast.parse(code)))) == 1


@pytest.fixture(params=[pytest.param(0o022, marks=pytest.mark.long), 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def assert_ordinary(folder: Path, umask: int) -> None:
    """That a folder, and all in it, has the mode that the umask leaves."""
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert len(found) > 1
    for path, mode in found.items():
        assert mode == (0o777 if path.is_dir() else 0o666) & ~umask, path


def test_what_is_made_has_ordinary_permissions(umask, tmp_path, monkeypatch):
    flags = ["--dataset=sample", f"--data_dir={tmp_path}/data", f"--output={tmp_path}/run"]
    assert compress(*flags, "--quiet") == 0
    assert_ordinary(tmp_path / "run", umask)
    assert_ordinary(tmp_path / "data", umask)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    matlab_zip(tmp_path / "made.zip", {})
    server = FileServer()
    server.content = (tmp_path / "made.zip").read_bytes()
    try:
        assert fetch_archive(server.url, quiet=True) == archive_path()
    finally:
        server.close()
    assert_ordinary(tmp_path / "keras", umask)


@pytest.mark.long
def test_models_and_reconstructions_have_ordinary_permissions(umask, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    (tmp_path / "f").write_bytes(idx_images(images))
    train = ["train", f"--input={tmp_path}/f", "--epochs=1", "--quiet"]
    assert run([*train, f"--output={tmp_path}/model"]) == 0
    assert_ordinary(tmp_path / "model", umask)
    flags = [f"--input={tmp_path}/f", f"--model={tmp_path}/model", f"--output={tmp_path}/run"]
    assert compress(*flags, "--quiet") == 0
    decoded = [f"--input={tmp_path}/run", f"--output={tmp_path}/images", f"--runner={RUNNER}"]
    assert run(["reconstruct", *decoded, f"--originals={tmp_path}/f", "--quiet"]) == 0
    assert_ordinary(tmp_path / "images", umask)
