"""Draws interleavings of executions of `compress`, and looks whether each leaves a whole run.

`python -m tests.campaigns.interleavings --seed=0 --count=2000`

Each one is drawn from its own seed: which commands run, how often each bundle and the last step is
executed, which execution continues at each request, and which one stops, or dies, there. Then:

- where a run is sealed, `verify` finds it whole, and the glob finds its files and nothing else;
- where none is, the next command makes it: plain, or the one that its message names;
- executions that wake up after that change nothing.

`--show=SEED` prints the requests of one.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns.scheduler import Habits, State
from tests.campaigns.world import (
    CALM,
    FILE_SYSTEMS,
    SHARD_SIZES,
    Command,
    Runs,
    World,
    opened,
)
from transforms.errors import STORAGE_ERRORS, JobError

KINDS = ("duplicates", "older run", "commands at once", "kills", "power cut", "faults")
_FLAGS = ({}, {"overwrite": True}, {"resume": True}, {"overwrite": True, "resume": True})
_STORE_REQUESTS = ("COPY", "DELETE", "PUT", "PUT IF", "GET", "LIST")
_AIMS = {
    "local": ("rename", "link", "flock", "truncate", "remove", "open", "mkdir", "scandir"),
    "s3": _STORE_REQUESTS,
    "gs": _STORE_REQUESTS,
}
"""Requests before which executions stop more often."""
_HOPS = 4
"""How many commands somebody gives, each as the message of the one before it says."""


@dataclass
class Outcome:
    """What came of an interleaving. sealed_by: the kind of execution that did, at first."""

    seed: int
    file_system: str
    kind: str
    executions: int = 0
    deaths: int = 0
    faults: int = 0
    requests: int = 0
    sealed_by: str = "nobody"
    next_command: str = "none needed"
    wrong: list[str] = field(default_factory=list)
    foreign_report: bool = False
    blanks: int = 0
    trace: list[str] = field(default_factory=list)


class Wrong(Exception):  # noqa: N818
    """Something is not as it has to be."""


def interleaving(seed: int, folder: Path, patches: Sequence[Any] = ()) -> Outcome:
    """Draws one, runs it, and looks what came of it. patches: what takes the place of real code."""
    file_system = FILE_SYSTEMS[seed % len(FILE_SYSTEMS)]
    kind = KINDS[seed // len(FILE_SYSTEMS) % len(KINDS)]
    outcome = Outcome(seed, file_system, kind)
    with opened(file_system, seed, folder / str(seed), *patches) as world:
        try:
            _run(world, kind, outcome)
        except Wrong as error:
            outcome.wrong.append(str(error))
        except (*STORAGE_ERRORS, JobError, TimeoutError, AssertionError) as error:
            outcome.wrong.append(f"{type(error).__name__}: {error}")
        outcome.wrong += world.faults
        for execution in world.scheduler.executions:
            if execution.error is not None and not isinstance(
                execution.error, (JobError, *STORAGE_ERRORS)
            ):
                outcome.wrong.append(f"{execution.name}: {execution.error!r}")
        outcome.executions = len(world.scheduler.executions)
        outcome.deaths = world.scheduler.deaths
        outcome.faults = world.bucket.faults if world.bucket is not None else 0
        outcome.requests = world.scheduler.step
        if world.sealed_by:
            outcome.sealed_by = _kind_of(world.sealed_by[0])
        place = str(folder / str(seed))
        outcome.trace = [line.replace(place, "") for line in world.scheduler.trace]
        outcome.blanks = world.blanks
    return outcome


def _kind_of(execution: str) -> str:
    name = execution.partition("/")[2]
    return "last step" if name == "last step" else f"{name.partition(' try')[0]}"


def _run(world: World, kind: str, outcome: Outcome) -> None:
    rng, bucket = world.rng, world.bucket
    runs = _runs(rng)
    if kind == "older run" or rng.random() < 0.4:
        _older_run(world)
    world.scheduler.habits = _habits(rng, kind, outcome.file_system)
    if kind == "faults" and bucket is not None:
        bucket.lose, bucket.fail = rng.choice([(0.1, 0), (0.03, 0), (0, 0.02), (0.05, 0.01)])
    _start(world, kind, runs)
    _run_first(world, kind)
    if bucket is not None:
        bucket.lose = bucket.fail = 0.0
    if world.sealed_id() is None or rng.random() < 0.4:
        outcome.next_command = _settle(world)
    if bucket is not None and kind == "faults":
        bucket.lose = rng.choice([0.0, 0.1])
    _wake_all(world)
    if world.sealed_id() is None:
        _settle(world)
    outcome.foreign_report = world.report_of() not in (None, world.sealed_id())


def _start(world: World, kind: str, runs: Runs) -> None:
    """The commands: the first one now, others after a while."""
    rng, scheduler = world.rng, world.scheduler
    for number in range(_commands(rng, kind)):
        flags = rng.choice(_FLAGS) if number else _first_flags(world, rng)
        command = Command("ABC"[number], shard_size=rng.choice(SHARD_SIZES[:2]), **flags)
        process = world.start(command, runs)
        scheduler.note(f"{command.name} is {command.flags}, shards of {command.shard_size}")
        if number:
            assert process.launcher is not None
            process.launcher.frozen = scheduler.step + rng.randint(0, 400)


def _run_first(world: World, kind: str) -> None:
    """Runs them until all have ended, died or stopped, and looks at the run in between."""
    rng, scheduler = world.rng, world.scheduler
    step = scheduler.step
    stops = sorted(step + rng.randint(1, 600) for _ in range(rng.randint(0, 2)))
    for stop in stops:
        scheduler.run(stop)
        _check(world, f"at step {stop}")
    if kind == "power cut" and stops:
        _power_cut(world)
    else:
        scheduler.run()
    _check(world, "when all had ended, stopped or died")


def _wake_all(world: World) -> None:
    """Wakes those that have stopped, one after the other, or many at once."""
    rng, scheduler = world.rng, world.scheduler
    before = world.sealed_id()
    scheduler.habits = Habits(stay=rng.random())
    held = [one for one in scheduler.executions if one.state is State.HELD]
    rng.shuffle(held)
    for execution in held:
        scheduler.wake(execution)
        if rng.random() < 0.5:
            scheduler.run(scheduler.step + rng.randint(1, 60))
            _check(world, f"after {execution.name} woke")
    scheduler.run()
    _check(world, "when all had woken and ended")
    if before is not None and world.sealed_id() is None:
        raise Wrong("the run that was there is gone, when all had woken and ended")


def _runs(rng: random.Random) -> Runs:
    return Runs(
        twice=rng.choice([0.0, 0.3, 0.7]),
        late=rng.choice([0.0, 0.5, 1.0]),
        last_steps=rng.choice([1, 2, 2, 3]),
        others=rng.choice([0.0, 0.0, 0.5]),
        lost=rng.choice([0.0, 0.0, 0.2]),
    )


def _habits(rng: random.Random, kind: str, file_system: str) -> Habits:
    kills = kind in ("kills", "faults")
    return Habits(
        stay=rng.choice([0.2, 0.6, 0.9, 0.97]),
        freeze=rng.choice([0.0, 0.02, 0.1]),
        longest_freeze=rng.choice([20, 100, 400]),
        hold=rng.choice([0.0, 0.003, 0.01]),
        die=rng.choice([0.002, 0.006, 0.02]) if kills else 0.0,
        die_all=rng.choice([0.0, 0.0005, 0.003]) if kills else 0.0,
        by_priority=rng.random() < 0.4,
        aim=rng.choice(_AIMS[file_system]) if rng.random() < 0.5 else "",
        aimed=rng.choice([0.05, 0.2, 0.5]),
    )


def _commands(rng: random.Random, kind: str) -> int:
    if kind == "commands at once":
        return rng.choice([2, 2, 3])
    return rng.choice([1, 1, 2]) if kind in ("kills", "power cut", "faults") else 1


def _first_flags(world: World, rng: random.Random) -> dict[str, bool]:
    if world.sealed_id() is not None:
        return rng.choice([{"overwrite": True}, {"overwrite": True, "resume": True}])
    return rng.choice(_FLAGS)


def _older_run(world: World) -> None:
    """A run that is there already; executions of it may still be stopped somewhere."""
    rng, scheduler = world.rng, world.scheduler
    size = rng.choice(SHARD_SIZES)
    zombies = rng.random() < 0.5
    scheduler.habits = Habits(hold=0.005 if zombies else 0.0)
    runs = Runs(twice=0.4, late=0.5, last_steps=3) if zombies else CALM
    world.start(Command("O", shard_size=size), runs)
    scheduler.run()
    _check(world, "of the older run")


def _power_cut(world: World) -> None:
    """All executions die at once, but for some that were elsewhere, and wake up later."""
    scheduler = world.scheduler
    for execution in [one for one in scheduler.executions if not one.is_over]:
        if execution.state is State.HELD or (execution.mortal and world.rng.random() < 0.3):
            execution.state = State.HELD
        else:
            scheduler.kill(execution)


def _check(world: World, when: str) -> None:
    problems = world.problems()
    if problems:
        world.scheduler.note(f"WRONG {when}: {'; '.join(problems)}")
        raise Wrong(f"{when}: {'; '.join(problems[:4])}")


def _settle(world: World) -> str:
    """Gives the next command, and then what its message names, until a run is complete."""
    flags: dict[str, bool] = {}
    given = []
    shard_size = world.rng.choice(SHARD_SIZES[:2])
    for number in range(_HOPS):
        command = Command(f"next{number}", shard_size=shard_size, **flags)
        process = world.run_alone(command)
        given.append(command.flags)
        if process.outcome == "done":
            break
        flags = named_in(process.message)
        if not flags:
            raise Wrong(f"{command.flags}: {process.message!r} names no way out")
    else:
        raise Wrong(f"a dead end: {', '.join(given)}: {process.message!r}")
    if world.sealed_id() is None:
        raise Wrong(f"{', '.join(given)} ended well, and there is no run")
    _check(world, f"after {', '.join(given)}")
    return ", then ".join(given)


def named_in(message: str) -> dict[str, bool]:
    """The flags of the command that a message names."""
    if "--overwrite without --resume" in message:
        return {"overwrite": True}
    if "--overwrite --resume" in message:
        return {"overwrite": True, "resume": True}
    named = [name for name in ("resume", "overwrite") if f"--{name}" in message]
    return {named[0]: True} if named else {}


def outcomes(seed: int, count: int, folder: Path, patches: Sequence[Any] = ()) -> Iterator[Outcome]:
    """What came of `count` interleavings, from a seed on."""
    for number in range(seed, seed + count):
        yield interleaving(number, folder, patches)


@dataclass
class Tally:
    """The interleavings of a kind in a file system."""

    drawn: int = 0
    executions: int = 0
    requests: int = 0
    deaths: int = 0
    faults: int = 0
    sealed_by: Counter[str] = field(default_factory=Counter)
    next_command: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    blanks: int = 0
    foreign_reports: int = 0

    def add(self, outcome: Outcome) -> None:
        """Counts one more."""
        self.drawn += 1
        for name in ("executions", "requests", "deaths", "faults"):
            setattr(self, name, getattr(self, name) + getattr(outcome, name))
        self.sealed_by[outcome.sealed_by] += 1
        self.next_command[outcome.next_command] += 1
        self.blanks += outcome.blanks
        self.wrong += bool(outcome.wrong)
        self.foreign_reports += outcome.foreign_report


def scratch_folder() -> Path:
    """Where worlds are: in memory, where this machine has such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="interleavings-", dir=memory if memory.is_dir() else None))


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Draws as many as were asked for; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--show", type=int, help="print the requests of one")
    options = parser.parse_args(arguments)
    folder = scratch_folder()
    tallies: dict[tuple[str, str], Tally] = {}
    failed = 0
    start = time.monotonic()
    try:
        if options.show is not None:
            outcome = interleaving(options.show, folder)
            say("\n".join([*outcome.trace, *outcome.wrong]))
            return int(bool(outcome.wrong))
        for outcome in outcomes(options.seed, options.count, folder):
            tally = tallies.setdefault((outcome.file_system, outcome.kind), Tally())
            tally.add(outcome)
            if outcome.wrong:
                say(
                    f"seed {outcome.seed}, {outcome.file_system}, {outcome.kind}: "
                    f"{'; '.join(outcome.wrong)}"
                )
                failed += 1
                if failed <= 3:
                    say("\n".join(f"    {line}" for line in outcome.trace[-400:]))
    finally:
        shutil.rmtree(folder)
    for line in table(tallies):
        say(line)
    say(f"{time.monotonic() - start:.0f} s")
    say(f"{options.count - failed} passed, {failed} failed")
    return int(failed > 0)


def table(tallies: dict[tuple[str, str], Tally]) -> Iterator[str]:
    """The tallies as a Markdown table."""
    yield (
        "| file system | kind | drawn | executions | requests | deaths | faults | first sealed by |"
        " then given | blank files left | foreign reports | wrong |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    order = {name: place for place, name in enumerate((*FILE_SYSTEMS, *KINDS))}
    for (file_system, kind), tally in sorted(
        tallies.items(), key=lambda item: [order[part] for part in item[0]]
    ):
        yield (
            f"| {file_system} | {kind} | {tally.drawn} | {tally.executions:,} | "
            f"{tally.requests:,} | {tally.deaths:,} | {tally.faults:,} | "
            f"{_counts(tally.sealed_by)} | {_counts(tally.next_command)} | {tally.blanks} | "
            f"{tally.foreign_reports} | {tally.wrong} |"
        )


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common(4))


if __name__ == "__main__":
    sys.exit(main())
