"""From every state that a command can leave an output in, some command leads to a complete run.

A state is made of four parts; a command that is refused names, in its message, the one that leads
on. All states are walked in the world of tests.campaigns, on a disk and in two object stores; a few
by the command line, with Beam.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest

from beam_job.__main__ import run
from beam_job.compress import complete as completion
from beam_job.outputs import seal
from beam_job.outputs.attempt import CLAIM, JOB
from beam_job.outputs.run_directory import MANIFEST, complete_run
from beam_job.verify.read_back import read_back
from tests.campaigns.interleavings import named_in, scratch_folder
from tests.campaigns.world import FILE_SYSTEMS, Command, Process, World, opened
from transforms.errors import RunError

Files = Mapping[str, bytes]
"""What is in an output, by name."""

SEALS = ("none", "of an older run", "of the attempt")
CLAIMS = ("none", "of the sealed run", "of the attempt", "of one that is gone", "of who overwrote")
ATTEMPTS = (
    *("none", "same job", "same job, no notes", "other job", "begun", "no job.json"),
    "same job, a file gone",
)
COMMANDS = (Command("plain"), Command("resume", resume=True), Command("overwrite", overwrite=True))
_HOPS = 3


class Made(NamedTuple):
    """What states are put together from. ids: of the older run and of the attempts."""

    older: Files
    finished: Files
    same: Files
    other: Files
    overwriting: Files


class State(NamedTuple):
    """What an output holds. partial: files of latents without a seal over them."""

    seal: str
    claim: str
    attempt: str
    partial: bool

    @property
    def may_be(self) -> bool:
        """Whether the parts go together, and something can leave them so."""
        needs_attempt = "of the attempt" in (self.seal, self.claim) or self.seal == SEALS[2]
        if needs_attempt and self.attempt == "none":
            return False
        if self.claim == "of the sealed run" and self.seal == "none":
            return False
        if self.seal == "of the attempt":  # What it had done is there; who claimed is the sealed.
            done = self.attempt in ("same job", "no job.json", "same job, no notes")
            return done and self.claim == "of the sealed run" and not self.partial
        if self.claim == "of who overwrote" and self.attempt == "none":
            return False
        # A claim comes before the first file, and is never removed.
        return not self.partial or self.claim != "none"


STATES = [
    state
    for state in (State(*parts) for parts in product(SEALS, CLAIMS, ATTEMPTS, (False, True)))
    if state.may_be
]


def snapshot(world: World) -> dict[str, bytes]:
    """All that is in the output."""
    if world.bucket is not None:
        there = world.bucket.objects.items()
        return {name.removeprefix("run/"): found.content for name, found in there}
    top = Path(world.output)
    return {
        str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()
    }


def restore(world: World, there: Files) -> None:
    """Makes the output what it was."""
    if world.bucket is not None:
        world.bucket.objects.clear()
        for name, content in there.items():
            world.bucket._write(f"run/{name}", content)
        return
    top = Path(world.output)
    if top.exists():
        shutil.rmtree(top)
    for name, content in there.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _stopped(world: World, command: Command) -> dict[str, bytes]:
    """What a command leaves that is stopped when it has claimed, before it has published."""
    with mock.patch.object(seal, "publish_all", side_effect=RunError("stopped")):
        assert world.run_alone(command).outcome == "fails"
    return snapshot(world)


def made(world: World) -> Made:
    """The parts of states, each by real commands."""
    assert world.run_alone(Command("older", shard_size=4)).outcome == "done"
    older = snapshot(world)
    restore(world, {})
    with (
        mock.patch.object(seal, "remove_attempt"),
        mock.patch("beam_job.outputs.resume.abandon"),
    ):
        assert world.run_alone(Command("finished")).outcome == "done"
    finished = snapshot(world)
    restore(world, {})
    same = _stopped(world, Command("same"))
    restore(world, {})
    other = _stopped(world, Command("other", shard_size=2))
    restore(world, same)
    with mock.patch.object(seal, "discard"):
        overwriting = _stopped(world, Command("overwriting", overwrite=True, shard_size=2))
    return Made(older, finished, same, other, overwriting)


def _folder(there: Files) -> dict[str, bytes]:
    return {name: content for name, content in there.items() if name.startswith("_incomplete-")}


def _attempt_id(there: Files) -> str:
    return json.loads(there[CLAIM])["attempt"]


def _attempt_files(kind: str, whole: Files, own: str) -> dict[str, bytes]:
    """The folder of an attempt, and what is missing in it."""
    job = f"_incomplete-{own}/{JOB}"
    if kind == "none":
        return {}
    if kind == "begun":
        return {job: b'{"created": "2026-01-01T00:00:00+00:00"}'}
    gone = next(name for name in whole if name.endswith(".parquet"))
    return {
        name: content
        for name, content in whole.items()
        if not (kind == "same job, no notes" and "/notes/" in name)
        and not (kind == "no job.json" and name == job)
        and not (kind == "same job, a file gone" and name == gone)
    }


def files_of(state: State, parts: Made) -> dict[str, bytes]:
    """The output in a state."""
    whole = parts.other if state.attempt == "other job" else parts.same
    if state.seal == "of the attempt":
        whole = parts.finished
    own = _attempt_id(whole)
    there = _attempt_files(state.attempt, _folder(whole), own)
    if state.seal != "none":
        sealed = parts.older if state.seal == "of an older run" else parts.finished
        there |= {
            name: content
            for name, content in sealed.items()
            if not name.startswith(("_incomplete-", CLAIM))
        }
    if state.claim == "of the sealed run":
        sealed = parts.older if state.seal == "of an older run" else parts.finished
        there[CLAIM] = sealed[CLAIM]
    elif state.claim == "of the attempt":
        there[CLAIM] = whole[CLAIM]
    elif state.claim == "of one that is gone":
        claim = {"attempt": "0" * 12, "seal": "0" * 64, "documents": "d", "lost": []}
        there[CLAIM] = json.dumps(claim).encode()
    elif state.claim == "of who overwrote":
        there |= _folder(parts.overwriting)
        claim = json.loads(parts.overwriting[CLAIM])
        there[CLAIM] = json.dumps({**claim, "lost": [f"_incomplete-{own}"]}).encode()
    if state.partial:
        there["latents/split=train/part-00000-of-00003.parquet"] = b"partial"
        there["latents/split=train/part-00004-of-00009.parquet"] = b"partial"
    return there


def prepare(world: World, state: State, parts: Made) -> None:
    """Puts the output into a state."""
    world.scheduler.forget()
    restore(world, files_of(state, parts))


def is_complete(world: World) -> bool:
    return world.problems() == []


def lead_on(world: World, process: Process) -> list[str]:
    """Follows what messages name; what was given until a run was complete."""
    given = [process.command.flags]
    while process.outcome != "done":
        flags = named_in(process.message)
        assert flags, f"{given}: names no way out: {process.message}"
        assert len(given) <= _HOPS, f"{given}: leads nowhere: {process.message}"
        process = world.run_alone(Command("next", **flags))
        given.append(process.command.flags)
    assert is_complete(world), f"{given}: {world.problems()}"
    return given


@pytest.fixture(params=FILE_SYSTEMS)
def walked(request: pytest.FixtureRequest) -> Iterator[tuple[World, Made]]:
    folder = scratch_folder()
    with opened(request.param, 0, folder / "world") as world:
        yield world, made(world)
    folder.rmdir()


def test_every_state_has_a_command_that_leads_on_and_every_refusal_names_it(walked):
    world, parts = walked
    wrong = []
    # A disk has all of them; the two stores, which answer alike, take turns.
    every = {"local": STATES, "s3": STATES[::2], "gs": STATES[1::2]}[world.file_system]
    for state in every:
        ways = []
        for command in COMMANDS:
            prepare(world, state, parts)
            process = world.run_alone(command)
            if process.outcome == "done" and is_complete(world):
                ways.append(command.flags)
            try:
                lead_on(world, process)
            except AssertionError as error:
                wrong.append(f"{state}, {command.flags}: {error}")
        if not ways:
            wrong.append(f"{state}: a dead end")
    assert not wrong, f"{len(wrong)} of {len(every)}:\n" + "\n".join(wrong)


def test_the_states_are_those_that_can_be():
    assert len(STATES) > 60
    assert {state.seal for state in STATES} == set(SEALS)
    assert {state.claim for state in STATES} == set(CLAIMS)
    assert {state.attempt for state in STATES} == set(ATTEMPTS)


def _compress(output: Path, *flags: str) -> int:
    images = output.parent / "images.npy"
    if not images.exists():
        np.save(images, np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8))
    given = [f"--input={images}", f"--output={output}", "--shard_size=8", "--quiet", *flags]
    return run(["compress", *given])


@pytest.mark.parametrize(
    ("older", "first"), [(False, ""), (False, "--resume"), (True, ""), (True, "--overwrite")]
)
def test_the_command_line_leads_on_too(tmp_path, capsys, older, first):
    output = tmp_path / "out"
    with mock.patch.object(completion, "draw_report"):
        if older:
            assert _compress(output) == 0
        with mock.patch.object(seal, "publish_all", side_effect=RunError("stopped")):
            assert _compress(output, *["--overwrite"] * older) == 1
        assert "continues with what is done, 3 shards" in capsys.readouterr().err
        assert not (output / MANIFEST).exists()
        status = _compress(output, *filter(None, [first]))
        if status:
            (line,) = capsys.readouterr().err.splitlines()
            (name,) = named_in(line)
            assert _compress(output, f"--{name}") == 0
        assert read_back(complete_run(str(output))).problems == []
