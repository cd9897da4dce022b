"""What the campaigns share: small inputs, real commands as processes, and what these leave behind.

Every run of a campaign works in the same folder, so that the documents of two runs, which name
their paths, are the same.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from beam_job.__main__ import run
from beam_job.datasets.catalog import staged_dataset
from beam_job.outputs.attempt import ATTEMPT_PREFIX, CLAIM
from transforms.errors import InputError
from transforms.models.directory import find_model

REPOSITORY = Path(__file__).parents[2]
IMAGES, SHARD_SIZE, OLDER_SHARD_SIZE = 400, 8, 16
LONGEST_SECONDS = 300
"""What takes longer hangs; the slowest command takes some seconds on a machine that is idle."""
_POLL_SECONDS = 0.003
END_SECONDS = 20
"""How long processes may live on without their launcher."""

THREADS = (
    "--runner=FnApiRunner",
    "--direct_num_workers=2",
    "--direct_running_mode=multi_threading",
)
_OF_ONE_RUN = {"run_id", "reconstruction_id", "created", "flags", "shared_object_id", "version"}
"""What differs in documents of the same images; version: of a source, has the time of writing."""
_WITH_DATES = (".html", ".keras")


class Command(NamedTuple):
    """A command that writes `output`, complete if `seal` is there. resumes: it has --resume."""

    argv: tuple[str, ...]
    output: str
    seal: str
    resumes: bool = False


COMPRESS = (
    "compress",
    "--input=images.npy",
    "--output=out",
    "--engine=ncnn",
    f"--shard_size={SHARD_SIZE}",
)
COMMANDS = {
    "compress": Command(COMPRESS, "out", "manifest.json", resumes=True),
    "compress staged": Command(
        (
            "compress",
            "--dataset=sample",
            "--data_dir=data",
            "--output=out",
            "--engine=ncnn",
            "--shard_size=100",
        ),
        "out",
        "manifest.json",
        resumes=True,
    ),
    "stage": Command(
        ("stage", "--dataset=sample", "--data_dir=data", "--shard_size=30"),
        "data/sample",
        "dataset.json",
        resumes=True,
    ),
    "train": Command(
        ("train", "--input=images.npy", "--output=model", "--epochs=3"),
        "model",
        "model.json",
        resumes=True,
    ),
    "reconstruct": Command(
        (
            "reconstruct",
            "--input=run",
            "--originals=images.npy",
            "--output=decoded",
            "--engine=ncnn",
        ),
        "decoded",
        "reconstruction.json",
    ),
    "evaluate": Command(
        ("evaluate", "--input=images.npy", "--output=evaluation", "--max_images=20"),
        "evaluation",
        "evaluation.json",
    ),
    "verify": Command(("verify", "--input=run", "--against=images.npy"), "run", "manifest.json"),
}

Content = dict[str, bytes]


class Ended(NamedTuple):
    """How a command ended. seconds: that it took; negative status: the signal that ended it."""

    status: int
    said: str
    seconds: float


class Reference(NamedTuple):
    """What an undisturbed run of a command writes, and how long it takes."""

    content: Content
    seconds: float


class Running:
    """A command at work, in a session of its own, which tells its processes from all others."""

    def __init__(
        self,
        work: Path,
        argv: Sequence[str],
        *,
        whole: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """whole: a command line of another program, if it isn't ours that runs."""
        self.temporary = work / "tmp"
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()
        self._said = (work / "stderr").open("w+")
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            whole or [sys.executable, "-m", "beam_job", *argv, "--quiet"],
            cwd=work,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "PYTHONFAULTHANDLER": "1",
                "TMPDIR": str(self.temporary),
                "XDG_CACHE_HOME": str(work / "cache"),
                "KERAS_HOME": str(work / "keras"),
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,
        )

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._started

    def is_at_work(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Waits for a moment of its life, or its end."""
        while self.is_at_work() and not reached() and self.seconds < LONGEST_SECONDS:
            time.sleep(_POLL_SECONDS)

    def ended(self) -> Ended:
        """Waits for its end; one that hangs is aborted, and Python says where it stood."""
        try:
            self.process.wait(max(0.1, LONGEST_SECONDS - self.seconds))
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()
        self._said.seek(0)
        said = self._said.read()
        self._said.close()
        return Ended(self.process.returncode, said, self.seconds)

    def left_processes(self) -> list[str]:
        """The processes of its session that live on without it; they are killed."""
        deadline = time.monotonic() + END_SECONDS
        while (left := list(self._session())) and time.monotonic() < deadline:
            time.sleep(0.05)
        names = [f"process {process.pid} is left" for process in left]
        for process in left:
            process.kill()
        return names

    def _session(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                of_session = os.getsid(process.pid) == self.process.pid
                if of_session and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue


class Workplace:
    """The folder that every run of a campaign works in, and where failed ones are kept."""

    def __init__(self, folder: Path) -> None:
        self._kept = folder
        self._inputs = folder / "inputs"
        self.work = folder / "work"
        self.references: dict[str, Reference] = {}
        shutil.rmtree(folder, ignore_errors=True)
        self._inputs.mkdir(parents=True)
        images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28), np.uint8)
        np.save(self._inputs / "images.npy", images)
        self.clear()
        self.run(COMPRESS)
        shutil.copytree(self.work / "out", self._inputs / "run")
        self.clear()
        self.run([*COMPRESS[:-1], f"--shard_size={OLDER_SHARD_SIZE}"])
        self.older = content_of(self.work / "out")
        shutil.copytree(self.work / "out", self._inputs / "older")

    def clear(self) -> None:
        """Nothing in the work folder but the inputs."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self._inputs, self.work)

    def run(self, argv: Sequence[str]) -> Ended:
        """Runs a command undisturbed; raises RuntimeError where it fails all the same."""
        running = Running(self.work, argv)
        ended = running.ended()
        if ended.status or running.left_processes():
            raise RuntimeError(f"{' '.join(argv)} ended with {ended.status}: {ended.said}")
        return ended

    def reference(self, name: str) -> Reference:
        """What a command writes, undisturbed; found once, and the work folder is then its own."""
        if name not in self.references:
            self.clear()
            if name == "compress staged":  # In the shards that the others read.
                self.run(COMMANDS["stage"].argv)
            ended = self.run(COMMANDS[name].argv)
            content = content_of(self.work / COMMANDS[name].output)
            self.references[name] = Reference(content, ended.seconds)
        return self.references[name]

    def keep(self, name: str, problems: Sequence[str]) -> None:
        """Keeps the work folder as evidence."""
        target = self._kept / f"failed-{name}"
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(self.work, target)
        (target / "problems.txt").write_text("\n".join(problems) + "\n")


def content_of(folder: Path) -> Content:
    """Every file below a folder, but for what is of one run alone: its id, times and flags.

    Leaves out attempts, and which of them may write there: no part of what an output holds.
    """
    contents = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CLAIM and ATTEMPT_PREFIX not in str(path)
    }
    return {name: _comparable(name, content) for name, content in contents.items()}


