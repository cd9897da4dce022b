"""Whole commands on object stores that fail, and what is left of them: a campaign.

`python -m tests.cluster.store_faults --seed=1 --times=20`

Each fault of faulty_store befalls a share of the requests, or all from a random one on, at least so
many times, over both stores and all commands. Then the store is looked at by its own client, past
the proxy: what a command wrote is complete, and what it would be without faults, or is plainly
incomplete, and the same command (with --resume where it has that) makes it complete.
"""

import argparse
import io
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beam_job.datasets.sample import sample_splits
from beam_job.outputs.attempt import ATTEMPT_PREFIX, CLAIM
from tests.cluster.faulty_store import Fault, Plan, faulty
from tests.cluster.stores import Store, gcs_store, s3_store
from tests.conftest import RUNNER

BOUND_SECONDS = 300
"""How long a command may take, whatever its store does; what they took is in the table."""
NEVER = 1 << 30
COMMANDS = {
    "stage": "dataset.json",
    "compress": "manifest.json",
    "reconstruct": "reconstruction.json",
    "verify": None,
}
"""Each with what seals its output."""
RESUMED = ("stage", "compress")
NO_REPORT = "is complete, and its report could not be drawn"
"""What a command may say of its success."""
TOKEN = re.compile(r"\.[0-9a-f]{12}(?=\.parquet$)")
INSIDE = ("Traceback", "object has no attribute")
SOURCE = "images.npy"
OWN_TO_A_RUN = ("run_id", "reconstruction_id", "created", "flags")
IMAGES = 120

_spawn = multiprocessing.get_context("forkserver")


class Ended(NamedTuple):
    """How a command ended; status None where it had to be killed."""

    status: int | None
    said: str
    seconds: float


class Case(NamedTuple):
    """One command under a fault."""

    number: int
    store: Store
    command: str
    fault: Fault
    for_good: bool

    @property
    def folder(self) -> str:
        return f"case-{self.number}"

    @property
    def kind(self) -> str:
        return f"{self.fault.value}, {'for good' if self.for_good else 'now and then'}"


class Outcome(NamedTuple):
    """problem: None where nothing is wrong. ended: the command under the fault."""

    case: Case
    ended: Ended
    befallen: int
    problem: str | None


