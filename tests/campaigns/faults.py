"""Disturbs commands as disks, people and clocks do, and looks what became of what they wrote.

`python -m tests.campaigns.faults --seed=0 --times=20`

After each fault the output is complete and equal to an undisturbed run's, or plainly incomplete;
then the command goes on, once what was wrong is right again, and ends with what it would have
written. Needs Linux, and libfaketime for the clock.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from beam_job.outputs.attempt import ATTEMPT_PREFIX
from tests.campaigns.campaign import (
    COMMANDS,
    COMPRESS,
    THREADS,
    Command,
    Ended,
    Running,
    Workplace,
    content_of,
    differences,
    is_sealed,
    is_told_incomplete,
    leftovers,
    one_clear_line,
    table,
)
from transforms.errors import RunError
from transforms.models.autoencoder import import_keras
from transforms.staged import staged_bytes, staged_table

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec")
_INTERRUPTED = 130
_TOO_LATE = "interrupted; what it writes had been published"
_NO_ROOM = "No space left on device"


class Story(NamedTuple):
    """What a fault did. end: complete, failed or refused; problems: what was wrong with that."""

    end: str
    problems: list[str]


Fault = Callable[[Workplace, random.Random], Story]


def as_a_shell_says(status: int) -> int:
    """130 for a process that SIGINT ends, which is how Python ends after Ctrl-C in an import."""
    return 128 - status if status < 0 else status


def told(place: Workplace, command: Command, ended: Ended, *, naming: Sequence[str]) -> list[str]:
    """What is wrong with how a command failed. naming: of what its line has to say one."""
    problems = one_clear_line(ended.said)
    if as_a_shell_says(ended.status) not in (1, 2, _INTERRUPTED):
        problems.append(f"it ended with {ended.status}: {ended.said!r}")
    if naming and not any(name in ended.said for name in naming):
        problems.append(f"it names none of {', '.join(naming)}: {ended.said!r}")
    if not is_told_incomplete(place.work, command):
        problems.append("it doesn't say that it is incomplete")
    return problems


def outcome(
    place: Workplace, name: str, ended: Ended, again: Sequence[str] = (), *, naming: Sequence[str]
) -> Story:
    """Looks at what a disturbed command left, lets it go on, and looks again."""
    command, expected = COMMANDS[name], place.reference(name).content
    folder = place.work / command.output
    if _TOO_LATE in ended.said and name.startswith("compress"):
        place.run(["report", "--input=out"])  # Which may not have been drawn yet.
    if ended.status == 0 or _TOO_LATE in ended.said:
        problems = [*differences(content_of(folder), expected), *leftovers(place.work, command)]
        return Story("complete", problems)
    problems = told(place, command, ended, naming=naming)
    way = "--resume" if command.resumes else "--overwrite"
    resumed = Running(place.work, [*command.argv, *again, way])
    end = resumed.ended()
    problems += resumed.left_processes()
    if end.status:
        problems.append(f"it did not go on: {end.status}, {end.said!r}")
    problems += [*differences(content_of(folder), expected), *leftovers(place.work, command)]
    return Story("failed", problems)


# Signals.


def interrupted(place: Workplace, rng: random.Random, kind: signal.Signals, times: int) -> Story:
    """SIGTERM to the launcher, or Ctrl-C to all of its processes, as a terminal sends it."""
    name = rng.choice(["compress", "stage", "train", "reconstruct"])
    seconds = place.reference(name).seconds
    place.clear()
    running = Running(place.work, COMMANDS[name].argv)
    running.wait_until(lambda: answers(running, signal.SIGTERM))  # Till then it has done nothing.
    moment = running.seconds + rng.uniform(0, seconds)
    running.wait_until(lambda: running.seconds >= moment)
    for _ in range(times):
        if running.is_at_work():
            (os.killpg if kind == signal.SIGINT else os.kill)(running.process.pid, kind)
        time.sleep(rng.uniform(0, 0.1))
    ended = running.ended()
    left = running.left_processes()
    story = outcome(place, name, ended, naming=["interrupted; nothing was published", _TOO_LATE])
    problems = [*left, *story.problems]
    if as_a_shell_says(ended.status) not in (0, _INTERRUPTED):
        problems.append(f"it ended with {ended.status}: {ended.said!r}")
    return Story(story.end, [f"{name}: {problem}" for problem in problems])


def answers(running: Running, number: signal.Signals) -> bool:
    """Whether a process has said what it does at a signal."""
    try:
        status = Path(f"/proc/{running.process.pid}/status").read_text()
    except FileNotFoundError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def sigterm(place: Workplace, rng: random.Random) -> Story:
    return interrupted(place, rng, signal.SIGTERM, 1)


def ctrl_c(place: Workplace, rng: random.Random) -> Story:
    return interrupted(place, rng, signal.SIGINT, 1)


def ctrl_c_twice(place: Workplace, rng: random.Random) -> Story:
    return interrupted(place, rng, rng.choice([signal.SIGINT, signal.SIGTERM]), 2)


# Disks. Each runs in a mount namespace of its own, which only lives as long as its processes: so
# both runs, and the copies of what they left, are made by one script.


def in_namespace(place: Workplace, script: str, command: Command) -> tuple[Ended, Ended]:
    """Runs a script that calls `first` and `again`; how the command ended each time."""
    argv = " ".join(f"'{part}'" for part in (sys.executable, "-m", "beam_job", *command.argv))
    resume = "--resume" if command.resumes else "--overwrite"
    functions = f"""
        first() {{ rc=0; {argv} --quiet 2>first.said || rc=$?; echo $rc >first.status; }}
        again() {{ rc=0; {argv} {resume} --quiet 2>again.said || rc=$?; echo $rc >again.status; }}
    """
    running = Running(place.work, [], whole=[*_NAMESPACE, functions + script])
    ended = running.ended()
    left = running.left_processes()
    if ended.status or left:
        raise RunError(f"the script ended with {ended.status}: {ended.said} {left}")
    first, again = (
        Ended(
            int((place.work / f"{name}.status").read_text()),
            (place.work / f"{name}.said").read_text(),
            ended.seconds,
        )
        for name in ("first", "again")
    )
    return first, again


def on_disk(
    place: Workplace, name: str, moved: Command, script: str, naming: Sequence[str]
) -> Story:
    """What became of a command on a disk that a script disturbs, and copies to after1, after2."""
    expected = place.reference(name).content
    place.clear()
    first, again = in_namespace(place, script, moved)
    output = moved.output.split("/", 1)[1]
    problems = [] if again.status == 0 or first.status == 0 else [f"it did not go on: {again}"]
    if first.status == 0:
        found = content_of(place.work / "after1" / output)
        return Story("complete", [*problems, *differences(found, expected)])
    after = Command(moved.argv, f"after1/{output}", moved.seal)
    problems += told(place, after, first, naming=[])
    problems += [
        f"it doesn't name {part}: {first.said}" for part in naming if part not in first.said
    ]
    problems += differences(content_of(place.work / "after2" / output), expected)
    problems += leftovers(place.work, Command(moved.argv, f"after2/{output}", moved.seal))
    return Story("failed", problems)


def below(folder: str, name: str) -> Command:
    """A command whose output lies below a folder."""
    command = COMMANDS[name]
    output = f"{folder}/{command.output}"
    flag = "--data_dir" if name == "stage" else "--output"
    path = f"{folder}/data" if name == "stage" else output
    argv = [part for part in command.argv if not part.startswith(flag)]
    return Command((*argv, f"{flag}={path}"), output, command.seal, command.resumes)


def full(place: Workplace, rng: random.Random, name: str, kilobytes: int) -> Story:
    size = rng.randrange(8, kilobytes, 4)
    script = f"""
        mkdir disk; mount -t tmpfs -o size={size}k tmpfs disk
        first; cp -a disk after1
        mount -o remount,size=200m disk
        again; cp -a disk after2
    """
    return on_disk(place, name, below("disk", name), script, [_NO_ROOM, "disk/", "make room"])


def output_full(place: Workplace, rng: random.Random) -> Story:
    name = rng.choice(["compress", "train", "reconstruct"])
    return full(place, rng, name, {"compress": 480, "train": 14_000, "reconstruct": 700}[name])


def data_dir_full(place: Workplace, rng: random.Random) -> Story:
    return full(place, rng, "stage", 700)


def temporary_full(place: Workplace, rng: random.Random) -> Story:
    """A TMPDIR with next to no room: what is kept there is needed, or is not."""
    name = rng.choice(["compress", "train"])
    script = f"""
        mkdir after1 after2 tmp/full; mount -t tmpfs -o size=8k tmpfs tmp/full
        head -c {rng.choice([0, 4096, 8192])} /dev/zero >tmp/full/other
        export TMPDIR=$PWD/tmp/full
        first; cp -a {COMMANDS[name].output} after1/ || true
        umount tmp/full
        if test "$(cat first.status)" = 0; then echo 0 >again.status; : >again.said; else again; fi
        cp -a {COMMANDS[name].output} after2/
        rmdir tmp/full
    """
    command = COMMANDS[name]
    moved = Command(command.argv, f"here/{command.output}", command.seal, command.resumes)
    return on_disk(place, name, moved, script, [_NO_ROOM, "tmp/full", "make room"])


def read_only(place: Workplace, rng: random.Random, name: str) -> Story:
    """A disk that is read-only from the start, or becomes it while the command is at work."""
    after = rng.choice([0, rng.uniform(0.3, place.reference(name).seconds)])
    script = f"""
        mkdir disk after1 after2; mount -t tmpfs tmpfs disk
        {"mount -o remount,ro disk" if not after else ""}
        first & command=$!
        if test {after} != 0; then
            sleep {after}
            while kill -0 $command 2>/dev/null && ! mount -o remount,ro disk 2>/dev/null; do :; done
        fi
        wait $command; cp -a disk/. after1
        mount -o remount,rw disk
        if test "$(cat first.status)" = 0; then echo 0 >again.status; : >again.said; else again; fi
        cp -a disk/. after2
    """
    return on_disk(place, name, below("disk", name), script, ["Read-only file system", "disk"])


def read_only_output(place: Workplace, rng: random.Random) -> Story:
    return read_only(place, rng, rng.choice(["compress", "train", "reconstruct"]))


def read_only_data_dir(place: Workplace, rng: random.Random) -> Story:
    return read_only(place, rng, "stage")


def read_only_inputs(place: Workplace, rng: random.Random) -> Story:
    """Staged images and a model that nobody may write to are good enough to read."""
    name = rng.choice(["compress staged", "reconstruct"])
    expected = place.reference(name).content
    place.clear()
    if name == "compress staged":
        place.run(COMMANDS["stage"].argv)
    script = """
        for input in data run images.npy; do
            if test -e $input; then mount --bind $input $input; mount -o remount,bind,ro $input; fi
        done
        first; again
    """
    once = COMMANDS[name]._replace(resumes=False)
    first, _ = in_namespace(place, script, once)
    problems = [] if first.status == 0 else [f"it ended with {first}"]
    return Story(
        "complete", [*problems, *differences(content_of(place.work / once.output), expected)]
    )


def vanished(place: Workplace, rng: random.Random, name: str, pattern: str) -> Story:
    """Folders that are removed while a command is at work on them."""
    seconds = place.reference(name).seconds
    place.clear()
    if name == "compress staged":
        place.run(COMMANDS["stage"].argv)
    running = Running(place.work, COMMANDS[name].argv)
    moment = rng.uniform(0.2 * seconds, seconds)
    running.wait_until(lambda: running.seconds >= moment)
    if rng.random() < 0.5:
        running.wait_until(lambda: any(place.work.glob(pattern)))
    removed = running.is_at_work()
    if removed:
        for folder in place.work.glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)
    ended = running.ended()
    left = running.left_processes()
    command = COMMANDS[name]
    if ended.status == 0 and removed and not is_sealed(place.work, command):
        return _gone(place, name, left)
    if name == "compress staged" and ended.status:
        shutil.rmtree(place.work / "data", ignore_errors=True)
        place.run(COMMANDS["stage"].argv)
    story = outcome(place, name, ended, naming=["removed", "No such file", "is gone", "not there"])
    return Story(story.end, [*left, *story.problems])


def _gone(place: Workplace, name: str, left: list[str]) -> Story:
    """A run that was whole, and was removed when it was: as if there had been none."""
    command, expected = COMMANDS[name], place.reference(name).content
    again = Running(place.work, command.argv).ended()
    found = content_of(place.work / command.output)
    problems = [] if again.status == 0 else [f"it did not start again: {again}"]
    return Story("complete", [*left, *problems, *differences(found, expected)])


def attempt_vanished(place: Workplace, rng: random.Random) -> Story:
    name = rng.choice(["compress", "stage", "train", "reconstruct"])
    return vanished(place, rng, name, f"{COMMANDS[name].output}/{ATTEMPT_PREFIX}*")


def output_vanished(place: Workplace, rng: random.Random) -> Story:
    name = rng.choice(["compress", "train", "reconstruct"])
    return vanished(place, rng, name, COMMANDS[name].output)


def data_dir_vanished(place: Workplace, rng: random.Random) -> Story:
    return vanished(place, rng, rng.choice(["stage", "compress staged"]), "data")


# The clock.


def clock_jumped(place: Workplace, rng: random.Random) -> Story:
    """The time of day goes forward and back by hours."""
    name = rng.choice(["compress", "stage", "train", "reconstruct"])
    seconds = place.reference(name).seconds
    place.clear()
    clock = place.work / "clock"
    clock.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # Else waiting for a lock becomes spinning for it.
    }
    running = Running(place.work, COMMANDS[name].argv, environment=environment)
    for _ in range(rng.randint(1, 4)):
        moment = running.seconds + rng.uniform(0, seconds / 2)
        running.wait_until(lambda moment=moment: running.seconds >= moment)
        (place.work / "clock.new").write_text(f"{rng.choice('+-')}{rng.randint(1, 48)}h\n")
        (place.work / "clock.new").replace(clock)
    ended = running.ended()
    left = running.left_processes()
    story = outcome(place, name, ended, naming=[])
    failed = [] if ended.status == 0 else [f"it ended with {ended.status}: {ended.said}"]
    return Story(story.end, [*left, *failed, *story.problems])


# What is read, altered.


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def replace(path: Path, rng: random.Random) -> None:
    """By a valid file of other pixels."""
    there = pq.read_table(path)
    image_ids = there.column("image_id").to_numpy()
    labels = there.column("label").to_numpy()
    images = np.random.default_rng(rng.randrange(99)).integers(0, 256, (len(labels), 784), np.uint8)
    path.write_bytes(staged_bytes(staged_table(image_ids, labels, images), {}, 1024))


def swap(path: Path, rng: random.Random) -> None:
    others = [other for other in path.parent.iterdir() if other != path]
    other = rng.choice(sorted(others))
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def altered_shard(place: Workplace, rng: random.Random) -> Story:
    """A shard file altered between staging and reading."""
    place.reference("compress staged")
    place.clear()
    place.run(COMMANDS["stage"].argv)
    shards = sorted((place.work / "data/sample/images").rglob("*.parquet"))
    path, alter = rng.choice(shards), rng.choice([flip, truncate, replace, swap])
    before = {shard: shard.read_bytes() for shard in shards}
    alter(path, rng)
    changed = [shard.name for shard in shards if shard.read_bytes() != before[shard]]
    ended = Running(place.work, COMMANDS["compress staged"].argv).ended()
    if ended.status == 0:
        return Story("complete", [f"{alter.__name__} of {path.name} went unnoticed"])
    for shard, content in before.items():
        shard.write_bytes(content)
    story = outcome(place, "compress staged", ended, naming=changed)
    return Story("refused", [f"{alter.__name__}: {problem}" for problem in story.problems])


def altered_input(place: Workplace, rng: random.Random) -> Story:
    """An input file altered while the job reads it."""
    name = rng.choice(["compress", "train"])
    expected = place.reference(name)
    place.clear()
    images = place.work / "images.npy"
    content = images.read_bytes()
    running = Running(place.work, COMMANDS[name].argv)
    moment = rng.uniform(0.2, 0.9) * expected.seconds
    running.wait_until(lambda: running.seconds >= moment)
    alter = rng.choice([flip, truncate])
    if running.is_at_work():
        alter(images, rng)
    ended = running.ended()
    left = running.left_processes()
    found = content_of(place.work / COMMANDS[name].output)
    if ended.status == 0 and differences(found, expected.content):
        altered = images.read_bytes()
        place.clear()
        images.write_bytes(altered)  # Complete, then, of what the file had become.
        place.run(COMMANDS[name].argv)
        whole = content_of(place.work / COMMANDS[name].output)
        return Story("complete", [*left, *differences(found, whole)])
    images.write_bytes(content)
    story = outcome(place, name, ended, naming=["images.npy"])
    return Story(
        story.end, [f"{name}, {alter.__name__}: {line}" for line in [*left, *story.problems]]
    )


# Models.


def encoder(rng: random.Random, *, spoilt: bool) -> Any:
    """An encoder of which one weight is no number, or whose shapes are wrong."""
    keras = import_keras()
    shapes = rng.choice([((28, 28, 1), (8, 4)), ((32, 32, 1), (8,)), ((28, 28, 3), (8,))])
    side, latent = ((28, 28, 1), (8,)) if spoilt else shapes
    image = keras.Input(side)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = keras.layers.Dense(int(np.prod(latent)))(keras.layers.Flatten()(x))
    if len(latent) > 1:
        x = keras.layers.Reshape(latent)(x)
    network = keras.Model(image, x)
    if spoilt:
        weights = network.get_weights()
        weight = rng.choice(weights[-2:])  # Behind the last relu, which may make 0 of them.
        weight.flat[rng.randrange(weight.size)] = rng.choice([np.nan, np.inf, -np.inf])
        network.set_weights(weights)
    return network


def wrong_model(place: Workplace, rng: random.Random, *, spoilt: bool) -> Story:
    place.reference("compress")
    place.clear()
    encoder(rng, spoilt=spoilt).save(place.work / "wrong.keras")
    engine = rng.choice(["tensorflow", "ncnn"])
    threads = rng.choice([(), THREADS])
    argv = [*COMPRESS, f"--engine={engine}", "--model=wrong.keras", *threads]
    running = Running(place.work, argv)
    ended = running.ended()
    problems = running.left_processes()
    if ended.status == 0:
        return Story("complete", [*problems, f"{engine} took it"])
    naming = ["not finite", "wrong.keras"] if spoilt else ["wrong.keras"]
    story = outcome(place, "compress", ended, ["--overwrite"], naming=naming)
    return Story("refused", [f"{engine}: {line}" for line in [*problems, *story.problems]])


def nan_model(place: Workplace, rng: random.Random) -> Story:
    return wrong_model(place, rng, spoilt=True)


def shapeless_model(place: Workplace, rng: random.Random) -> Story:
    return wrong_model(place, rng, spoilt=False)


FAULTS: dict[str, Fault] = {
    "SIGTERM": sigterm,
    "Ctrl-C": ctrl_c,
    "Ctrl-C or SIGTERM twice": ctrl_c_twice,
    "disk of --output full": output_full,
    "disk of --data_dir full": data_dir_full,
    "disk of TMPDIR full": temporary_full,
    "--output read-only": read_only_output,
    "--data_dir read-only": read_only_data_dir,
    "inputs read-only": read_only_inputs,
    "attempt removed": attempt_vanished,
    "--output removed": output_vanished,
    "--data_dir removed": data_dir_vanished,
    "clock jumps": clock_jumped,
    "staged shard altered": altered_shard,
    "input altered": altered_input,
    "model gives NaN": nan_model,
    "model of the wrong shape": shapeless_model,
}


def campaign(
    place: Workplace, seed: int, times: int, names: Sequence[str]
) -> dict[str, list[Story]]:
    """Each fault so many times; what became of them."""
    stories: dict[str, list[Story]] = {name: [] for name in names}
    for number in range(times):
        for name in names:
            try:
                story = FAULTS[name](place, random.Random(f"{seed} {name} {number}"))
            except (
                RunError,
                RuntimeError,
                OSError,
            ) as error:  # Of a fault that could not be made as it should.
                story = Story("none", [f"{type(error).__name__}: {error}"])
            stories[name].append(story)
            print(f"{name}, {number + 1} of {times}: {story.end}", flush=True)
            if story.problems:
                slug = "".join(c if c.isalnum() else "-" for c in name)
                place.keep(f"{slug}-{number}", story.problems)
                print("".join(f"  WRONG: {problem}\n" for problem in story.problems), end="")
    return stories


def report(stories: dict[str, list[Story]]) -> str:
    """The closing table."""
    ends = ("complete", "failed", "refused", "none")
    rows: list[Sequence[object]] = [("fault", "times", *ends, "wrong")]
    for name, told_of in stories.items():
        counts = [sum(story.end == end for story in told_of) for end in ends]
        rows.append((name, len(told_of), *counts, sum(bool(story.problems) for story in told_of)))
    return table(rows)


def main(argv: Sequence[str]) -> int:
    """Runs the campaign; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--fault", choices=FAULTS, action="append", help="this alone")
    parser.add_argument("--output", type=Path, default=Path("out/torture"))
    options = parser.parse_args(argv)
    if not FAKETIME.exists():
        print(f"error: {FAKETIME} is not there: apt-get install libfaketime", file=sys.stderr)
        return 2
    place = Workplace(options.output.resolve() / "faults")
    stories = campaign(place, options.seed, options.times, options.fault or list(FAULTS))
    wrong = sum(bool(story.problems) for told_of in stories.values() for story in told_of)
    print(report(stories))
    print(f"{sum(map(len, stories.values())) - wrong} passed, {wrong} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
