"""Running a pipeline so that what is said, and what goes wrong, is fit for a person."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from threading import Thread

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_job.logs import printed_tracebacks_held_back
from beam_job.progress import Progress
from beam_job.runners.beam_flags import LOCAL_RUNNER
from transforms.errors import (
    FilledError,
    InputError,
    JobError,
    JobLostError,
    RunError,
    StoreFailedError,
    first_line,
)
from transforms.quiet import own_environment

_OURS: dict[str, type[JobError]] = {
    error.__name__: error for error in (FilledError, InputError, RunError, StoreFailedError)
}
_RAISED_BY_US = re.compile(rf"^(?:transforms\.errors\.)?({'|'.join(_OURS)}): (.*)$", re.MULTILINE)
_WHERE = re.compile(r" \[while running .*\Z", re.DOTALL)
_LOCAL_RUNNERS = (LOCAL_RUNNER.lower(), "directrunner", "direct", "switchingdirectrunner")


def is_local(options: PipelineOptions) -> bool:
    """Whether the pipeline runs on this machine, and this process waits for it."""
    return str(options.view_as(StandardOptions).runner).lower() in _LOCAL_RUNNERS


def import_meanwhile(*modules: str) -> None:
    """Imports on a thread of its own what is needed at the end only.

    While an engine computes, Python has nothing to do: Matplotlib's half second costs half of that.
    """

    def load() -> None:
        with suppress(Exception), own_environment():  # What needs them says what is wrong.
            for name in modules:
                import_module(name)

    Thread(target=load, daemon=True).start()


def new_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """An empty pipeline; raises InputError where its runner needs other flags."""
    try:
        return beam.Pipeline(options=options)
    # Beam's own check, and what its runners and picklers raise that are not installed whole.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the runner needs other flags ({reason}): give those") from error


def execute(
    build: Callable[[str | None], beam.Pipeline],
    options: PipelineOptions,
    *,
    images: int,
    waits: bool,
    quiet: bool,
    meanwhile: Sequence[str] = (),
) -> None:
    """Runs a pipeline, or hands it to its runner where this process does not wait for it.

    build: makes the pipeline; its argument is where to note images done, of so many `images`, on
    this machine; None for nowhere. meanwhile: modules to import while a local runner computes.
    Raises what run_to_end does, and RunError where the runner does not take the pipeline.
    """
    if not waits:
        submit(build(None))
    elif not is_local(options):
        run_to_end(build(None))
    else:
        import_meanwhile(*meanwhile)
        with Progress(images, quiet=quiet) as progress:
            run_to_end(build(progress.path))


def run_to_end(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline and waits for it; a job elsewhere is cancelled where the wait is interrupted.

    Raises the InputError or RunError that a transform raised, JobLostError where the job may still
    be at work, RunError for anything else.
    """
    try:
        with printed_tracebacks_held_back():
            state = _state_at_end(pipeline)
    except JobLostError:
        raise
    except Exception as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        raise _job_error(error, pipeline.options) from error
    if state != PipelineState.DONE:
        raise RunError(f"the runner ended the job as {state}: its own log says why")


def _state_at_end(pipeline: beam.Pipeline) -> str:
    result = pipeline.run()
    try:
        return str(result.wait_until_finish())
    except KeyboardInterrupt:
        result.cancel()
        raise
    except Exception as error:
        if is_local(pipeline.options) or _is_over(result):
            raise
        details = getattr(error, "details", lambda: None)()  # gRPC's, whose text has many lines.
        reason = details or first_line(error)
        raise JobLostError(
            f"this process lost sight of the job, which may still be at work ({reason}): look at "
            "it in its runner; the output is complete when it is sealed, and --resume continues it "
            "after the job has ended"
        ) from error


def _is_over(result: PipelineResult) -> bool:
    """Whether the runner says that a job has ended; only its word counts."""
    try:
        return bool(PipelineState.is_terminal(result.state))
    except Exception:  # noqa: BLE001  # Whoever does not answer has not said so.
        return False


def submit(pipeline: beam.Pipeline) -> None:
    """Hands a pipeline to its runner; raises RunError where that doesn't take it."""
    try:
        pipeline.run()
    except Exception as error:
        raise _job_error(error, pipeline.options) from error


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the root of what a worker in this process raised."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _job_error(error: Exception, options: PipelineOptions) -> JobError:
    """Our own error, out of what a runner makes of it: that, or text with a worker's traceback."""
    if isinstance(error, JobError):
        return type(error)(_WHERE.sub("", str(error)))
    found = _RAISED_BY_US.findall(str(error))
    if found:
        kind, message = found[-1]
        return _OURS[kind](_WHERE.sub("", message))
    portable = options.view_as(PortableOptions)
    if "java.net.ConnectException" in str(error) and portable.environment_type == "EXTERNAL":
        return RunError(
            "the job failed, as something refused a connection from the cluster: a worker pool has "
            f"to listen at --environment_config={portable.environment_config} on each of its "
            "machines (python -m apache_beam.runners.worker.worker_pool_main)"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else ""
    return RunError(f"the job failed: {type(error).__name__}: {reason}; --debug shows where")
