"""A short campaign over the light readers, and whether the harness finds what it looks for."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from tests.campaigns import fuzz
from tests.campaigns.planted import READERS as PLANTED
from tests.campaigns.readers import READERS

PLANTED_IN = "tests.campaigns.planted"
LIGHT = ("idx", "npy", "labels", "jpeg", "png", "dataset", "note", "job", "claim", "archive")
SHORT = 300


def test_no_light_reader_gives_more_than_a_line(tmp_path):
    """In this process: a child a reader takes longer to start than the inputs do."""
    # As transforms.images has it, and pytest has not.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    box = fuzz.Box(tmp_path)
    found = []
    for name in LIGHT:
        reader = READERS[name]
        seeds = reader.seeds()
        for number in range(SHORT):
            content = fuzz.input_of(name, reader, 0, number, seeds)
            problem = fuzz.problem_of(reader.read, content, box)
            if problem is not None:
                found.append((name, number, problem))
    assert found == []


def test_inputs_depend_on_the_seed_alone():
    for name in (*LIGHT, "gzip", "parquet", "hugging-face", "card"):
        reader = READERS[name]
        seeds = reader.seeds()
        inputs = [
            [fuzz.input_of(name, reader, seed, number, seeds) for number in range(20)]
            for seed in (1, 1, 2)
        ]
        assert inputs[0] == inputs[1], name
        assert inputs[0] != inputs[2], name


def first_harmful(name: str) -> int:
    """The number of the first input that has an x in it, and sets the fault off."""
    return next(
        number
        for number in range(1, 50)
        if b"x" in Random(f"0 {name} {number}").choice((b"a", b"b", b"x"))
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("raises", "raised KeyError: 'a name'"),
        ("dies", "died (-9)"),
        ("eats", "answered; took 1,"),
        ("rambles", "said 3,000 characters"),
        ("warns", "warned: beware"),
        ("trespasses", "altered files outside"),
        ("hangs", "took more than 0.1 s"),
    ],
)
def test_a_planted_fault_is_found_and_attributed(name, problem, monkeypatch):
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 0.1 if name == "hangs" else 5.0)
    harmful = first_harmful(name)
    outcome = fuzz.run_reader(name, 0, harmful + 1, PLANTED_IN)
    (finding,) = outcome.findings
    assert (finding.number, outcome.inputs) == (harmful, harmful + 1)
    assert problem in finding.problem


def test_a_campaign_goes_on_behind_what_killed_a_child():
    with ThreadPoolExecutor(2) as pool:
        apart = pool.submit(fuzz.run_reader, "dies apart", 0, 8, PLANTED_IN)
        outcome = fuzz.run_reader("dies", 0, 8, PLANTED_IN)
    harmful = [
        n for n in range(1, 8) if b"x" in fuzz.input_of("dies", PLANTED["dies"], 0, n, [b""])
    ]
    assert [finding.number for finding in outcome.findings] == harmful
    assert outcome.inputs == 8
    assert (apart.result().findings, apart.result().inputs) == ([], 8)
    assert apart.result().borne > 0


def test_what_is_refused_in_a_line_is_no_finding():
    outcome = fuzz.run_reader("refuses", 0, 30, PLANTED_IN)
    assert (outcome.findings, outcome.inputs) == ([], 30)


def test_every_reader_gets_its_share():
    plan = fuzz.shares(READERS, 1_300_000)
    assert sum(plan.values()) >= 1_000_000
    assert all(inputs >= 20_000 for name, inputs in plan.items() if name != "mat")
