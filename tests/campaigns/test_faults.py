"""A short campaign of faults, on Beam's local runner, and that the campaign notices falsehoods."""

import ast
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.campaigns import faults
from tests.campaigns.campaign import COMMANDS, Ended, Workplace
from tests.campaigns.faults import FAULTS, Story, flip, outcome, replace, swap, told, truncate
from transforms.staged import staged_bytes, staged_table


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("faults"))
    place.reference("compress")
    return place


@pytest.mark.parametrize(
    "name", ["disk of --data_dir full", "--output read-only", "staged shard altered"]
)
def test_a_fault_loses_nothing(name, place, monkeypatch):
    monkeypatch.setattr(random.Random, "choice", lambda _, options: options[0])
    assert FAULTS[name](place, random.Random(0)).problems == []


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_loses_nothing(kind, place, monkeypatch):
    monkeypatch.setattr(random.Random, "choice", lambda _, options: options[0])
    # One that comes late finds the run complete.
    assert faults.interrupted(place, random.Random(0), kind, 2).problems == []


def test_every_command_that_a_fault_may_befall_is_there():
    """A campaign draws some of them only after hours."""
    tree = ast.parse(Path(faults.__file__).read_text())
    chosen = [
        [choice.value for choice in call.args[0].elts if isinstance(choice, ast.Constant)]
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) == "rng.choice"
        and isinstance(call.args[0], ast.List)
    ]
    commands = {name for names in chosen for name in names if isinstance(name, str)}
    assert {"compress", "train"} <= commands <= {*COMMANDS, "tensorflow", "ncnn"}


def test_a_false_success_is_noticed(place):
    place.clear()
    shutil.copytree(place.work / "older", place.work / "out")
    story = outcome(place, "compress", Ended(0, "", 1.0), naming=[])
    assert story.end == "complete"
    assert "sizes.json has another content" in story.problems


def test_a_failure_that_left_a_seal_is_noticed(place):
    place.clear()
    shutil.copytree(place.work / "run", place.work / "out")
    ended = Ended(1, "error: no room\n", 1.0)
    problems = told(place, COMMANDS["compress"], ended, naming=["no room"])
    assert problems == ["it doesn't say that it is incomplete"]


@pytest.mark.parametrize(
    ("ended", "problem"),
    [
        (Ended(1, "Traceback (most recent call last):\n", 1.0), "one clear line was due"),
        (Ended(-6, "error: images.npy is gone\n", 1.0), "it ended with -6"),
        (Ended(1, "error: something is gone\n", 1.0), "it names none of images.npy"),
    ],
)
def test_a_failure_that_is_not_told_well_is_noticed(ended, problem, place):
    place.clear()
    found = told(place, COMMANDS["compress"], ended, naming=["images.npy"])
    assert any(problem in line for line in found)


def staged(path: Path, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (9, 784), np.uint8)
    path.write_bytes(staged_bytes(staged_table(np.arange(9), np.zeros(9), images), {}, 1024))


@pytest.mark.parametrize("alter", [flip, truncate, replace, swap])
def test_each_alteration_alters(alter, tmp_path):
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for seed, path in enumerate(paths):
        staged(path, seed)
    before = [path.read_bytes() for path in paths]
    alter(paths[0], random.Random(0))
    assert paths[0].read_bytes() != before[0]
    assert (paths[1].read_bytes() == before[1]) == (alter is not swap)
    if alter in (replace, swap):
        assert pq.read_table(paths[0]).num_rows == 9


def test_without_faketime_the_campaign_does_not_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(faults, "FAKETIME", tmp_path / "none")
    assert faults.main([f"--output={tmp_path}"]) == 2
    assert "apt-get install libfaketime" in capsys.readouterr().err


def test_what_went_wrong_decides_the_exit_status(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(faults, "FAKETIME", Path(__file__))
    monkeypatch.setattr(faults, "Workplace", lambda _: None)
    for problems in ([], ["lost"]):
        stories = {"SIGTERM": [Story("failed", problems)]}
        monkeypatch.setattr(faults, "campaign", lambda *_, stories=stories: stories)
        assert faults.main([f"--output={tmp_path}"]) == len(problems)
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"{1 - len(problems)} passed, {len(problems)} failed"