def cases(
    stores: Sequence[Store], seed: int, times: int, faults: Sequence[Fault] = tuple(Fault)
) -> Iterator[Case]:
    """Every kind of fault so many times; silence, now and then, would be but a long delay."""
    chosen = random.Random(seed)
    kinds = [(fault, for_good) for fault in faults for for_good in (False, True)]
    kinds = [kind for kind in kinds if kind != (Fault.SILENCE, False)]
    pairs = [(store, command) for store in stores for command in COMMANDS]
    ordered = [chosen.sample(pairs, len(pairs)) for _ in kinds]
    for n in range(times * len(kinds)):
        kind = n % len(kinds)
        store, command = ordered[kind][n // len(kinds) % len(pairs)]  # Each as often as any other.
        yield Case(n + 1, store, command, *kinds[kind])


def arguments(store: Store, command: str, output: str) -> list[str]:
    """The command line; output: a folder of the store."""
    run = store.url("reference/compress")
    pipeline = [f"--output={store.url(output)}", f"--runner={RUNNER}"]
    given = {
        "stage": ["--dataset=sample", f"--data_dir={store.url(output)}", "--shard_size=300"],
        "compress": [f"--input={store.url(SOURCE)}", "--shard_size=20", *pipeline],
        "reconstruct": [f"--input={run}", *pipeline],
        "verify": [f"--input={run}"],
    }
    return [command, *given[command], "--quiet"]


def run_command(argv: Sequence[str], env: dict[str, str], log: Path) -> Ended:
    """Runs a command in a process of its own, forked where all has been imported."""
    process = _spawn.Process(target=_command, args=(list(argv), env, str(log)))
    started = time.monotonic()
    process.start()
    process.join(BOUND_SECONDS)
    seconds = time.monotonic() - started
    status = process.exitcode
    if status is None:
        process.kill()
        process.join()
    return Ended(status, log.read_text(errors="replace"), seconds)


def _command(argv: list[str], env: dict[str, str], log: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["beam_job", *argv]
    from beam_job.__main__ import main

    main()


def folder_of(command: str, output: str) -> str:
    """Where a command writes: staging in a folder named like the dataset."""
    return f"{output}/sample" if command == "stage" else output


def normalised(files: dict[str, bytes]) -> dict[str, Any]:
    """What has to be the same in every run of the same job."""
    return {name: _normalised(name, content) for name, content in files.items()}


def _normalised(name: str, content: bytes) -> Any:
    if name.endswith(".html"):  # It shows the run's id.
        return None
    if not name.endswith(".json"):
        return content
    described = json.loads(content)
    for own in OWN_TO_A_RUN:
        described.pop(own, None)
    if isinstance(described.get("files"), list):
        described["files"] = [
            file for file in described["files"] if not file["path"].endswith(".html")
        ]
    elif "files" in described:  # By name.
        described["files"] = {
            path: facts for path, facts in described["files"].items() if not path.endswith(".html")
        }
    return described


def published(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what is unfinished, a seal that was taken away, and who may write there."""
    return {
        name: content
        for name, content in files.items()
        if content and name != CLAIM and not name.startswith(ATTEMPT_PREFIX)
    }


def _images() -> bytes:
    """Digits that are real, as a .npy."""
    content = io.BytesIO()
    np.save(content, sample_splits()["train"].images[:IMAGES].reshape(-1, 28, 28))
    return content.getvalue()


class Campaign:
    """The cases of a seed, on stores that hold a reference of all that commands write."""

    def __init__(self, stores: Sequence[Store], seed: int, logs: Path) -> None:
        self._seed = seed
        self._logs = logs
        self._reference: dict[tuple[str, str], dict[str, bytes]] = {}
        self._requests: dict[tuple[str, str], int] = {}
        for store in stores:
            store.write(SOURCE, _images())
            for command in COMMANDS:
                self._make_reference(store, command)

    def _make_reference(self, store: Store, command: str) -> None:
        """Runs a command without faults, and counts its requests."""
        plan = Plan(Fault.SILENCE, self._seed, starts_at=NEVER)
        output = f"reference/{command}"
        with faulty(store.address, plan) as address:
            ended = run_command(
                arguments(store, command, output), store.at(address), self._logs / "reference"
            )
        if (ended.status, ended.said) != (0, ""):
            raise RuntimeError(f"{store.scheme} {command}, without a fault: {ended}")
        self._reference[store.scheme, command] = store.tree(folder_of(command, output))
        self._requests[store.scheme, command] = plan.requests

    def run(self, case: Case) -> Outcome:
        """Runs a command under its fault, looks at what it left, and goes on with it."""
        store, requests = case.store, self._requests[case.store.scheme, case.command]
        starts_at = None
        if case.for_good:
            starts_at = random.Random(f"{self._seed} {case.number}").randint(1, requests)
        plan = Plan(case.fault, self._seed * 1_000_000 + case.number, starts_at)
        argv = arguments(store, case.command, case.folder)
        log = self._logs / case.folder
        with faulty(store.address, plan) as address:
            ended = run_command(argv, store.at(address), log)
        problem = self._problem(case, ended, argv)
        store.remove(case.folder)
        return Outcome(case, ended, len(plan.befallen), problem)

    def _problem(self, case: Case, ended: Ended, argv: list[str]) -> str | None:
        if ended.status is None:
            return f"did not end in {BOUND_SECONDS} s"
        told = ended.said.splitlines()
        if ended.status not in (0, 1, 2) or any(word in ended.said for word in INSIDE):
            return f"ended with status {ended.status}, or told of its inside"
        if problem := problem_of_lines(ended.status, told):
            return problem
        if case.command == "verify":
            return "called a whole run altered" if ended.status and "store" not in told[0] else None
        return self._problem_of_output(case, ended, argv)

    def _problem_of_output(self, case: Case, ended: Ended, argv: list[str]) -> str | None:
        folder, seal = folder_of(case.command, case.folder), COMMANDS[case.command]
        left = case.store.tree(folder)
        final = published(left)
        if half := half_written(left, self._reference[case.store.scheme, case.command]):
            return f"{half} is not whole"
        if seal in final:
            if case.command == "compress" and "report.html" not in final:
                drawing = ["report", f"--input={case.store.url(folder)}", "--quiet"]
                run_command(drawing, case.store.env, self._logs / f"{case.folder}-report")
                final = published(case.store.tree(folder))
            return self._difference(case, final)
        if ended.status == 0:
            return f"ended well without {seal}"
        again = [*argv, "--resume" if case.command in RESUMED else "--overwrite"]
        ended = run_command(again, case.store.env, self._logs / f"{case.folder}-again")
        if (ended.status, ended.said) != (0, ""):
            return f"could not be gone on with: {ended}"
        return self._difference(case, published(case.store.tree(folder)))

    def _difference(self, case: Case, files: dict[str, bytes]) -> str | None:
        expected = normalised(published(self._reference[case.store.scheme, case.command]))
        found = normalised(files)
        differing = sorted(
            name
            for name in {*expected, *found}
            if (name in expected, expected.get(name)) != (name in found, found.get(name))
        )
        return f"differs from a run without faults in {', '.join(differing)}" if differing else None


def problem_of_lines(status: int, told: list[str]) -> str | None:
    """What is wrong with the lines that a command ends with; a report that is missing is a note."""
    lines = [line for line in told if NO_REPORT not in line]
    if not status:
        return "said something of its success" if lines else None
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"said {len(lines)} lines of its failure"
    if len(told) > 1 and "is complete" not in lines[0]:
        return "said that its run is complete, and failed for another reason"
    return None


def half_written(left: dict[str, bytes], reference: dict[str, bytes]) -> str | None:
    """A file that isn't what it has to be, under its own name or in what is unfinished."""
    for name, content in left.items():
        of_run = name.partition("/")[2] if name.startswith(ATTEMPT_PREFIX) else name
        of_run = of_run.partition("/")[2] if of_run.startswith("documents-") else of_run
        if name.endswith(".parquet") and content != reference.get(TOKEN.sub("", of_run)):
            return name
        ends = (b"}", b"]", b">")
        if name.endswith((".json", ".html")) and content and not content.strip().endswith(ends):
            return name
    return None


@contextmanager
def both_stores(folder: Path) -> Iterator[list[Store]]:
    """S3 and GCS, as long as the block lasts."""
    with ExitStack() as stack:
        stores = []
        for name, make in (("s3", s3_store), ("gcs", gcs_store)):
            (folder / name).mkdir()
            stores.append(stack.enter_context(make(folder / name)))
        yield stores


def table(outcomes: Sequence[Outcome]) -> str:
    """By kind of fault: runs, requests befallen, runs that ended well all the same, longest."""
    lines = [("fault", "runs", "requests", "ended well", "longest", "failed")]
    for kind in dict.fromkeys(outcome.case.kind for outcome in outcomes):
        of_kind = [outcome for outcome in outcomes if outcome.case.kind == kind]
        lines.append(
            (
                kind,
                str(len(of_kind)),
                str(sum(outcome.befallen for outcome in of_kind)),
                str(sum(outcome.ended.status == 0 for outcome in of_kind)),
                f"{max(outcome.ended.seconds for outcome in of_kind):.0f} s",
                str(sum(outcome.problem is not None for outcome in of_kind)),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def campaign(
    seed: int,
    times: int,
    at_once: int,
    faults: Sequence[Fault] = tuple(Fault),
    only: Sequence[int] = (),
) -> Iterator[Outcome]:
    """Runs a campaign, by its cases in order. only: the numbers of some, all for none."""
    _spawn.set_forkserver_preload(
        [
            "beam_job.compress.pipeline",
            "beam_job.reconstruct.pipeline",
            "beam_job.verify.command",
            "boto3",
        ]
    )
    with tempfile.TemporaryDirectory() as folder, both_stores(Path(folder)) as stores:
        logs = Path(folder) / "logs"
        logs.mkdir()
        running = Campaign(stores, seed, logs)
        every = cases(stores, seed, times, faults)
        with ThreadPoolExecutor(at_once) as pool:
            yield from pool.map(running.run, [c for c in every if not only or c.number in only])


def _line(outcome: Outcome) -> str:
    case, ended = outcome.case, outcome.ended
    verdict = "ok" if outcome.problem is None else f"FAILED: {outcome.problem}"
    said = f"; {ended.said.strip()}" if ended.said else ""
    return (
        f"case {case.number}, {case.store.scheme} {case.command}: {case.kind}, "
        f"{outcome.befallen} requests: status {ended.status} in {ended.seconds:.1f} s: "
        f"{verdict}{said}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, default=20, help="how often each fault")
    parser.add_argument("--at_once", type=int, default=4, help="commands at work at once")
    parser.add_argument("--only", nargs="*", type=int, default=(), help="numbers of cases")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Takes the stores down.
    outcomes: list[Outcome] = []
    failed = Counter[bool]()
    try:
        for outcome in campaign(given.seed, given.times, given.at_once, only=given.only):
            outcomes.append(outcome)
            failed[outcome.problem is not None] += 1
            print(_line(outcome), flush=True)
    finally:  # What an interrupted campaign has shown counts too.
        print(table(outcomes))
        print(f"{failed[False]} passed, {failed[True]} failed")
    return 1 if failed[True] else 0


if __name__ == "__main__":
    sys.exit(main())
