"""A small job in a world where each request is a point: real code, and a runner that is drawn.

Real are the commands' own steps (check_output, compress_pipeline.run with begin, continued,
describe and leave), and the process() of the graph's DoFns. The encoder is replaced by a sum, whose
last bits differ from one execution to the next; Beam is replaced by the scheduler, which executes
each bundle and the last step as often, and as late, as is drawn.
"""

import io
import random
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.pvalue import TaggedOutput

from beam_job.compress import complete as completion
from beam_job.compress import pipeline as compress_pipeline
from beam_job.compress.options import CompressOptions
from beam_job.compress.pipeline import _CompleteRun, _file, _FindFinished, _rejects, _samples
from beam_job.outputs import seal
from beam_job.outputs.attempt import check_output
from beam_job.outputs.model_record import latents_metadata
from beam_job.outputs.run_directory import MANIFEST, REPORT, RUN, complete_run, versions
from beam_job.runners.beam_flags import BeamFlags
from beam_job.runners.runner import Runner
from beam_job.verify.read_back import read_back
from tests.campaigns.bucket import Bucket
from tests.campaigns.disk import watched
from tests.campaigns.scheduler import Execution, Habits, Scheduler, State
from transforms.errors import STORAGE_ERRORS, JobError, JobLostError, RunError
from transforms.images import PIXELS, Segment, Stretch, with_sample
from transforms.inputs.dataset import Dataset, ImageFile, Source
from transforms.inputs.readers.raw import RawLayout
from transforms.latents import LatentBatch, ModelRecord
from transforms.models.choice import Engine
from transforms.models.directory import Model
from transforms.preprocess import NormalizeImages, ReshapeImages
from transforms.read_images import _ReadShards
from transforms.shard_files import FinishedShard
from transforms.sizes import add_sizes
from transforms.storage import files, local, stores
from transforms.storage.files import child, find_files, is_local, write_bytes
from transforms.write_latents import StoreLatents, WriteLatents
from transforms.write_shards import _WriteWholeShards

Written = tuple[FinishedShard, ...]
"""What an execution of a bundle gives."""
FILE_SYSTEMS = ("local", "s3", "gs")
SPLITS = {"train": 7, "test": 5}
BATCH_SIZE, LATENT_SIZE = 2, 4
SHARD_SIZES = (2, 3, 4)
_TRIES = 3
"""How often the runner executes a bundle again that fails."""
_MODEL = Model("pretrained", "encoder.keras", "0" * 64, None, None, {"quantization": {}})
MODEL = ModelRecord(
    name="pretrained",
    sha256="0" * 64,
    decoder_sha256=None,
    parameters=1,
    input=(28, 28, 1),
    engine="ncnn",
    precision="float32",
    int8_sha256=None,
    latent_size=LATENT_SIZE,
    latent_dtype="float32",
    latent_bytes=LATENT_SIZE * 4,
    quantization=None,
)


@cache
def images_file() -> bytes:
    """Raw images of both splits, one after the other."""
    pixels = np.random.default_rng(0).integers(0, 256, (sum(SPLITS.values()), PIXELS), np.uint8)
    return pixels.tobytes()


@dataclass(frozen=True)
class Command:
    """A command as somebody gives it. runner: how its job is executed."""

    name: str
    overwrite: bool = False
    resume: bool = False
    shard_size: int = 3

    @property
    def flags(self) -> str:
        """What it is given, in words."""
        given = [f"--{name}" for name in ("overwrite", "resume") if getattr(self, name)]
        return " ".join(given) or "plain"


@dataclass(frozen=True)
class Runs:
    """How a runner executes a job; each rate is a probability.

    twice: that a bundle has a second execution; late: that this one is held until it is woken.
    last_steps: the most executions of the last step. others: that one of those is fed with what
    other executions of the bundles finished. lost: that the launcher loses sight of the job.
    """

    twice: float = 0.0
    late: float = 0.0
    last_steps: int = 1
    others: float = 0.0
    lost: float = 0.0


CALM = Runs()
_NO_FLAGS = BeamFlags()


@dataclass(eq=False)
class Process:
    """A command that runs. launcher: its own execution; the job's may outlive it."""

    command: Command
    runs: Runs
    launcher: Execution | None = None
    run_id: str | None = None
    job_error: BaseException | None = None
    job_is_over: bool = False
    executions: list[Execution] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """What its launcher came to."""
        assert self.launcher is not None
        if self.launcher.state is State.DONE:
            return "fails" if self.launcher.error is not None else "done"
        return self.launcher.state.value

    @property
    def message(self) -> str:
        """What its launcher printed."""
        assert self.launcher is not None
        return str(self.launcher.error or "")


