"""Kills commands by kill -9 at random moments, and looks what became of what they were writing.

`python -m tests.campaigns.kills --seed=0 --kills=200`

After each kill the output is complete and equal to an undisturbed run's, or an older run is whole,
or it is plainly incomplete; then the command goes on, and ends with what it would have written. A
seed gives the same kills again, as far as the machine's timing lets it.
"""

import argparse
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from beam_job.outputs.attempt import ATTEMPT_PREFIX, CLAIM
from tests.campaigns.campaign import (
    COMMANDS,
    Command,
    Content,
    Running,
    Workplace,
    content_of,
    differences,
    is_sealed,
    is_told_incomplete,
    leftovers,
    table,
)
from transforms.json_documents import decode
from transforms.shard_files import FinishedShard, ShardFile


class Victim(NamedTuple):
    """A command that is killed. older: its output holds an older run."""

    name: str
    command: str
    older: bool = False


VICTIMS = {
    victim.name: victim
    for victim in (
        Victim("compress", "compress"),
        Victim("compress --overwrite", "compress", older=True),
        Victim("stage", "stage"),
        Victim("train", "train"),
        Victim("reconstruct", "reconstruct"),
        Victim("evaluate", "evaluate"),
        Victim("verify", "verify"),
    )
}
_ORDER = tuple(
    VICTIMS[name]
    for name in (
        *("compress", "compress --overwrite", "stage", "reconstruct"),
        *("train", "compress", "compress --overwrite", "stage"),
        *("reconstruct", "evaluate", "compress", "compress --overwrite"),
        *("stage", "reconstruct", "verify", "train"),
    )
)
"""The commands in turn; those with the most to lose come most often."""


class Moment(NamedTuple):
    """When a kill comes: `after` seconds, from the start or from when `files` files are there.

    of: below the output, what files are counted. gone: a file of the older run that goes first.
    """

    after: float
    files: int = 0
    of: str = ""
    gone: str = ""


class Before(NamedTuple):
    """What an attempt had done when it was killed. noted: the inodes of shards' files, by path."""

    noted: dict[str, int]
    in_flight: int


@dataclass
class Tally:
    """What became of the kills of one victim."""

    kills: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    redone: int = 0
    wrong: int = 0


def moment_of(rng: random.Random, victim: Victim, seconds: float) -> Moment:
    """A random moment of a life that takes so many seconds; some aim at what is short in it."""
    kind = rng.random()
    if kind < 0.4 or victim.command == "verify":
        return Moment(rng.uniform(0, 1.05 * seconds))
    if kind < 0.7 and victim.command not in ("reconstruct", "evaluate", "train"):
        return Moment(rng.uniform(0, 0.01), rng.randint(1, 50), f"{ATTEMPT_PREFIX}*/notes/*/*.json")
    if kind < 0.7:
        of = "checkpoint.npz" if victim.command == "train" else f"{ATTEMPT_PREFIX}*/*"
        return Moment(rng.uniform(0, 0.3 * seconds), 1, of)
    if kind < 0.85:
        return Moment(rng.uniform(0, 0.05), 1, f"{ATTEMPT_PREFIX}*/seal-*.json")
    if victim.older:
        return Moment(rng.uniform(0, 0.02), gone=COMMANDS[victim.command].seal)
    of = "images/*/*" if victim.command in ("stage", "reconstruct") else "latents/*/*"
    if victim.command in ("train", "evaluate"):
        of = "*.*"
    return Moment(0, rng.randint(1, 50 if "*/*" in of else 2), of)


def kill(running: Running, moment: Moment, folder: Path) -> bool:
    """Kills the command when the moment has come; False where it was too late."""
    if moment.files:
        running.wait_until(lambda: _count(folder, moment) >= moment.files)
    if moment.gone:
        running.wait_until(lambda: not (folder / moment.gone).exists())
    start = running.seconds if moment.files or moment.gone else 0.0
    running.wait_until(lambda: running.seconds >= start + moment.after)
    if not running.is_at_work():
        return False
    os.kill(running.process.pid, signal.SIGKILL)
    return True


def _count(folder: Path, moment: Moment) -> int:
    try:
        return sum(1 for _ in folder.glob(moment.of))
    except FileNotFoundError:  # It was removed while it was looked at.
        return 0


def before_resuming(folder: Path) -> Before:
    """What the attempts in an output have done, by their notes and files."""
    noted: dict[str, int] = {}
    unnoted = 0
    for attempt in folder.glob(f"{ATTEMPT_PREFIX}*"):
        notes = [_noted(path) for path in attempt.glob("notes/*/*.json")]
        of_attempt = {file.path: file.final_path for file in notes if file is not None}
        for path, final in of_attempt.items():
            there = [way for way in (attempt / path, folder / final) if way.exists()]
            if there:  # Else it is being removed, as the output is complete.
                noted[final] = there[0].stat().st_ino
        begun = [*attempt.glob("latents/*/*"), *attempt.glob("images/*/*")]
        unnoted += sum(str(path.relative_to(attempt)) not in of_attempt for path in begun)
    return Before(noted, unnoted)


def _noted(path: Path) -> ShardFile | None:
    try:
        return decode(path.read_bytes(), FinishedShard).file
    except (OSError, ValueError):  # It was just begun, or is being removed.
        return None


