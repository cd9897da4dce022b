"""What follows from a runner whose workers are elsewhere; all of it before anything starts."""

import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_job.__main__ import run
from beam_job.runners.beam_flags import BeamFlags
from beam_job.runners.pipelines import new_pipeline, run_to_end
from beam_job.runners.runner import Runner, check_runner, engine_for, model_for, runner_of
from tests.conftest import PRETRAINED, compress, tree
from transforms.errors import InputError, RunError, UsageError
from transforms.models.directory import find_model

FLINK = ["--runner=FlinkRunner", "--flink_master=localhost:8081"]
POOL = ["--environment_type=EXTERNAL", "--environment_config=localhost:50000"]
DATAFLOW = Runner("DataflowRunner", workers_elsewhere=True, stays=True)


@pytest.mark.parametrize(
    ("flags", "elsewhere", "stays"),
    [
        ([], False, False),
        (["--runner=FnApiRunner"], False, False),
        (["--runner=DirectRunner", "--direct_num_workers=2"], False, False),
        (["--runner=PrismRunner"], False, False),
        (["--runner=PrismRunner", "--environment_type=DOCKER"], True, False),
        (["--runner=FlinkRunner"], False, False),
        (["--runner=FlinkRunner", "--environment_type=PROCESS"], False, False),
        (["--runner=FlinkRunner", "--environment_type=DOCKER"], True, False),
        (FLINK, True, False),
        ([*FLINK, "--environment_type=LOOPBACK"], False, False),
        ([*FLINK, "--environment_type=PROCESS"], True, False),
        ([*FLINK, *POOL], True, False),
        (["--runner=PortableRunner", "--job_endpoint=host:8099", *POOL], True, True),
        (["--runner=SparkRunner"], False, False),
        (["--runner=SparkRunner", "--spark_master_url=spark://host:7077"], True, False),
        (["--runner=DataflowRunner"], True, True),
    ],
)
def test_where_the_workers_of_a_runner_are(flags: list[str], elsewhere: bool, stays: bool):
    runner = runner_of(BeamFlags(tuple(flags)))
    assert (runner.workers_elsewhere, runner.stays) == (elsewhere, stays)


@pytest.mark.parametrize("flag", ["input", "data_dir", "output"])
def test_workers_elsewhere_see_no_local_path(flag: str, tmp_path: Path):
    paths = {"input": "gs://b/in", "data_dir": None, "output": "gs://b/out"}
    flags = ["--runner=DataflowRunner"]
    assert check_runner(BeamFlags(tuple(flags)), paths, waits=True) == DATAFLOW
    with pytest.raises(InputError, match=f"--{flag}=.* is on this machine"):
        check_runner(BeamFlags(tuple(flags)), {**paths, flag: str(tmp_path)}, waits=True)
    local = check_runner(BeamFlags(), {**paths, flag: str(tmp_path)}, waits=True)
    assert not local.workers_elsewhere


def test_only_a_job_that_stays_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert check_runner(BeamFlags(("--runner=DataflowRunner",)), {}, waits=False).stays
    for flags in ([], ["--runner=PrismRunner"], ["--runner=DirectRunner"]):
        with pytest.raises(UsageError, match="--no_wait goes with a job that stays"):
            check_runner(BeamFlags(tuple(flags)), {}, waits=False)
    assert compress("--dataset=sample", f"--output={tmp_path}/out", "--no_wait") == 2
    assert "--no_wait goes with" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("runner", "engine", "precision", "asked"),
    [
        (Runner(), None, "float32", None),
        (Runner(), "ncnn", "float32", "ncnn"),
        (DATAFLOW, None, "float32", "tensorflow"),
        (DATAFLOW, "tensorflow", "float32", "tensorflow"),
        (DATAFLOW._replace(image="image"), "ncnn", "float32", "ncnn"),
        (DATAFLOW._replace(image="image"), None, "int8", None),
        (Runner("FlinkRunner", workers_elsewhere=True), "ncnn", "float32", "ncnn"),
    ],
)
def test_the_engine_is_one_that_workers_have(
    runner: Runner, engine: str | None, precision: str, asked: str | None
):
    assert engine_for(runner, engine, precision) == asked


@pytest.mark.parametrize(("engine", "precision"), [("ncnn", "float32"), (None, "int8")])
def test_an_engine_that_dataflow_has_not_is_refused(engine: str | None, precision: str):
    with pytest.raises(InputError, match="give an image that has it by --sdk_container_image"):
        engine_for(DATAFLOW, engine, precision)


def test_the_image_of_the_workers_is_known():
    assert runner_of(BeamFlags(("--runner=DataflowRunner", "--sdk_container_image=i"))).image == "i"


def test_a_model_of_this_machine_is_brought_to_the_workers(tmp_path: Path):
    given = str(PRETRAINED)
    there = model_for(DATAFLOW, find_model(given), given, f"{tmp_path}/_incomplete-1")
    assert there == f"{tmp_path}/_incomplete-1/model"
    assert tree(Path(there)) == {
        path.name: path.read_bytes() for path in PRETRAINED.iterdir() if path.is_file()
    }
    assert find_model(there).encoder_sha256 == find_model(given).encoder_sha256


def test_a_lone_encoder_of_this_machine_is_brought_to_the_workers(tmp_path: Path):
    given = str(PRETRAINED / "encoder.keras")
    there = model_for(DATAFLOW, find_model(given), given, f"{tmp_path}/_incomplete-1")
    assert there is not None
    (found,) = tree(tmp_path).items()
    assert found == (str(Path(there).relative_to(tmp_path)), Path(given).read_bytes())


