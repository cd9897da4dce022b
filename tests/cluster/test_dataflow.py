"""The jobs that Dataflow would be given: built by the commands themselves, without an account.

With `--template_location`, as a flex template's launcher gives it, a job is not handed in but
written to the bucket, from where Dataflow takes it. Here it is read.
"""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import translations
from apache_beam.runners.worker.bundle_processor import DATA_OUTPUT_URN
from google.cloud.dataflow_v1beta3 import TemplateMetadata

from tests.cluster.google import ACCOUNT, Cloud
from tests.cluster.launcher import LABELS, launcher_flags
from tests.conftest import compress
from tests.support.files_of import ROOT, files_of_the_project

IMAGE = "europe-docker.pkg.dev/project/repository/emnist-latents:1"
COMMAND = [sys.executable, "-m", "beam_job"]
LAUNCHER = [sys.executable, str(ROOT / "deploy/dataflow/main.py")]
STAGED_SAMPLE = ["--dataset=sample", "--data_dir=gs://bucket/data"]
SAMPLE_IMAGES = 1797


class Job(NamedTuple):
    """description: what Dataflow's API is told. packages: what is staged for workers, by name."""

    description: dict[str, Any]
    pipeline: beam_runner_api_pb2.Pipeline
    packages: dict[str, bytes]

    @property
    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = self.description["environment"]["sdkPipelineOptions"]["options"]
        return options


