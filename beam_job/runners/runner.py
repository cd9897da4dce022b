"""Jobs whose workers are elsewhere: what they can't do is refused before anything starts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from beam_job.runners.beam_flags import LOCAL_RUNNER, BeamFlags
from transforms.errors import InputError, UsageError
from transforms.models.choice import FLOAT32, TENSORFLOW
from transforms.models.directory import CARD_FILE, PRETRAINED, Model
from transforms.storage.files import is_local, join_path, read_bytes, split_path, write_bytes

_IN_THIS_PROCESS = ("fnapirunner", "directrunner", "switchingdirectrunner")
_ON_THIS_MACHINE = ("LOOPBACK", "PROCESS")


class Runner(NamedTuple):
    """What matters of a runner and its flags.

    name: as the user wrote it. workers_elsewhere: whether its workers see other files than this
    machine's. stays: whether the job goes on when this process has ended. image: the workers'
    container image, where one is named.
    """

    name: str = LOCAL_RUNNER
    workers_elsewhere: bool = False
    stays: bool = False
    image: str | None = None

    @property
    def is_dataflow(self) -> bool:
        """Whether the workers are machines that Google sets up for the job."""
        return self.name.lower() in ("dataflowrunner", "dataflow")


def runner_of(flags: BeamFlags) -> Runner:
    """The runner that these flags of Beam's ask for; the local one where there are none."""
    if not flags.flags:
        return Runner()
    from apache_beam.options import pipeline_options as beam

    from beam_job.runners.flink import MAGIC_MASTERS

    options = flags.options
    name = str(options.view_as(beam.StandardOptions).runner)
    portable = options.view_as(beam.PortableOptions)
    runner = Runner(name, image=options.view_as(beam.WorkerOptions).sdk_container_image)
    if runner.is_dataflow:
        return runner._replace(workers_elsewhere=True, stays=True)
    kind = name.rpartition(".")[2].lower().removesuffix("runner") + "runner"
    if kind in _IN_THIS_PROCESS:
        return runner
    endpoint = portable.job_endpoint
    flink = options.view_as(beam.FlinkRunnerOptions).flink_master.strip()
    spark = options.view_as(beam.SparkRunnerOptions).spark_master_url
    cluster = (kind == "flinkrunner" and flink not in MAGIC_MASTERS) or (
        kind == "sparkrunner" and not spark.startswith("local")
    )
    job_is_here = not endpoint and not cluster
    environment = portable.environment_type or ("LOOPBACK" if job_is_here else "DOCKER")
    here = environment == "LOOPBACK" or (job_is_here and environment in _ON_THIS_MACHINE)
    stays = bool(endpoint) and endpoint != "embed" and environment != "LOOPBACK"
    return runner._replace(workers_elsewhere=not here, stays=stays)


def check_runner(
    flags: BeamFlags, paths: Mapping[str, str | Sequence[str] | None], *, waits: bool
) -> Runner:
    """The runner of these flags, when it can do what is asked of it.

    paths: of images and results, one or several, by the flag that gives them. waits: whether this
    process is to stay until the job has ended. Raises InputError or UsageError where the runner's
    workers can't reach a path, its cluster isn't there, or it can't be left alone.
    """
    runner = runner_of(flags)
    if not waits and not runner.stays:
        raise UsageError(
            f"--no_wait goes with a job that stays when this process ends: {runner.name} runs in "
            "it; give --runner=DataflowRunner, or a job service by --job_endpoint"
        )
    if runner.workers_elsewhere:
        for flag, path in _each(paths):
            if is_local(path):
                raise InputError(
                    f"--{flag}={path} is on this machine, and the workers of {runner.name} are "
                    "not: give a place that all of them reach (gs://, s3://)"
                )
    if flags.flags:
        from beam_job.runners.flink import check_flink

        check_flink(flags.options)
    return runner


def _each(paths: Mapping[str, str | Sequence[str] | None]) -> Iterator[tuple[str, str]]:
    for flag, given in paths.items():
        for path in (given,) if isinstance(given, str) else given or ():
            yield flag, path


def engine_for(runner: Runner, engine: str | None, precision: str) -> str | None:
    """The engine to ask for: where workers are elsewhere, what every one of them has.

    Raises InputError for one that Dataflow's own image hasn't.
    """
    if not runner.workers_elsewhere:
        return engine
    if engine is None and precision == FLOAT32:
        return TENSORFLOW
    if runner.is_dataflow and engine != TENSORFLOW and runner.image is None:
        named = f"--engine={engine}" if engine else f"--precision={precision}"
        raise InputError(
            f"{named}: Dataflow's own image has no such engine: give an image that has it by "
            "--sdk_container_image (deploy/README.md says how), or --engine=tensorflow"
        )
    return engine


def model_for(runner: Runner, model: Model, given: str | None, folder: str) -> str | None:
    """Where workers find a model: where it was `given`, or in `folder`, to which it is copied.

    The model that comes with the package (None, or its name) is with the workers already.
    """
    if given is None or given == PRETRAINED:
        return given
    if not runner.workers_elsewhere or not is_local(given):
        return given
    if model.card is None:
        copy = join_path(folder, "model.keras")
        write_bytes(copy, read_bytes(model.encoder))
        return copy
    copies = join_path(folder, "model")
    networks = (model.encoder, model.decoder, model.encoder_int8)
    for path in (*filter(None, networks), join_path(given, CARD_FILE)):
        write_bytes(join_path(copies, split_path(path)[1]), read_bytes(path))
    return copies
