"""Under load: very many images, several jobs on one data_dir, a machine of one core and 2 GB.

`python -m tests.campaigns.load --images=8142550` needs Linux, and root for the small machine; 7 GB
of disk. It says what it saw, and its exit status is 1 where anything was not as promised.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from beam_job.datasets.sample import sample_splits
from benchmarks.inputs import NPY, write_inputs
from tests.conftest import tree

ROOT = Path(__file__).parents[2]
MANY = 8_142_550
"""Ten times EMNIST's byclass."""
PEAK_BYTES = 600e6
"""What the job may take with the int8 encoder, however many images: 353 MB were measured for
112,800, and 0.009 KB more an image (benchmarks/RESULTS.md)."""
OPEN_FILES = 200
"""What a process may hold open at once; files of a shard that stayed open would be more."""
SMALL_IMAGES, SMALL_BYTES = 112_800, 2 * 1024**3
JOBS_AT_ONCE = 4


class Watched(NamedTuple):
    """What a command did. peak_bytes: RSS; open_files: most of them at once."""

    status: int
    said: str
    seconds: float
    peak_bytes: int
    open_files: int


def main() -> None:
    """Runs what is asked for, and exits with 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--images", type=int, default=MANY)
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--folder", type=Path, help="where to work, instead of a temporary folder")
    arguments = parser.parse_args()
    failed = 0
    names = arguments.only or list(CASES)
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in names:
            try:
                CASES[name](folder / name, arguments.images)
            except AssertionError as error:
                failed += 1
                print(f"{name}: FAILED: {error}", flush=True)
    print(f"{len(names) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


def many(folder: Path, images: int) -> None:
    """Compresses and verifies so many images, within memory that does not grow with them."""
    flags = ["--precision=int8", f"--input={write_digits(folder, images)}"]
    output = f"--output={folder}/out"
    with nothing_left(folder) as environment:
        compressed = watched("compress", *flags, output, environment=environment)
        check(f"compress {images:,} images", compressed, PEAK_BYTES)
        verified = watched("verify", f"--input={folder}/out", environment=environment)
        check(f"verify {images:,} images", verified, PEAK_BYTES)
    assert f"{images:,} images" in verified.said, verified.said
    assert not list((folder / "out").glob("_incomplete-*")), "an attempt is left"


def at_once(folder: Path, _: int) -> None:
    """Several jobs, none of which finds the dataset staged: each is right, and one staged it."""
    flags = ["--dataset=sample", f"--data_dir={folder}/data", "--quiet"]
    with nothing_left(folder) as environment:
        started = [
            start("compress", *flags, f"--output={folder}/out-{number}", environment=environment)
            for number in range(JOBS_AT_ONCE)
        ]
        for process in started:
            said, _ = process.communicate()
            assert (process.returncode, said) == (0, ""), said
        outputs = [folder / f"out-{number}" for number in range(JOBS_AT_ONCE)]
        for output in outputs:
            verify = ("verify", f"--input={output}", "--against=sample")
            checked = watched(*verify, f"--data_dir={folder}/data", environment=environment)
            assert checked.status == 0, checked.said
    one, *others = (tree(output / "latents") for output in outputs)
    assert all(other == one for other in others), "the jobs wrote different latents"
    left = sorted(path.name for path in (folder / "data/sample").iterdir())
    assert left == ["dataset.json", "images"], left
    print(f"at_once: {JOBS_AT_ONCE} jobs on one data_dir, the same latents", flush=True)


def small(folder: Path, _: int) -> None:
    """Every engine, training, decoding and verifying on one core with 2 GB."""
    images = f"--input={write_digits(folder, SMALL_IMAGES)}"
    engines = {"ncnn": [], "litert": ["--precision=int8"], "tensorflow": ["--engine=tensorflow"]}
    commands = {
        f"compress, {name}": ["compress", images, f"--output={folder}/{name}", *flags]
        for name, flags in engines.items()
    }
    run = f"--input={folder}/ncnn"
    commands["reconstruct"] = ["reconstruct", run, f"--output={folder}/decoded"]
    commands["verify"] = ["verify", run, f"--against={folder}/digits/{NPY}"]
    commands["train"] = ["train", "--dataset=sample", "--epochs=1", f"--output={folder}/model"]
    with nothing_left(folder) as environment, small_machine() as enter:
        for name, command in commands.items():
            done = watched(*command, environment=environment, enter=enter)
            check(f"one core, 2 GB: {name}", done, SMALL_BYTES)


CASES: dict[str, Callable[[Path, int], None]] = {"many": many, "at_once": at_once, "small": small}


def write_digits(folder: Path, images: int) -> Path:
    """The embedded digits, over and over, as a .npy of so many images."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = sample_splits()["train"].images
    return write_inputs(folder / "digits", digits, images, {NPY}) / NPY


@contextlib.contextmanager
def nothing_left(folder: Path) -> Iterator[dict[str, str]]:
    """An environment whose folder for temporary files has to be empty again at the end."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    cache = {"XDG_CACHE_HOME": str(folder / "cache"), "KERAS_HOME": str(folder / "keras")}
    yield {**os.environ, **cache, "TMPDIR": str(temporary)}
    left = sorted(path.name for path in temporary.iterdir())
    assert not left, f"temporary files are left: {left}"


def start(
    *command: str, environment: dict[str, str], enter: Callable[[], None] | None = None
) -> subprocess.Popen:
    """Starts a command of the project. enter: what its process does first."""
    return subprocess.Popen(
        [sys.executable, "-m", "beam_job", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=enter,  # noqa: PLW1509  # No thread is at work between fork and exec.
    )


def watched(
    *command: str, environment: dict[str, str], enter: Callable[[], None] | None = None
) -> Watched:
    """Runs a command to its end, and looks at its memory and its open files meanwhile."""
    started = time.monotonic()
    process = start(*command, environment=environment, enter=enter)
    most_open, ended = [0], threading.Event()

    def look() -> None:
        with contextlib.suppress(FileNotFoundError):
            while not ended.wait(0.2):
                most_open.append(len(list(Path(f"/proc/{process.pid}/fd").iterdir())))

    looking = threading.Thread(target=look)
    looking.start()
    said = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    looking.join()
    peak_bytes = usage.ru_maxrss * 1024
    seconds = time.monotonic() - started
    return Watched(process.returncode, said, seconds, peak_bytes, max(most_open))


def check(what: str, done: Watched, peak_bytes: float) -> None:
    """Says what a command took; fails where it failed, or took more than it may."""
    print(
        f"{what}: status {done.status}, {done.seconds:.1f} s, {done.peak_bytes / 1e6:,.0f} MB at "
        f"its peak, {done.open_files} files open at once",
        flush=True,
    )
    assert done.status == 0, done.said
    assert done.peak_bytes <= peak_bytes, f"more than {peak_bytes:,.0f} bytes"
    assert done.open_files <= OPEN_FILES, f"more than {OPEN_FILES} files"


@contextlib.contextmanager
def small_machine() -> Iterator[Callable[[], None]]:
    """What a process calls to have one core, and be killed where it takes more than 2 GB."""
    group = _memory_group(SMALL_BYTES)

    def enter() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        yield enter
    finally:
        group.rmdir()


def _memory_group(limit: int) -> Path:
    """A control group with a limit of memory, of version 1 or 2; needs root."""
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    top, name = (first, "memory.limit_in_bytes") if first.is_dir() else (second, "memory.max")
    group = top / f"emnist-latents-{os.getpid()}"
    group.mkdir()
    (group / name).write_text(str(limit))
    return group


if __name__ == "__main__":
    main()