def submitted(cloud: Cloud, name: str, command: list[str]) -> Job:
    """The job that a command makes when it is given what the launcher of a template adds."""
    done = subprocess.run(
        [*command, f"--output=gs://bucket/out-{name}", *launcher_flags(name)],
        env={**os.environ, **cloud.environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"submitted: gs://bucket/out-{name} is complete when")
    found = {Path(path).name: content for path, content in cloud.read(f"staging-{name}").items()}
    description = json.loads(found.pop("job_object"))
    pipeline = beam_runner_api_pb2.Pipeline.FromString(found.pop("pipeline.pb"))
    return Job(description, pipeline, found)


@pytest.fixture(scope="module")
def launched(cloud: Cloud) -> Job:
    """What the flex template makes of its parameters."""
    given = [*STAGED_SAMPLE, "--latent_dtype=int8", f"--sdk_container_image={IMAGE}"]
    return submitted(cloud, "launched", [*LAUNCHER, *given, LABELS])


@pytest.fixture(scope="module")
def packaged(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Without an image: the project goes along as a source distribution."""
    project = tmp_path_factory.mktemp("project")
    files_of_the_project(project)
    given = [*STAGED_SAMPLE, f"--setup_file={project}/setup.py", "--experiments=one_of_the_users"]
    return submitted(cloud, "packaged", [*COMMAND, "compress", "--no_wait", *given])


@pytest.fixture(scope="module")
def reconstructing(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Job:
    run = tmp_path_factory.mktemp("run")
    assert compress("--dataset=sample", f"--data_dir={run}/data", f"--output={run}/run") == 0
    for path in (run / "run").rglob("*.*"):
        if path.is_file():
            cloud.bucket.blob(str(path.relative_to(run))).upload_from_filename(path)
    given = ["--input=gs://bucket/run", f"--sdk_container_image={IMAGE}"]
    return submitted(cloud, "reconstructing", [*COMMAND, "reconstruct", "--no_wait", *given])


class Stage(NamedTuple):
    """names: of the transforms that run together. leaving: what is handed on, NAME:OUTPUT."""

    names: list[str]
    leaving: set[str]


def stages(pipeline: beam_runner_api_pb2.Pipeline) -> list[Stage]:
    """The graph as a runner puts it together, by Beam's own fusion."""
    made_by = {
        pcollection: f"{step.unique_name}:{output}"
        for step in pipeline.components.transforms.values()
        if not step.subtransforms
        for output, pcollection in step.outputs.items()
    }
    _, fused = translations.create_and_optimize_stages(
        copy.deepcopy(pipeline),
        [
            translations.annotate_downstream_side_inputs,
            translations.annotate_stateful_dofns_as_roots,
            translations.lift_combiners,
            translations.expand_gbk,
            translations.sink_flattens,
            translations.greedily_fuse,
        ],
        known_runner_urns=frozenset(),
    )
    return [
        Stage(
            [step.unique_name for step in stage.transforms],
            {
                made_by.get(pcollection, pcollection)
                for step in stage.transforms
                if step.spec.urn == DATA_OUTPUT_URN
                for pcollection in step.inputs.values()
            },
        )
        for stage in fused
    ]


def stage_of(job: Job, transform: str) -> Stage:
    (found,) = (stage for stage in stages(job.pipeline) if transform in stage.names)
    return found


def test_compress_reads_encodes_and_writes_in_one_stage_behind_a_reshuffle(launched: Job):
    stage = stage_of(launched, "ReadImages/ReadShards/ParDo(_ReadShards)")
    assert stage.names[0] == "SpreadShards/ReshufflePerKey/GroupByKey/Read"
    assert {
        "NormalizeImages",
        "ReshapeImages",
        "Encode/RunInference/BeamML_RunInference",
        "StoreLatents",
        "WriteLatents/WriteWholeShards/ParDo(_WriteWholeShards)",
    } <= set(stage.names)
    (before,) = (other for other in stages(launched.pipeline) if "Shards/Impulse" in other.names)
    assert len(before.leaving) == 1
    assert next(iter(before.leaving)).startswith("SpreadShards/ReshufflePerKey/")


def test_images_do_not_leave_the_worker_that_reads_them(launched: Job):
    """But for those that the report shows, with counts, and pieces of latents."""
    stage = stage_of(launched, "NormalizeImages")
    assert stage.leaving == {
        "FindFinished/ParDo(_FindFinished):finished",
        "WriteLatents/WriteWholeShards/ParDo(_WriteWholeShards):None",
        "WriteLatents/WriteWholeShards/ParDo(_WriteWholeShards):pieces",
    }


def test_reconstruct_reads_decodes_and_writes_in_one_stage_behind_a_reshuffle(
    reconstructing: Job,
):
    stage = stage_of(reconstructing, "ReadLatents")
    assert stage.names[0] == "SpreadShards/ReshufflePerKey/GroupByKey/Read"
    assert {
        "Decode/RunInference/BeamML_RunInference",
        "WriteImages/WriteWholeShards/ParDo(_WriteWholeShards)",
    } <= set(stage.names)
    assert [name for name in stage.leaving if name.startswith(("ReadLatents", "Decode"))] == []


def test_a_graph_holds_a_few_bytes_a_shard(cloud: Cloud, launched: Job):
    """Two shards become 1,797: of an image's 784 bytes nothing is in it."""
    given = [*STAGED_SAMPLE, "--shard_size=1", f"--sdk_container_image={IMAGE}"]
    many = submitted(cloud, "many", [*LAUNCHER, *given, LABELS])
    grown = many.pipeline.ByteSize() - launched.pipeline.ByteSize()
    assert 0 < grown < 50 * SAMPLE_IMAGES
    assert launched.pipeline.ByteSize() < 100_000


def test_no_session_is_pickled_and_nothing_is_installed_on_the_image(launched: Job):
    assert set(launched.packages) == {"submission_environment_dependencies.txt"}
    assert staged_for_workers(launched) == set(launched.packages)
    assert launched.options["save_main_session"] is False
    assert "setup_file" not in launched.options


def test_workers_run_the_image(launched: Job):
    (environment,) = launched.pipeline.components.environments.values()
    docker = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
    assert (environment.urn, docker.container_image) == ("beam:env:docker:v1", IMAGE)
    (pool,) = launched.description["environment"]["workerPools"]
    assert pool["workerHarnessContainerImage"] == IMAGE
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 10


def test_dataflows_labels_of_the_job_arrive_and_are_no_labels_of_images(launched: Job):
    assert launched.description["labels"] == {"goog-dataflow-provided-template-type": "flex"}
    assert launched.description["environment"]["serviceAccountEmail"] == ACCOUNT


def test_without_an_image_a_source_distribution_goes_along(packaged: Job):
    assert staged_for_workers(packaged) == {
        "submission_environment_dependencies.txt",
        "workflow.tar.gz",
    }
    assert packaged.packages["workflow.tar.gz"].startswith(b"\x1f\x8b")
    assert packaged.options["save_main_session"] is False
    (pool,) = packaged.description["environment"]["workerPools"]
    assert "/beam_python3." in pool["workerHarnessContainerImage"]


def test_a_users_experiments_are_kept(packaged: Job):
    assert {"one_of_the_users", "use_runner_v2"} <= set(
        packaged.description["environment"]["experiments"]
    )


def staged_for_workers(job: Job) -> set[str]:
    """What workers find beside the image, by name."""
    return {
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(file.role_payload).staged_name
        for environment in job.pipeline.components.environments.values()
        for file in environment.dependencies
    }


def test_the_templates_metadata_is_what_dataflows_api_reads():
    text = (ROOT / "deploy/dataflow/metadata.json").read_text()
    read = TemplateMetadata.from_json(text)  # Raises at a field that the API doesn't have.
    assert [parameter.name for parameter in read.parameters] == [
        parameter["name"] for parameter in json.loads(text)["parameters"]
    ]
    assert [parameter.name for parameter in read.parameters if not parameter.is_optional] == [
        "output",
        "sdk_container_image",
    ]
