"""A short campaign of kills, on Beam's local runner, and that the campaign notices falsehoods."""

import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.campaigns import campaign, kills
from tests.campaigns.campaign import (
    COMMANDS,
    Running,
    Workplace,
    content_of,
    differences,
    is_told_incomplete,
    leftovers,
    one_clear_line,
)
from tests.campaigns.kills import VICTIMS, Before, Moment, Tally, redone_shards, state


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("kills"))


@pytest.fixture
def whole(place: Workplace) -> Path:
    """A run that nothing disturbed."""
    place.reference("compress")
    place.clear()
    shutil.copytree(place.work / "run", place.work / "out")
    return place.work / "out"


def found_wrong(place: Workplace) -> list[str]:
    """What the campaign says of an output that is there."""
    expected = place.reference("compress").content
    return state(place, VICTIMS["compress"], COMMANDS["compress"], expected)[1]


@pytest.mark.parametrize(
    ("victim", "moment"),
    [
        ("compress", Moment(0, 20, "_incomplete-*/notes/*/*.json")),
        ("compress --overwrite", Moment(0, 30, "_incomplete-*/notes/*/*.json")),
        ("stage", Moment(0, 20, "_incomplete-*/notes/*/*.json")),
        ("reconstruct", Moment(0, 20, "_incomplete-*/images/*/*")),
    ],
)
def test_a_kill_does_no_harm(victim, moment, place, monkeypatch):
    monkeypatch.setattr(kills, "moment_of", lambda *_: moment)
    # How far it came until then is the machine's; wherever that was, nothing may be wrong.
    assert kills.kill_once(place, VICTIMS[victim], random.Random(0)).problems == []


def test_the_same_seed_gives_the_same_kills():
    moments = [
        [kills.moment_of(random.Random(f"{seed} {n}"), VICTIMS["stage"], 2.0) for n in range(50)]
        for seed in (0, 0, 1)
    ]
    assert moments[0] == moments[1] != moments[2]
    assert len({moment.of for moment in moments[0]}) == 4


def test_a_false_seal_is_noticed(place, whole):
    assert found_wrong(place) == []
    for path in list(whole.glob("latents/*/*"))[:2]:
        path.unlink()
    assert len(found_wrong(place)) == 2


def test_a_seal_of_nothing_is_noticed(place, whole):
    shutil.rmtree(whole / "latents")
    (whole / "report.html").unlink()
    (whole / "sizes.json").unlink()
    assert "sizes.json is missing" in found_wrong(place)


def test_a_report_that_is_not_drawn_yet_is_no_loss(place, whole):
    (whole / "report.html").unlink()
    assert found_wrong(place) == []


def test_an_altered_manifest_is_noticed(place, whole):
    manifest = json.loads((whole / "manifest.json").read_text())
    manifest["model"]["latent_size"] = 33
    (whole / "manifest.json").write_text(json.dumps(manifest))
    assert found_wrong(place) == ["manifest.json has another content"]


def test_a_shard_of_other_rows_is_noticed(place, whole):
    path = min(whole.glob("latents/*/*"))
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table.slice(1), table.slice(0, 1)]), path)
    assert found_wrong(place) == [f"{path.relative_to(whole)} has another content"]


def test_what_is_another_runs_own_is_no_difference(whole):
    before = content_of(whole)
    manifest = json.loads((whole / "manifest.json").read_text())
    manifest |= {"run_id": "other", "created": "2020-01-01T00:00:00+00:00", "flags": {}}
    (whole / "manifest.json").write_text(json.dumps(manifest))
    assert differences(content_of(whole), before) == []


def test_what_looks_complete_is_not_taken_for_incomplete(place, whole):
    assert not is_told_incomplete(place.work, COMMANDS["compress"])
    (whole / "manifest.json").unlink()
    assert is_told_incomplete(place.work, COMMANDS["compress"])


@pytest.mark.parametrize(
    "name",
    ["out/x.tmp", "tmp/emnist-progress-x", "out/_incomplete-1/job.json", "out/checkpoint.npz"],
)
def test_what_is_left_is_noticed(name, place, whole):
    (place.work / "tmp").mkdir(exist_ok=True)
    assert leftovers(place.work, COMMANDS["compress"]) == []
    path = place.work / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    assert leftovers(place.work, COMMANDS["compress"]) != []
    assert whole.exists()


def test_a_process_that_is_left_is_noticed_and_killed(place, monkeypatch):
    monkeypatch.setattr(campaign, "END_SECONDS", 0.5)
    place.clear()
    running = Running(place.work, [], whole=["sh", "-c", "sleep 300 & exit 3"])
    assert running.ended().status == 3
    assert len(running.left_processes()) == 1
    assert running.left_processes() == []


def test_a_shard_that_was_made_again_is_noticed(whole):
    path = min(whole.glob("latents/*/*"))
    name = str(path.relative_to(whole))
    before = Before({name: path.stat().st_ino}, 0)
    assert redone_shards(before, whole) == []
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    copy.replace(path)
    assert redone_shards(before, whole) == [f"{name} was done, and was made again"]


def test_only_one_line_that_helps_is_clear():
    assert one_clear_line("error: x is full: make room\n") == []
    assert one_clear_line("") != []
    assert one_clear_line("Traceback (most recent call last):\nerror: x") != []
    assert one_clear_line("error: unexpected OSError: x\n") != []


def test_what_went_wrong_decides_the_exit_status(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(kills, "Workplace", lambda _: None)
    for wrong in (0, 1):
        tally = Tally(kills=3, wrong=wrong)
        monkeypatch.setattr(kills, "campaign", lambda *_, tally=tally: {"compress": tally})
        assert kills.main(["--kills=3", f"--output={tmp_path}"]) == wrong
        assert capsys.readouterr().out.splitlines()[-1] == f"{3 - wrong} passed, {wrong} failed"