class World:
    """An output in a file system, and what is done to it. Use `opened`."""

    def __init__(self, file_system: str, seed: int, folder: Path) -> None:
        self.file_system = file_system
        self.rng = random.Random(seed)
        self.ids = random.Random(seed + 1)
        self.scheduler = Scheduler(random.Random(seed + 2))
        self.scheduler.on_step = self._watch_seal
        self.folder = folder
        self.images = folder / "images.raw"
        self.bucket: Bucket | None = None
        if file_system == "local":
            self.output = str(folder / "out/run")
        else:
            self.output = f"{file_system}://bucket/run"
            bucket = Bucket(file_system, self.scheduler.point, random.Random(seed + 3))
            bucket.is_asked_by_execution = lambda: self.scheduler.current is not None
            self.bucket = bucket
        self.processes: list[Process] = []
        self.sealed: str | None = None
        self.sealed_by: list[str] = []
        self.faults: list[str] = []
        self.blanks = 0
        self._seal_seen: Any = None
        self._salt = 0

    # --- what is there ---

    def _seal_version(self) -> Any:
        """What changes when the seal is written, at little cost."""
        if self.bucket is not None:
            return self.bucket.objects.get(f"run/{MANIFEST}")
        try:
            found = Path(self.output, MANIFEST).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def sealed_id(self) -> str | None:
        """The id of the run that is there, however it is asked for."""
        return seal.sealed_id(self.output, RUN)

    def _watch_seal(self, execution: Execution) -> None:
        """Notes who changes the seal, and whether that may be."""
        version = self._seal_version()
        if version == self._seal_seen:
            return
        self._seal_seen = version
        before, self.sealed = self.sealed, self.sealed_id()
        if before == self.sealed:
            return
        self.scheduler.note(f"THE SEAL is {self.sealed}, and was {before}")
        process = execution.group
        may = process.command.overwrite and before != process.run_id
        if before is not None and not may:
            self.faults.append(f"{execution.name} took away the run {before}, and may not")
        if self.sealed is not None:
            self.sealed_by.append(execution.name)

    def problems(self) -> list[str] | None:
        """What is wrong with the run that is there; None where there is none."""
        if self.sealed_id() is None:
            return None
        try:
            run = complete_run(self.output)
        except JobError as error:
            return [str(error)]
        wrong = [f"{at} {problem}" for at, problem in read_back(run).problems]
        found = {file.path for file in find_files(child(self.output, "latents/*/*.parquet"))}
        listed = {child(self.output, file.path) for _, file in run.shard_files()}
        extra = {path for path in found - listed if _has_rows(path)}
        self.blanks = len(found - listed - extra)
        wrong += [f"{path} is found, and is not of the run" for path in sorted(extra)]
        wrong += [f"{path} is not found" for path in sorted(listed - found)]
        return wrong

    def report_of(self) -> str | None:
        """Which run the report that is there is of."""
        try:
            return files.read_bytes(child(self.output, REPORT)).decode()
        except OSError:
            return None

    # --- what is done ---

    def dataset(self) -> Dataset:
        """Two splits of a few images."""
        path, start, found = str(self.images), 0, []
        for split, rows in SPLITS.items():
            segment = Segment(
                path, "raw", rows, 0, 0, layout=RawLayout(start * PIXELS, rows), labels=bytes(rows)
            )
            found.append(ImageFile(split, segment))
            start += rows
        source = Source(path, None, len(images_file()))
        return Dataset("files", tuple(found), {0: "0"}, (source,), "f" * 64)

    def start(self, command: Command, runs: Runs = CALM, *, held: bool = False) -> Process:
        """Adds a command; it begins when the scheduler chooses it."""
        process = Process(command, runs)
        process.launcher = self.scheduler.start(
            f"{command.name}/launcher",
            process,
            lambda: self._command(process),
            held=held,
            mortal=True,
        )
        self.processes.append(process)
        return process

    def run_alone(self, command: Command) -> Process:
        """Runs a command with nobody else awake."""
        habits, self.scheduler.habits = self.scheduler.habits, Habits()
        bucket = self.bucket
        rates = (bucket.lose, bucket.fail) if bucket is not None else (0.0, 0.0)
        if bucket is not None:
            bucket.lose = bucket.fail = 0.0
        process = self.start(command)
        self.scheduler.alone = True
        self.scheduler.run(only=process)
        self.scheduler.alone = False
        self.scheduler.habits = habits
        if bucket is not None:
            bucket.lose, bucket.fail = rates
        return process

    def _command(self, process: Process) -> None:
        command = process.command
        options = CompressOptions(
            dataset=None,
            input=(str(self.images),),
            labels=(),
            orientation="auto",
            invert="auto",
            max_pixel=None,
            member=None,
            fit=False,
            max_unpacked_bytes=1 << 30,
            data_dir="",
            archive_url="",
            quiet=True,
            debug=False,
            output=self.output,
            model=None,
            engine=None,
            precision="float32",
            latent_dtype="float32",
            latent_bits=8,
            parquet="small",
            batch_size=BATCH_SIZE,
            shard_size=command.shard_size,
            max_rejects=0,
            overwrite=command.overwrite,
            resume=command.resume,
            plan=False,
            no_wait=False,
        )
        check_output(self.output, RUN, overwrite=command.overwrite, resume=command.resume)
        engine = Engine("ncnn", "float32")
        compress_pipeline.run(options, _NO_FLAGS, Runner(), _MODEL, engine, None, self.dataset())

    def launch(self, build: partial[Any], *_: object, **__: object) -> None:
        """Takes the place of Beam: a job with its own executions, which the launcher waits for."""
        planned, stretches, _ = build.args
        launcher = self.scheduler.current
        assert launcher is not None
        process: Process = launcher.group
        process.run_id = planned.attempt.run_id
        lost = self.rng.random() < process.runs.lost
        job = self.scheduler.start(
            f"{process.command.name}/job",
            process,
            lambda: self._job(process, planned, stretches),
            mortal=False,
        )
        if lost:
            self.scheduler.wait(lambda: job.is_over or self.rng.random() < 0.05)
            raise JobLostError("the launcher lost sight of the job")
        self.scheduler.wait(lambda: process.job_is_over or job.is_over)
        if process.job_error is not None:
            raise process.job_error
        if not process.job_is_over:
            raise RunError("the job was lost")

    def _job(self, process: Process, planned: completion.Run, stretches: Sequence[Stretch]) -> None:
        try:
            self._run_job(process, planned, stretches)
        except Exception as error:  # noqa: BLE001  # The launcher raises it.
            process.job_error = error
        process.job_is_over = True

    def _run_job(
        self, process: Process, planned: completion.Run, stretches: Sequence[Stretch]
    ) -> None:
        runs, rng = process.runs, self.rng
        name = process.command.name
        every: list[list[Execution]] = []
        for stretch in stretches:
            key = stretch.shards[0].key
            bundle = f"{name}/{key.split}-{key.number}"
            action = self._writing(planned, stretch)
            every.append([self._execute(process, bundle, action)])
            if rng.random() < runs.twice:
                held = rng.random() < runs.late
                every[-1].append(self._execute(process, f"{bundle}'", action, held=held))
        for executions in every:
            first = executions[0]
            self._until_one_succeeds(process, executions, first.name, first.action)
        chosen = self._chosen(every)
        count = rng.randint(1, runs.last_steps)
        last: list[Execution] = []
        for number in range(count):
            fed = self._chosen(every) if rng.random() < runs.others else chosen
            held = number > 0 and rng.random() < runs.late
            last.append(
                self._execute(
                    process,
                    f"{name}/last step{chr(39) * number}",
                    self._completing(planned, fed),
                    held=held,
                )
            )
        self._until_one_succeeds(
            process, last, f"{name}/last step", self._completing(planned, chosen)
        )

    def _execute(
        self, process: Process, name: str, action: Callable[[], Any], *, held: bool = False
    ) -> Execution:
        execution = self.scheduler.start(name, process, action, held=held)
        process.executions.append(execution)
        return execution

    def _until_one_succeeds(
        self, process: Process, executions: list[Execution], name: str, action: Callable[[], Any]
    ) -> None:
        """Waits for an execution that succeeds, and executes again what fails, as runners do."""

        def succeeded() -> bool:
            return any(one.state is State.DONE and one.error is None for one in executions)

        for number in range(1, _TRIES + 1):
            self.scheduler.wait(
                lambda: (
                    succeeded() or all(one.is_over or one.state is State.HELD for one in executions)
                )
            )
            if succeeded():
                return
            errors = [one.error for one in executions if one.error is not None]
            if number == _TRIES or any(not isinstance(one, _TRIED_AGAIN) for one in errors):
                raise errors[-1] if errors else RunError("a worker was lost")
            executions.append(self._execute(process, f"{name} try {number + 1}", action))

    def _chosen(self, every: Sequence[Sequence[Execution]]) -> list[Written]:
        """What the runner commits of each bundle: one of the executions that succeeded."""
        return [
            self.rng.choice(
                [one.result for one in executions if one.state is State.DONE and not one.error]
            )
            for executions in every
        ]

    def _writing(self, planned: completion.Run, stretch: Stretch) -> Callable[[], Written]:
        def write() -> Written:
            self._salt += 1
            return written(planned, stretch, self._salt)

        return write

    def _completing(self, planned: completion.Run, chosen: Sequence[Written]) -> Callable[[], None]:
        def step() -> None:
            finished = [shard for one in chosen for shard in one]
            sizes = {
                split: add_sizes(one.sizes for one in finished if one.file.split == split)
                for split in planned.dataset.images
            }
            _CompleteRun().process(
                planned,
                [_file(one) for one in finished],
                sizes,
                [reject for one in finished for reject in _rejects(one)],
                [sample for one in finished for sample in _samples(one)],
            )

        return step


