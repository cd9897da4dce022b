"""The job that Dataflow would be given, built without an account, and read."""

import json
import shutil
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.runners.portability.fn_api_runner import translations
from apache_beam.runners.worker.bundle_processor import DATA_OUTPUT_URN
from google.cloud.dataflow_v1beta3 import TemplateMetadata

from beam_job.completion import Run
from beam_job.compress_pipeline import build_pipeline
from beam_job.datasets import Source
from beam_job.options import CompressOptions, beam_options, parse
from beam_job.publishing import Attempt
from tests.dockerfile import ROOT
from transforms.images import Segment, Shard, ShardKey

pytestmark = pytest.mark.cluster

IMAGE = "europe-docker.pkg.dev/project/repository/emnist-latents:1"
DATAFLOW = [
    "--runner=DataflowRunner",
    "--dry_run=True",
    "--no_auth",
    "--project=project",
    "--region=europe-west4",
    "--job_name=job",
    "--temp_location=gs://bucket/tmp",
]
FILE = "gs://bucket/digits.npy"
ONE_STAGE = [
    "ReadImages/ReadShards",
    "NormalizeImages",
    "ReshapeImages",
    "Encode/",
    "StoreLatents",
    "WriteLatents/WriteWholeShards",
]
"""From bytes in the store to a Parquet file in it."""


def dataflow_job(*flags: str) -> apiclient.Job:
    """The job of two shards of a file, as the runner would hand it in."""
    options, left = parse(
        ["compress", f"--input={FILE}", "--output=gs://bucket/run", *DATAFLOW, *flags]
    )
    assert isinstance(options, CompressOptions)
    planned = Run(
        attempt=Attempt("gs://bucket/run/_incomplete-1", "gs://bucket/run"),
        dataset="digits",
        fingerprint=None,
        sources=(Source(FILE, "all", 15_680_000),),
        staged={"all": 20_000},
        shards={"all": 2},
        characters={},
        model={
            "quantization": None,
            "decoder_sha256": None,
            "engine": "tensorflow",
            "precision": "float32",
            "sha256": "0" * 64,
        },
        flags={**vars(options), "beam": left},
        max_rejects=0,
        warnings=(),
    )
    shards = [
        Shard(
            ShardKey("all", number, 2, 10_000),
            (Segment(FILE, "raw", 10_000, 10_000 * number, 10_000 * number),),
        )
        for number in range(2)
    ]
    job: apiclient.Job = build_pipeline(options, beam_options(left), planned, shards).run().job
    return job


@pytest.fixture(scope="module")
def job() -> apiclient.Job:
    return dataflow_job(f"--sdk_container_image={IMAGE}", "--experiments=one_of_the_users")


def fused(pipeline: beam_runner_api_pb2.Pipeline) -> list[list[beam_runner_api_pb2.PTransform]]:
    """The transforms of each stage, as runners put them together."""
    _, stages = translations.create_and_optimize_stages(
        pipeline,
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
    return [stage.transforms for stage in stages]


def test_reading_to_writing_is_one_stage_behind_a_reshuffle(job: apiclient.Job):
    (stage,) = (
        names
        for names in ([step.unique_name for step in steps] for steps in fused(job.proto_pipeline))
        if any(name.startswith(ONE_STAGE[0]) for name in names)
    )
    assert [
        begins for begins in ONE_STAGE if not any(name.startswith(begins) for name in stage)
    ] == []
    names = {step.unique_name for step in job.proto_pipeline.components.transforms.values()}
    assert "ReadImages/SpreadShards" in names
    assert [name for name in stage if name.startswith("ReadImages/SpreadShards/AddRandom")] == []


def test_images_do_not_leave_the_worker_that_reads_them(job: apiclient.Job):
    components = job.proto_pipeline.components
    made_by = {
        pcollection: step.unique_name
        for step in components.transforms.values()
        if not step.subtransforms
        for pcollection in step.outputs.values()
    }
    leaving = {
        made_by[pcollection].split("/")[0]
        for steps in fused(job.proto_pipeline)
        for step in steps
        if step.spec.urn == DATA_OUTPUT_URN
        for pcollection in step.inputs.values()
        if pcollection in made_by
    }
    assert leaving == set()


def test_no_session_is_pickled_and_nothing_is_installed_on_the_image(job: apiclient.Job):
    assert staged(job) == {"submission_environment_dependencies.txt"}
    options = described(job).sdk_pipeline_options["options"]
    assert options["save_main_session"] is False


def test_workers_run_the_image(job: apiclient.Job):
    (pool,) = described(job).worker_pools
    assert {image.container_image for image in pool.sdk_harness_container_images} == {IMAGE}
    assert pool.worker_harness_container_image == IMAGE


def test_a_users_experiments_are_kept(job: apiclient.Job):
    assert {"one_of_the_users", "use_runner_v2"} <= set(described(job).experiments)


def test_without_an_image_a_source_distribution_goes_along(tmp_path: Path):
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("beam_job", "transforms"):
        shutil.copytree(ROOT / name, tmp_path / name)
    job = dataflow_job(f"--setup_file={tmp_path}/setup.py")
    assert staged(job) == {"submission_environment_dependencies.txt", "workflow.tar.gz"}


def staged(job: apiclient.Job) -> set[str]:
    """What workers find beside the image, by name."""
    (environment,) = (
        environment
        for environment in job.proto_pipeline.components.environments.values()
        if environment.urn == "beam:env:docker:v1"
    )
    return {
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(file.role_payload).staged_name
        for file in environment.dependencies
    }


def described(job: apiclient.Job):
    """Dataflow's own description of the environment that the job asks for."""
    return apiclient.Environment(
        [], job.options, "8", "gs://bucket/tmp/pipeline.pb", job.proto_pipeline
    ).proto


def test_the_templates_metadata_is_what_dataflow_reads():
    text = (ROOT / "deploy/dataflow/metadata.json").read_text()
    read = TemplateMetadata.from_json(text)
    assert [parameter.name for parameter in read.parameters] == [
        parameter["name"] for parameter in json.loads(text)["parameters"]
    ]
    assert [parameter.name for parameter in read.parameters if not parameter.is_optional] == [
        "output",
        "sdk_container_image",
    ]