def redone_shards(before: Before, folder: Path) -> list[str]:
    """Noted shards whose file is not the very file that was there at the kill."""
    return [
        f"{path} was done, and was made again"
        for path, inode in before.noted.items()
        if not (folder / path).exists() or (folder / path).stat().st_ino != inode
    ]


class Killed(NamedTuple):
    """What became of a command. end: complete, older whole, exchange, incomplete or too late."""

    end: str
    redone: int
    problems: list[str]


def kill_once(place: Workplace, victim: Victim, rng: random.Random) -> Killed:
    """Kills a command once and lets it go on."""
    command, reference = COMMANDS[victim.command], place.reference(victim.command)
    moment = moment_of(rng, victim, reference.seconds)
    place.clear()
    folder = place.work / command.output
    argv = list(command.argv)
    if victim.older:
        shutil.copytree(place.work / "older", folder)
        argv.append("--overwrite")
    running = Running(place.work, argv)
    killed = kill(running, moment, folder)
    ended = running.ended()
    problems = running.left_processes()
    if ended.status not in ((-signal.SIGKILL, 0) if killed else (0,)):
        problems.append(f"it ended with {ended.status}: {ended.said!r}")
    (place.work / "moment").write_text(f"{victim} {moment} {killed} {ended}")
    end, found_wrong = state(place, victim, command, reference.content)
    problems += found_wrong
    before = before_resuming(folder) if command.resumes else Before({}, 0)
    problems += go_on(place, command, end, older=victim.older)
    problems += differences(content_of(folder), reference.content)
    problems += leftovers(place.work, command)
    if end in ("incomplete", "exchange") or (end == "older whole" and command.resumes):
        problems += redone_shards(before, folder)
    if not killed and not problems:
        end = "too late"
    return Killed(end, before.in_flight, problems)


def state(
    place: Workplace, victim: Victim, command: Command, expected: Content
) -> tuple[str, list[str]]:
    """What a killed command left, and what is wrong with it."""
    if is_sealed(place.work, command):
        found = content_of(place.work / command.output)
        if victim.older and not differences(found, place.older):
            return "older whole", []
        found.pop("checkpoint.npz", None)  # Of no account next to a model.
        if command.argv[0] == "compress" and "report.html" not in found:
            found["report.html"] = expected["report.html"]  # It comes last, and can again.
        return "complete", differences(found, expected)
    problems = [] if is_told_incomplete(place.work, command) else ["it doesn't say it's incomplete"]
    return "exchange" if victim.older else "incomplete", problems


def go_on(place: Workplace, command: Command, end: str, *, older: bool) -> list[str]:
    """Starts a command again after a kill, as its user would; what is wrong with how it ends."""
    argv = list(command.argv)
    if end == "complete":
        if argv[0] == "stage":  # There is nothing to do, and no --overwrite; see ensure_staged.
            _remove_attempts(place.work / command.output)
        elif argv[0] != "verify":
            argv.append("--overwrite")
    elif not command.resumes and (place.work / command.output / CLAIM).exists():
        argv.append("--overwrite")  # As it is told to.
    elif command.resumes:
        argv += ["--resume", *(["--overwrite"] if older and end == "older whole" else [])]
    running = Running(place.work, argv)
    ended = running.ended()
    problems = running.left_processes()
    if ended.status:
        problems.append(f"{' '.join(argv)} ended with {ended.status}: {ended.said!r}")
    return problems


def _remove_attempts(folder: Path) -> None:
    for attempt in folder.glob(f"{ATTEMPT_PREFIX}*"):
        shutil.rmtree(attempt)


def campaign(place: Workplace, seed: int, kills: int, only: str | None) -> dict[str, Tally]:
    """Kills so many times; what became of them, by victim."""
    victims = [victim for victim in _ORDER if only in (None, victim.name)] or [VICTIMS[str(only)]]
    tallies: dict[str, Tally] = {}
    for number in range(kills):
        victim = victims[number % len(victims)]
        killed = kill_once(place, victim, random.Random(f"{seed} {number}"))
        tally = tallies.setdefault(victim.name, Tally())
        tally.kills += 1
        tally.ends[killed.end] += 1
        tally.redone = max(tally.redone, killed.redone)
        print(f"kill {number + 1} of {kills}: {victim.name}: {killed.end}", flush=True)
        if killed.problems:
            tally.wrong += 1
            place.keep(f"kill-{number}", killed.problems)
            print("".join(f"  WRONG: {problem}\n" for problem in killed.problems), end="")
    return tallies


def report(tallies: dict[str, Tally]) -> str:
    """The closing table."""
    ends = ("complete", "incomplete", "older whole", "exchange", "too late")
    rows: list[Sequence[object]] = [
        ("command", "kills", *ends, "shards in flight at most", "wrong")
    ]
    for name, tally in tallies.items():
        counts = [tally.ends[end] for end in ends]
        rows.append((name, tally.kills, *counts, tally.redone, tally.wrong))
    return table(rows)


def main(argv: Sequence[str]) -> int:
    """Runs the campaign; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--command", choices=VICTIMS, help="kill this alone")
    parser.add_argument("--output", type=Path, default=Path("out/torture"))
    options = parser.parse_args(argv)
    place = Workplace(options.output.resolve() / "kills")
    tallies = campaign(place, options.seed, options.kills, options.command)
    wrong = sum(tally.wrong for tally in tallies.values())
    print(report(tallies))
    print(f"{options.kills - wrong} passed, {wrong} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
