"""Hostile input for every reader: `python -m tests.campaigns.fuzz --seed=0 --inputs=1000000`.

Each input is made from valid ones (readers.py) by alterations that know its structure
(mutations.py), and depends on the seed, the reader and its number alone. Readers are asked in child
processes, which are fed many inputs each, so that what kills one is seen and known. A part of the
inputs is found by atheris, guided by the lines of Python that they reach.

A finding is an exception that is no JobError, a warning, a process that dies, an input that takes
more than 5 s or 512 MB, or a file altered outside of the reader's folder. The input that gave it is
kept in --output, and the exit status is 1.
"""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from math import ceil
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from beam_job.logs import set_up_logging
from transforms.errors import JobError

MAX_SECONDS = 5.0
MAX_BYTES = 512 << 20
"""What one input may take beyond what the process had before the first."""
GUIDED_SHARE = 0.2
"""Of a reader's inputs, those that atheris finds."""
NOT_GUIDED = ("mat", "keras", "gzip", "sizes", "rejects", "latents", "manifest")
"""Readers most of whose time goes to native code, or to files: coverage of Python says little."""

CATALOGUE = "tests.campaigns.readers"
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files are made and removed a million times: in memory, where there is such a place."""

_CHUNK_INPUTS = 2000
_SHOWN_CHARACTERS = 2000
PATIENCE = 12
"""Times MAX_SECONDS that may pass while an input waits for something else than a core."""
_DIED, _TOOK = "died", "took"
_LONGEST_START = 120.0
_PROBLEMS_A_READER = 20
"""A reader with more findings is left: it has to be mended first."""

Read = Callable[[bytes, Path], object]


class Finding(NamedTuple):
    """What is wrong with the answer to an input."""

    reader: str
    number: int
    problem: str


@dataclass
class Outcome:
    """What came of a reader's inputs.

    borne: ends of a process, of a reader that the job has in one of its own too.
    """

    inputs: int = 0
    guided: int = 0
    seconds: float = 0.0
    borne: int = 0
    findings: list[Finding] = field(default_factory=list)


class Box:
    """A folder for a reader, emptied for each input, beside files that it has to leave alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "inside"
        self._outside = folder
        (folder / "precious").write_bytes(b"precious")
        self._before = self._around()

    def emptied(self) -> Path:
        """The folder, without what an input has left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return self.folder

    def trespass(self) -> str | None:
        """What is no longer as it was outside of the folder."""
        now = self._around()
        return None if now == self._before else f"altered files outside: {now}"

    def _around(self) -> list[tuple[str, int, int]]:
        entries = sorted(os.scandir(self._outside), key=lambda entry: entry.name)
        facts = [(entry.name, entry.stat()) for entry in entries if entry.name != "inside"]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in facts]


def readers_of(catalogue: str) -> dict[str, Any]:
    """The READERS of a module, by name; it is imported late, for it imports nearly everything."""
    readers: dict[str, Any] = import_module(catalogue).READERS
    return readers


def problem_of(read: Read, content: bytes, box: Box) -> str | None:
    """What is wrong with how a reader answers an input; None for nothing."""
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: said.append(f"warned: {message}")
        try:
            read(content, box.emptied())
        except JobError as error:
            if len(str(error)) > _SHOWN_CHARACTERS:
                said.append(f"said {len(str(error)):,} characters")
        except BaseException as error:  # noqa: BLE001  # That none comes is what is tested.
            said.append(f"raised {type(error).__name__}: {str(error)[:300]}")
    trespass = box.trespass()
    if trespass is not None:
        said.append(trespass)
    return "; ".join(said) or None


def input_of(name: str, reader: Any, seed: int, number: int, seeds: Sequence[bytes]) -> bytes:
    """The input of a number: the same at any time; the first are the valid ones themselves."""
    if number < len(seeds):
        return seeds[number]
    content: bytes = reader.mutate(Random(f"{seed} {name} {number}"), seeds)
    return content


def _serve(connection: Connection, catalogue: str, name: str, seed: int) -> None:
    """A child: is sent (first, stop), and says which number it begins, then what it found."""
    set_up_logging(debug=False)
    readers = readers_of(catalogue)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reader = readers[name]
    read, seeds = reader.read, reader.seeds()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=FAST) as folder:
        box = Box(Path(folder))
        for content in seeds:  # What is imported and kept is no input's.
            problem_of(read, content, box)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # What native libraries say besides.
        _limit_memory()
        connection.send(("ready", 0, None))
        while (chunk := connection.recv()) is not None:
            for number in range(*chunk):
                connection.send(("begun", number, None))
                problem = _measured(read, input_of(name, reader, seed, number, seeds), box)
                if problem is not None:
                    connection.send(("found", number, problem))
                    if _TOOK in problem:  # Its peak hides the next one's.
                        connection.send(("left", number, None))
                        return
            connection.send(("done", chunk[1], None))


def _measured(read: Read, content: bytes, box: Box) -> str | None:
    before = _peak_bytes()
    problem = problem_of(read, content, box)
    taken = _peak_bytes() - before
    if taken > MAX_BYTES:
        return f"{problem or 'answered'}; {_TOOK} {taken:,} bytes"
    return problem


def _peak_bytes() -> int:
    """Of this program: what getrusage says goes back to the one that started it."""
    return _of_process("VmHWM")


def _of_process(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[name].split()[0]) * 1024


def _limit_memory() -> None:
    """Lets a child take 8 times what it may, so that the machine bears what it finds."""
    size = _of_process("VmSize")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 8 * MAX_BYTES, hard))


class _Child:
    """A child process for one reader, and what it was last heard of."""

    def __init__(self, catalogue: str, name: str, seed: int) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, catalogue, name, seed), daemon=True
        )
        self.process.start()
        self.is_gone = False
        theirs.close()

    def chunk(self, first: int, stop: int) -> Iterator[tuple[int, str]]:
        """Has inputs read; (number, problem) of each finding. The child may be gone after one."""
        self.connection.send((first, stop))
        number = first
        while True:
            if not self._is_heard_of():
                self.end()
                yield number, f"{_TOOK} more than {MAX_SECONDS:g} s"
                return
            try:
                kind, number, problem = self.connection.recv()
            except (EOFError, ConnectionError):
                self.end()
                yield number, f"{_DIED} ({self.process.exitcode})"
                return
            if kind == "done":
                return
            if kind == "found":
                yield number, problem
            if kind == "left":
                self.end()
                return

    def _is_heard_of(self) -> bool:
        """Whether it says something before the input has had its seconds of a core, or far more.

        On a machine that has other things to do the seconds that pass say little.
        """
        before = self._seconds_computed()
        for _ in range(PATIENCE):
            if self.connection.poll(MAX_SECONDS):
                return True
            if self._seconds_computed() - before > MAX_SECONDS:
                return False
        return False

    def _seconds_computed(self) -> float:
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # It is gone, which the connection says too.
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def start(self) -> None:
        if not self.connection.poll(_LONGEST_START) or self.connection.recv()[0] != "ready":
            raise RuntimeError("a child did not start")

    def is_there(self) -> bool:
        """Whether it goes on; one that took too much memory has left."""
        return not self.is_gone

    def end(self) -> None:
        self.is_gone = True
        self.process.join(0.2)
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_reader(name: str, seed: int, inputs: int, catalogue: str = CATALOGUE) -> Outcome:
    """Feeds a reader inputs in a child process; in a new one where that is gone."""
    contained = readers_of(catalogue)[name].contained
    outcome, child, begun, number = Outcome(), None, time.monotonic(), 0
    while number < inputs and len(outcome.findings) < _PROBLEMS_A_READER:
        if child is None:
            child = _Child(catalogue, name, seed)
            child.start()
        end = last = min(inputs, number + _CHUNK_INPUTS)
        for last, problem in child.chunk(number, end):
            if contained and problem.startswith(_DIED):
                outcome.borne += 1
            else:
                outcome.findings.append(Finding(name, last, problem))
        if child.is_there():
            number = end
        else:
            number, child = last + 1, None
    if child is not None:
        child.end()
    outcome.inputs = number
    outcome.seconds = time.monotonic() - begun
    return outcome


def run_guided(reader: str, seed: int, runs: int, output: Path) -> Outcome:
    """Lets atheris look for inputs, in a process of its own."""
    begun = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "tests.campaigns.guided",
        reader,
        str(seed),
        str(runs),
        str(output),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    outcome = Outcome(runs, runs, time.monotonic() - begun)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        told = [
            line for line in lines if "PROBLEM" in line or "ERROR" in line or "Test unit" in line
        ]
        problem = "; ".join((told or lines)[-3:])[:1000]
        outcome.findings.append(Finding(reader, -1, f"guided, status {done.returncode}: {problem}"))
    return outcome


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a campaign and prints a line a reader; 1 if there is a finding."""
    set_up_logging(debug=False)
    readers = readers_of(CATALOGUE)
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all readers")
    parser.add_argument("--reader", choices=[*readers], action="append", help="one alone; again")
    parser.add_argument("--at_once", type=int, default=2, help="readers at once")
    parser.add_argument("--output", type=Path, default=Path("out/torture"))
    options = parser.parse_args(argv)
    if find_spec("atheris") is None:
        print("NOTE: atheris is not installed: no input is guided by coverage", flush=True)
    plan = shares({name: readers[name] for name in options.reader or readers}, options.inputs)
    outcomes = {}
    with ThreadPoolExecutor(options.at_once) as pool:
        jobs = {
            reader: pool.submit(_campaign, reader, options.seed, inputs, options.output)
            for reader, inputs in plan.items()
        }
        for reader, job in jobs.items():
            outcomes[reader] = job.result()
            print(_line(reader, outcomes[reader]), flush=True)
    findings = [finding for outcome in outcomes.values() for finding in outcome.findings]
    for finding in findings:
        keep(finding, options.seed, options.output)
    total = Outcome(
        sum(outcome.inputs for outcome in outcomes.values()),
        sum(outcome.guided for outcome in outcomes.values()),
        sum(outcome.seconds for outcome in outcomes.values()),
        sum(outcome.borne for outcome in outcomes.values()),
        findings,
    )
    print(_line("all", total))
    return 1 if findings else 0