def test_other_models_stay_where_they_are():
    here = str(PRETRAINED)
    model = find_model(None)
    assert model_for(DATAFLOW, model, None, "gs://bucket/x") is None
    assert model_for(DATAFLOW, model, "pretrained", "gs://bucket/x") == "pretrained"
    assert model_for(DATAFLOW, model, "gs://bucket/model", "gs://bucket/x") == "gs://bucket/model"
    assert model_for(Runner(), model, here, "gs://bucket/x") == here


@pytest.fixture
def flink() -> Iterator[str]:
    """The REST interface of a JobManager that says it is Flink 1.20.3, on loopback."""

    class JobManager(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v1/config" else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"flink-version": "1.20.3"}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("localhost", 0), JobManager) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"localhost:{server.server_port}"
        server.shutdown()


def job_server(path: Path, flink_version: str) -> Path:
    properties = "META-INF/maven/org.apache.flink/flink-core/pom.properties"
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr(properties, f"groupId=org.apache.flink\nversion={flink_version}\n")
    return path


def refused(*flags: str) -> str:
    with pytest.raises(InputError) as error:
        check_runner(BeamFlags(("--runner=FlinkRunner", *flags)), {}, waits=True)
    return str(error.value)


def test_a_cluster_of_the_same_flink_is_taken(flink: str, tmp_path: Path):
    jar = job_server(tmp_path / "server.jar", "1.20.1")
    flags = [f"--flink_master={flink}", "--flink_version=1.20", f"--flink_job_server_jar={jar}"]
    given = BeamFlags(("--runner=FlinkRunner", *flags))
    assert check_runner(given, {}, waits=True).workers_elsewhere


def test_a_cluster_of_another_flink_is_refused(flink: str):
    said = refused(f"--flink_master=http://{flink}", "--flink_version=1.19")
    assert "runs Flink 1.20.3, and the job is for 1.19: give --flink_version=1.20" in said


def test_a_job_server_of_another_flink_is_refused(tmp_path: Path):
    jar = job_server(tmp_path / "server.jar", "1.19.1")
    said = refused(f"--flink_job_server_jar={jar}", "--flink_version=1.20")
    assert "is for Flink 1.19.1, not 1.20: give --flink_version=1.19" in said


def test_what_is_no_job_server_is_refused(tmp_path: Path):
    missing = refused(f"--flink_job_server_jar={tmp_path}/none.jar", "--flink_version=1.20")
    assert "is no file: give the jar org.apache.beam:beam-runners-flink-1.20-job-server" in missing
    (tmp_path / "text.jar").write_text("text")
    assert "is no jar" in refused(f"--flink_job_server_jar={tmp_path}/text.jar")


def test_a_job_server_needs_java(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert refused() == "--runner=FlinkRunner needs java, which is not there: install Java 17"


def test_what_does_not_answer_is_named(flink: str):
    assert "--flink_master=localhost:1: no Flink answers there" in refused(
        "--flink_master=localhost:1"
    )
    assert "--job_endpoint=localhost:1 does not answer" in refused("--job_endpoint=localhost:1")
    pool = ["--environment_type=EXTERNAL", "--environment_config=localhost:1"]
    said = refused(f"--flink_master={flink}", "--flink_version=1.20", *pool)
    assert "--environment_config=localhost:1 does not answer" in said
    assert "start the worker pool there" in said
    assert "--environment_config=localhost:1 does not" in refused(*pool)
    assert "--environment_config=localhost:1 does not" in refused(f"--job_endpoint={flink}", *pool)
    assert "--flink_master=[x: no Flink" in refused("--flink_master=[x", *pool)


def test_a_worker_pool_that_only_the_workers_see_is_left_to_them():
    pool = ["--environment_type=EXTERNAL", "--environment_config=pool.example:1"]
    given = BeamFlags(("--runner=PortableRunner", *pool))
    assert check_runner(given, {}, waits=True).name == "PortableRunner"


def test_a_person_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    flags = ["--dataset=sample", f"--data_dir={tmp_path}", f"--output={tmp_path}/out"]
    assert run(["compress", *flags, *FLINK]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --data_dir={tmp_path} is on this machine")
    assert list(tmp_path.iterdir()) == []


class _Interrupted:
    """A job elsewhere, whose launcher gets Ctrl-C while it waits."""

    cancelled = False

    def run(self) -> "_Interrupted":
        return self

    def wait_until_finish(self) -> str:
        raise KeyboardInterrupt

    def cancel(self) -> None:
        self.cancelled = True


class _Ended(_Interrupted):
    """A job elsewhere that ends otherwise than it should."""

    def wait_until_finish(self) -> str:
        return "CANCELLED"


def test_a_job_that_its_runner_ends_has_failed():
    with pytest.raises(RunError, match="the runner ended the job as CANCELLED: its own log says"):
        run_to_end(_Ended())  # type: ignore[arg-type]


def test_what_a_runner_is_not_told_is_asked_for():
    with pytest.raises(InputError, match=r"needs other flags \(.*project.*\): give those"):
        new_pipeline(PipelineOptions(["--runner=DataflowRunner"]))


def test_a_job_whose_launcher_is_interrupted_is_cancelled():
    job = _Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run_to_end(job)  # type: ignore[arg-type]
    assert job.cancelled
