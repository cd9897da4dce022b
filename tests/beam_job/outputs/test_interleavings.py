"""A hundred interleavings, and what tests.campaigns.interleavings finds in older protocols."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaigns.first_edition import EACH_ITS_OWN, FAULT_1, FAULT_2
from tests.campaigns.interleavings import interleaving, main, outcomes, scratch_folder
from tests.campaigns.world import FILE_SYSTEMS

_DRAWN = 100


@pytest.fixture
def scratch() -> Iterator[Path]:
    folder = scratch_folder()
    yield folder
    folder.rmdir()


def test_a_hundred_interleavings_each_leave_a_whole_run(scratch):
    drawn = list(outcomes(0, _DRAWN, scratch))
    wrong = [outcome for outcome in drawn if outcome.wrong]
    assert not wrong, "\n".join([*wrong[0].trace, f"seed {wrong[0].seed}:", *wrong[0].wrong])
    assert {outcome.file_system for outcome in drawn} == set(FILE_SYSTEMS)
    assert sum(outcome.deaths for outcome in drawn) > 10
    assert any(outcome.sealed_by != "last step" for outcome in drawn)


@pytest.mark.parametrize("seed", [90, 91, 92])
def test_a_seed_gives_the_same_interleaving_again(scratch, seed):
    assert interleaving(seed, scratch) == interleaving(seed, scratch)


@pytest.mark.parametrize(
    ("patches", "seeds", "found"),
    [
        (FAULT_1, range(300), "took away the run"),
        (FAULT_2, range(300), "SHA-256"),
        (EACH_ITS_OWN, range(40, 400), "SHA-256"),
    ],
    ids=["remove, move, seal", "fixed names", "each its own files"],
)
def test_faults_of_older_protocols_are_found(scratch, patches, seeds, found):
    drawn = (interleaving(seed, scratch, patches) for seed in seeds)
    assert any(found in wrong for outcome in drawn for wrong in outcome.wrong)


def test_the_program_counts_what_is_wrong(monkeypatch):
    lines: list[str] = []
    assert main(["--seed=0", "--count=3"], lines.append) == 0
    assert lines[-1] == "3 passed, 0 failed"
    monkeypatch.setattr("transforms.write_shards.uuid", FAULT_2[0][2])
    lines.clear()
    assert main(["--seed=0", "--count=9"], lines.append) == 1
    assert "0 failed" not in lines[-1]