def shares(readers: Mapping[str, Any], inputs: int) -> dict[str, int]:
    """How many inputs each reader gets; together no fewer than asked for."""
    whole = sum(reader.share for reader in readers.values())
    return {name: ceil(inputs * reader.share / whole) for name, reader in readers.items()}


def _campaign(reader: str, seed: int, inputs: int, output: Path) -> Outcome:
    is_guided = find_spec("atheris") is not None and reader not in NOT_GUIDED
    guided = round(inputs * GUIDED_SHARE) if is_guided else 0
    outcome = run_reader(reader, seed, inputs - guided)
    if guided:
        found = run_guided(reader, seed, guided, output)
        outcome.inputs += found.inputs
        outcome.guided = found.guided
        outcome.seconds += found.seconds
        outcome.findings += found.findings
    return outcome


def _line(name: str, outcome: Outcome) -> str:
    return (
        f"{name:14}{outcome.inputs:>10,} inputs {outcome.guided:>9,} guided "
        f"{outcome.seconds:>7,.0f} s {len(outcome.findings):>4} findings"
        + (f" {outcome.borne} ends borne" if outcome.borne else "")
    )


def keep(finding: Finding, seed: int, output: Path) -> None:
    """Writes down the input of a finding, and what it is; atheris has written its own."""
    output.mkdir(parents=True, exist_ok=True)
    name = f"{finding.reader}-{seed}-{finding.number}"
    print(f"  {name}: {finding.problem}")
    (output / f"{name}.txt").write_text(finding.problem + "\n")
    if finding.number >= 0:
        reader = readers_of(CATALOGUE)[finding.reader]
        content = input_of(finding.reader, reader, seed, finding.number, reader.seeds())
        (output / name).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
