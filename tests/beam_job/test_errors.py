"""Every error of the catalogue: one line that helps, the right status, no trace; none is missing.

The last tests read the source for each place that raises an error, and fail for one whose message
no entry of tests/support/error_catalogue.py has.
"""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from beam_job import __main__ as main_module
from beam_job.__main__ import run
from beam_job.outputs import resume
from beam_job.outputs.attempt import Attempt, begin
from beam_job.outputs.run_directory import complete_run
from beam_job.reconstruct.complete import Plan, _check_files
from beam_job.runners.beam_flags import BeamFlags
from beam_job.runners.pipelines import _job_error
from tests.conftest import RUNNER, compress, tree
from tests.support.error_catalogue import CATALOGUE, ELSEWHERE, EMPTY_KERAS, PASSED_ON, Case
from tests.support.error_inputs import IDX, parquet, pictures, staged
from tests.support.files_of import ROOT
from tests.support.keras_files import zipped
from transforms.errors import InputError, RunError
from transforms.models import choice
from transforms.models.directory import find_model

OUTPUTS = ("compress", "reconstruct", "train", "evaluate")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run directory `run`, of images with labels, and a staged `sample`."""
    folder = tmp_path_factory.mktemp("errors")
    (folder / "f").write_bytes(IDX)
    np.save(folder / "g.npy", np.arange(6))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        flags = ["--input=f", "--labels=g.npy", "--latent_dtype=int8", "--output=run", "--quiet"]
        assert compress(*flags) == 0
        assert run(["stage", "--dataset=sample", "--data_dir=sample", "--quiet"]) == 0
    return folder


def command_of(case: Case) -> list[str]:
    """The command with the flags that it needs besides."""
    words = shlex.split(case.argv)
    given = {word.partition("=")[0] for word in words}
    if words[0] in OUTPUTS and "--output" not in given:
        words.append("--output=out")
    if words[0] in (*OUTPUTS, "verify", "stage") and "--data_dir" not in given:
        words.append("--data_dir=data")
    if words[0] in ("compress", "reconstruct") and "--runner" not in given:
        words.append(f"--runner={RUNNER}")
    return words


def left(folder: Path) -> dict[str, bytes]:
    """What there is, but for the settings that Keras writes when it is imported."""
    return {name: c for name, c in tree(folder).items() if name != "keras/keras.json"}


def matches(pattern: str, text: str) -> bool:
    """Whether a line of the catalogue says this; … is any text."""
    parts = [re.escape(part) for part in pattern.split("…")]
    return re.fullmatch(".*".join(parts), text) is not None


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{number} {case.line[:60].encode('ascii', 'replace').decode()}",
            marks=[pytest.mark.long] if case.long else [],
        )
        for number, case in enumerate(CATALOGUE)
    ],
)
def test_an_error_is_one_line_that_helps(case: Case, work, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "here"
    folder.mkdir()
    shutil.copytree(work / "sample", tmp_path / "sample")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KERAS_HOME", "keras")
    if "=run" in case.argv:
        shutil.copytree(work / "run", "run")
    case.prepare()
    before = left(folder)
    capfd.readouterr()
    assert run(command_of(case)) == case.status
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert matches(case.line, line.removeprefix("error: ")), line
    assert case.inner is None or matches(f"…{case.inner}…", line)
    assert captured.out == ""
    assert left(folder) == before


def last_line(capfd: pytest.CaptureFixture[str]) -> str:
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == ""
    return line


def test_rejects_of_all_shards_count(tmp_path, capfd):
    (tmp_path / "f").write_bytes(parquet(image=pictures(b"no", b"picture")))
    flags = [f"--input={tmp_path}/f", f"--output={tmp_path}/out", "--shard_size=1"]
    assert compress(*flags, "--max_rejects=1") == 2
    assert last_line(capfd).startswith(
        f"error: 2 images could not be read and --max_rejects=1; the first is {tmp_path}/f row 0: "
    )


def test_image_ids_of_two_shards_that_overlap_are_told(tmp_path, capfd):
    (tmp_path / "f").write_bytes(staged([0, 1, 0, 1]))
    flags = [f"--input={tmp_path}/f", f"--output={tmp_path}/out", "--shard_size=2"]
    assert compress(*flags) == 2
    assert "image_id 0 follows image_id 1: image_ids must rise from row to row" in last_line(capfd)
    assert not (tmp_path / "out/manifest.json").exists()


@pytest.mark.long
def test_weights_that_are_no_hdf5_leave_nothing_that_ends_the_process_badly(tmp_path):
    (tmp_path / "f").write_bytes(IDX)
    (tmp_path / "m.keras").write_bytes(zipped(EMPTY_KERAS))
    flags = ["--input=f", "--model=m.keras", "--output=out", "--data_dir=data"]
    command = [sys.executable, "-m", "beam_job", "compress", *flags, f"--runner={RUNNER}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr


def test_debug_shows_the_traceback(tmp_path, capfd):
    assert run(["compress", "--input=nosuch", f"--output={tmp_path}/out", "--debug"]) == 2
    assert "Traceback" in capfd.readouterr().err


def test_what_nobody_thought_of_is_one_line_too(monkeypatch, capfd):
    def parse(_: object) -> None:
        raise ValueError("first\n  second \x1b[2J")

    monkeypatch.setattr(main_module, "parse", parse)
    assert run(["compress"]) == 1
    assert last_line(capfd) == (
        r"error: unexpected ValueError: first second \x1b[2J; run it again with --debug and "
        "report it"
    )


def test_what_a_runner_makes_of_an_error_is_one_line():
    beams = BeamFlags((f"--runner={RUNNER}",)).options
    raised = RuntimeError("Traceback ...\n  File ...\n\nthe machine is gone\n")
    assert str(_job_error(raised, beams)) == (
        "the job failed: RuntimeError: the machine is gone; --debug shows where"
    )


def test_a_dataset_that_somebody_removes_is_told(monkeypatch, tmp_path, capfd):
    def lose(attempt: Attempt) -> None:
        shutil.rmtree(attempt.output)

    monkeypatch.setattr(resume, "abandon", lose)
    assert run(["stage", "--dataset=sample", f"--data_dir={tmp_path}", "--quiet"]) == 2
    assert last_line(capfd).endswith("while sample was staged: run it again")


def test_images_that_did_not_come_back_are_told(work):
    compressed = complete_run(str(work / "run"))
    attempt = begin(str(work / "out"), "--output")
    plan = Plan(attempt, compressed, find_model(None), None, None, (), "f", 1, overwrite=False)
    said = "6 latents in 1 files, 0 images written in 0, 0 measured: these must agree"
    with pytest.raises(RunError, match=said):
        _check_files(plan, [], {})


def test_an_engine_that_does_not_work_here_is_told(monkeypatch):
    def broken(_: str) -> None:
        raise ImportError("no such processor")

    monkeypatch.setattr(choice, "import_module", broken)
    said = "the engine ncnn is installed, and cannot be imported"
    with pytest.raises(InputError, match=rf"{said} \(no such processor\): mend it"):
        choice._check_imports("ncnn")


# What follows reads the source.

KINDS = ("ArgumentTypeError", "FilledError", "InputError", "RunError", "StoreError", "UsageError")


class Site(NamedTuple):
    """A place in the source that makes an error. message: as a regular expression.

    constants: how many characters of it are always the same. source: of what is raised.
    """

    place: str
    message: str
    constants: int
    source: str


def sites() -> Iterator[Site]:
    for path in sorted([*ROOT.glob("beam_job/**/*.py"), *ROOT.glob("transforms/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _name(node.func) in KINDS and node.args:
                parts = list(_parts(node.args[0]))
                yield Site(
                    f"{path.relative_to(ROOT)}:{node.lineno}",
                    "".join(".*" if part is None else re.escape(part) for part in parts),
                    sum(len(part or "") for part in parts),
                    ast.unparse(node.args[0]),
                )


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _parts(message: ast.expr) -> Iterator[str | None]:
    """The parts of a message: what is always the same, and None for what is filled in."""
    if isinstance(message, ast.Constant):
        yield str(message.value)
    elif isinstance(message, ast.JoinedStr):
        for value in message.values:
            yield from _parts(value)
    elif isinstance(message, ast.BinOp):
        yield from _parts(message.left)
        yield from _parts(message.right)
    else:
        yield None


def shown(lines: list[str]) -> set[str]:
    """The places that give these lines: for each the one with most of it that is always so."""
    found = set()
    for line in lines:
        able = [site for site in sites_with_words() if re.fullmatch(site.message, line)]
        found |= {site.place for site in sorted(able, key=lambda site: -site.constants)[:1]}
    return found


@lru_cache
def sites_with_words() -> tuple[Site, ...]:
    return tuple(site for site in sites() if site.source not in PASSED_ON)


def test_every_error_is_in_the_catalogue():
    lines = [case.line for case in CATALOGUE] + [seen.line for seen in ELSEWHERE]
    lines += [case.inner for case in CATALOGUE if case.inner is not None]
    known = shown(lines)
    missing = [site for site in sites_with_words() if site.place not in known]
    assert not missing, "\n".join(
        [
            "these places raise errors that no entry of tests/support/error_catalogue.py has: add",
            "a Case with the whole line and the input that gives it to CATALOGUE (as `inner` where",
            "another line passes it on), or, where it takes a fault, a `seen` to ELSEWHERE:",
            *(f"  {site.place}  {site.source}" for site in missing),
        ]
    )


def test_no_entry_is_of_an_error_that_there_is_not():
    for seen in ELSEWHERE:
        assert shown([seen.line]), f"no place gives the line: {seen.line}"
    sources = {site.source for site in sites()}
    assert PASSED_ON.keys() <= sources


@pytest.mark.parametrize("entry", ELSEWHERE, ids=lambda entry: entry.test.partition("::")[2])
def test_what_is_seen_elsewhere_is(entry):
    assert entry.words in entry.line
    assert any(entry.words in text for text in texts_of(entry.test)), entry.words


@pytest.mark.parametrize("test", PASSED_ON.values())
def test_what_is_passed_on_is_seen(test: str):
    words = (
        "could not be read",
        "--max_rejects",
        "its store cannot be used",
        "is gone",
        "is being written by another command",
        "there is no such file system",
    )
    assert any(word in text for text in texts_of(test) for word in words)


def texts_of(test: str) -> list[str]:
    """The text in a test and its parameters, without the backslashes of regular expressions."""
    path, _, name = test.partition("::")
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            literals = [part for part in ast.walk(node) if isinstance(part, ast.Constant)]
            return [str(part.value).replace("\\", "") for part in literals]
    raise AssertionError(f"there is no test {test}")