_TRIED_AGAIN = (RunError, *STORAGE_ERRORS)


def written(planned: completion.Run, stretch: Stretch, salt: int) -> Written:
    """One execution of a bundle: from FindFinished to WriteLatents, by their process().

    salt: makes its latents differ, in the last bits, from another execution's.
    """
    attempt = planned.attempt
    every = max(1, sum(planned.dataset.images.values()) // 6)
    metadata = latents_metadata(planned.dataset.name, planned.model)
    write = WriteLatents(attempt.folder, planned.dataset.characters, metadata, noted=True)
    writer = _WriteWholeShards(write._writer)
    writer.start_bundle()
    finished = []
    for found in _FindFinished(attempt, LATENT_SIZE * 4).process(stretch):
        if isinstance(found, TaggedOutput):
            finished.append(found.value)
            continue
        for read in _ReadShards(BATCH_SIZE, 0).process(found):
            (images,) = NormalizeImages().process(with_sample(read, every))
            (images,) = ReshapeImages().process(images)
            (latents,) = StoreLatents("float32").process(_encoded(images, salt))
            finished += writer.process(latents)
    assert not list(writer.finish_bundle())
    return tuple(finished)


def _encoded(images: Any, salt: int) -> LatentBatch:
    """Stands for the encoder; each execution's values differ in the last bits."""
    pixels = images.pixels.reshape(len(images), PIXELS)
    latents = np.ascontiguousarray(pixels[:, :LATENT_SIZE] + np.float32(1), np.float32)
    for _ in range(salt % 50):
        latents = np.nextafter(latents, np.float32(9))
    return LatentBatch(
        images.shard,
        images.rows,
        images.image_ids,
        images.labels,
        latents,
        images.sha256,
        images.rejects,
        images.sample,
    )


def _has_rows(path: str) -> bool:
    try:
        return bool(pq.read_metadata(io.BytesIO(files.read_bytes(path))).num_rows)
    except (OSError, pa.ArrowException):
        return True


def _draw_report(output: str, run_id: str, *_: Any) -> None:
    """Stands for draw_report: the same requests, and nothing drawn."""
    complete_run(output)
    files.read_bytes(child(output, "sizes.json"))
    if seal.sealed_id(output, RUN) == run_id:
        write_bytes(child(output, REPORT), run_id.encode())


def _in_drawn_order(world: World, action: Callable[[Any], None], items: Sequence[Any]) -> None:
    """Stands for for_each: what a pool does at once comes in any order, and all of it is done."""
    order = list(items)
    world.rng.shuffle(order)
    errors = []
    for item in order:
        try:
            action(item)
        except Exception as error:  # noqa: BLE001  # As a pool has it.
            errors.append(error)
    if errors:
        raise errors[0]


@contextmanager
def opened(file_system: str, seed: int, folder: Path, *patches: Any) -> Iterator[World]:
    """A world of its own, and all that takes the place of the real one. patches: more of that."""
    folder.mkdir(parents=True)
    world = World(file_system, seed, folder)
    world.images.write_bytes(images_file())

    def each(action: Callable[[Any], None], items: Sequence[Any]) -> None:
        _in_drawn_order(world, action, items)

    def token() -> uuid.UUID:
        return uuid.UUID(int=world.ids.getrandbits(128), version=4)

    pipeline = compress_pipeline
    with ExitStack() as stack:
        for target, name, value in (
            (uuid, "uuid4", token),
            (files, "for_each", each),
            (stores, "client", lambda *_: world.bucket),
            (stores, "delete_on_condition", lambda at, tag: world.bucket.delete_if(at.name, tag)),
            (seal, "for_each", each),
            (pipeline, "load_encoder", lambda *_: None),
            (pipeline, "model_record", lambda *_: MODEL),
            (pipeline, "execute", world.launch),
            (pipeline, "versions", _versions),
            (completion, "draw_report", _draw_report),
            *patches,
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        stack.enter_context(mock.patch.object(completion._LOG, "warning"))
        if is_local(world.output):
            stack.enter_context(mock.patch.object(local.os, "fsync"))
            stack.enter_context(watched(world.scheduler, str(folder / "out")))
        try:
            yield world
        finally:
            for execution in world.scheduler.executions:
                world.scheduler.kill(execution)
            shutil.rmtree(folder)


@cache
def _versions() -> dict[str, str]:
    return versions()