def _comparable(name: str, content: bytes) -> bytes:
    if name.endswith(".json"):
        return json.dumps(_of_any_run(json.loads(content))).encode()
    if name.endswith(".html"):
        return re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", b"", content)
    if name.endswith(".keras"):
        with zipfile.ZipFile(io.BytesIO(content)) as saved:
            config = json.loads(saved.read("config.json"))
            return json.dumps(_of_any_run(config)).encode() + saved.read("model.weights.h5")
    return content


def _of_any_run(value: Any) -> Any:
    """JSON without ids, times, flags, and the checksums of files that name them."""
    if isinstance(value, list):
        return [_of_any_run(part) for part in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("path", "")).endswith(_WITH_DATES):
        return {"path": value["path"]}
    return {
        name: None if name.endswith(_WITH_DATES) else _of_any_run(part)
        for name, part in value.items()
        if name not in _OF_ONE_RUN
    }


def differences(found: Content, expected: Content) -> list[str]:
    """What is not as it should be in an output, a line a file."""
    return [
        *(f"{name} is missing" for name in expected.keys() - found.keys()),
        *(f"{name} is too much" for name in found.keys() - expected.keys()),
        *(
            f"{name} has another content"
            for name in found.keys() & expected.keys()
            if found[name] != expected[name]
        ),
    ]


def leftovers(work: Path, command: Command) -> list[str]:
    """What a command that is done should have removed: temporary files, attempts, checkpoints."""
    found = [*(work / "tmp").rglob("*"), *work.rglob("*.tmp")]
    folder = work / command.output
    if folder.exists():
        found += [*folder.glob(f"{ATTEMPT_PREFIX}*"), *folder.glob("checkpoint.npz")]
    return [f"{path.relative_to(work)} is left" for path in sorted(set(found))]


def is_sealed(work: Path, command: Command) -> bool:
    """Whether an output says that it is complete."""
    return (work / command.output / command.seal).exists()


def is_told_incomplete(work: Path, command: Command) -> bool:
    """Whether what reads an output finds that there is none, and says so."""
    folder = str(work / command.output)
    if command.argv[0] == "compress":
        with contextlib.redirect_stderr(io.StringIO()) as said:
            status = run(["verify", f"--input={folder}"])
        # Where nothing had been done the folder itself is gone again.
        return (
            status == 2
            and re.search("no complete run|is no folder|is not a folder", said.getvalue())
            is not None
        )
    if command.argv[0] == "train":
        try:
            find_model(folder)
        except InputError:
            return True
        return False
    if command.argv[0] == "stage":
        return staged_dataset(str(work / "data"), "sample") is None
    return not is_sealed(work, command)


def one_clear_line(said: str) -> list[str]:
    """What is wrong with what a command said as it failed."""
    lines = said.splitlines()
    if len(lines) == 1 and "Traceback" not in said and not lines[0].startswith("error: unexpected"):
        return []
    return [f"it said, where one clear line was due: {said!r}"]


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows of plain text, their columns aligned."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
