"""The flex template: its parameters are flags of `compress`, and refuse what those refuse."""

import json
import re
import runpy

import pytest
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from beam_job.cli import parse
from beam_job.compress.options import CompressOptions
from beam_job.datasets.selection import DATASET_NAMES
from tests.support.files_of import ROOT
from transforms.errors import UsageError
from transforms.settings import (
    ENGINES,
    LATENT_DTYPES,
    ORIENTATIONS,
    PARQUET_KINDS,
    PRECISIONS,
)

FOLDER = ROOT / "deploy/dataflow"
METADATA = json.loads((FOLDER / "metadata.json").read_text())
PARAMETERS = {parameter["name"]: parameter for parameter in METADATA["parameters"]}
command_line = runpy.run_path(str(FOLDER / "main.py"))["command_line"]

IMAGE = "europe-docker.pkg.dev/project/repository/emnist-latents:1"
# What Dataflow's launcher adds to the parameters.
LAUNCHED = [
    "--runner=DataflowRunner",
    "--project=project",
    "--region=europe-west4",
    "--job_name=job",
    "--num_workers=2",
    "--max_num_workers=10",
    "--service_account_email=worker@project.iam.gserviceaccount.com",
    "--staging_location=gs://bucket/staging",
    "--temp_location=gs://bucket/tmp",
    "--template_location=gs://bucket/staging/template_launches/1/job_object",
    '--labels={\n   "goog-dataflow-provided-template-type" : "flex"\n}\n',
]


def launched(**parameters: str) -> tuple[CompressOptions, list[str]]:
    """What the template makes of parameters."""
    given = {"output": "gs://bucket/run", "sdk_container_image": IMAGE, **parameters}
    if "input" not in given:
        given = {"dataset": "sample", **given}
    _, options, left = parse(
        command_line([*LAUNCHED, *(f"--{name}={value}" for name, value in given.items())])
    )
    assert isinstance(options, CompressOptions)
    return options, left


def matches(name: str, value: str) -> bool:
    """Whether Dataflow lets a value through."""
    return all(re.search(regex, value) for regex in PARAMETERS[name]["regexes"])


def is_taken(name: str, value: str) -> bool:
    """Whether the flag of that name takes a value, beside flags that go with it."""
    beside = {"latent_bits": {"latent_dtype": "int8"}}.get(name, {})
    if (name, value) in (("engine", "litert"), ("precision", "int8")):
        beside = {"engine": "litert", "precision": "int8"}
    try:
        launched(**{**beside, name: value})
    except UsageError:
        return False
    return True


def test_the_launcher_starts_the_job_and_does_not_wait():
    options, left = launched(input="gs://bucket/*.npy", batch_size="7", overwrite="true")
    assert options.no_wait
    assert (options.input, options.output) == (("gs://bucket/*.npy",), "gs://bucket/run")
    assert (options.batch_size, options.overwrite, options.labels) == (7, True, ())
    beam = left.options
    assert beam.view_as(StandardOptions).runner == "DataflowRunner"
    assert beam.view_as(SetupOptions).save_main_session is False
    assert beam.view_as(WorkerOptions).sdk_container_image == IMAGE
    cloud = beam.view_as(GoogleCloudOptions)
    assert cloud.template_location.endswith("/job_object")
    assert [json.loads(label) for label in cloud.labels] == [
        {"goog-dataflow-provided-template-type": "flex"}
    ]


@pytest.mark.parametrize("said", [True, False])
def test_switches_are_said_yes_or_no(*, said: bool):
    options, _ = launched(overwrite=str(said).lower(), resume=str(said).lower())
    assert (options.overwrite, options.resume) == (said, said)


def test_what_a_run_needs_is_asked_for():
    needed = [name for name, about in PARAMETERS.items() if not about.get("isOptional")]
    assert needed == ["output", "sdk_container_image"]
    assert all(about["label"] and about["helpText"] for about in METADATA["parameters"])


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("dataset", DATASET_NAMES),
        ("engine", ENGINES),
        ("precision", PRECISIONS),
        ("latent_dtype", LATENT_DTYPES),
        ("orientation", ORIENTATIONS),
        ("parquet", PARQUET_KINDS),
    ],
)
def test_a_choice_is_the_flags(name: str, choices: tuple[str, ...]):
    assert PARAMETERS[name]["regexes"] == [f"^({'|'.join(choices)})$"]


@pytest.mark.parametrize(
    "name", [name for name in PARAMETERS if "defaultValue" in PARAMETERS[name]]
)
def test_a_default_is_the_flags(name: str):
    default = PARAMETERS[name]["defaultValue"]
    beside = {"input": "gs://bucket/images.npy"} if name == "orientation" else {}
    assert launched(**beside, **{name: default}) == launched(**beside)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "output",
            ["gs://bucket/run", "gs://a-bucket.of_1/a/b c"],
            ["gs://bucket/r?", "gs://b/[r"],
        ),
        ("data_dir", ["gs://bucket/data"], ["gs://bucket/*", ""]),
        ("input", ["gs://bucket/*.npy", "gs://bucket/a/**/[0-9]?.gz"], [""]),
        ("model", ["gs://bucket/models/mine", "gs://bucket/encoder.keras"], [""]),
        ("dataset", [*DATASET_NAMES], ["Sample", "samples", ""]),
        ("engine", [*ENGINES], ["onnx", "ncnn ", ""]),
        ("precision", [*PRECISIONS], ["float16", ""]),
        ("latent_dtype", [*LATENT_DTYPES], ["uint8", ""]),
        ("latent_bits", ["4", "5", "8", "08"], ["3", "9", "10", "five", "-4", "4.0", ""]),
        ("parquet", [*PARQUET_KINDS], ["small ", "plain", ""]),
        ("batch_size", ["1", "1024", "010"], ["0", "00", "-1", "1e3", "1,024", ""]),
        ("shard_size", ["1", "100000"], ["0", "1.5", "ten", ""]),
        ("max_rejects", ["0", "10"], ["-1", "all", ""]),
        ("overwrite", ["true", "false"], ["yes", "True", ""]),
        ("resume", ["true", "false"], ["yes", "True", ""]),
    ],
)
def test_a_parameter_takes_what_the_flag_takes(name: str, good: list[str], bad: list[str]):
    assert [value for value in good if not matches(name, value)] == []
    assert [value for value in good if not is_taken(name, value)] == []
    assert [value for value in bad if matches(name, value)] == []
    assert [value for value in bad if is_taken(name, value)] == []


@pytest.mark.parametrize("name", ["output", "data_dir", "input", "model"])
@pytest.mark.parametrize(
    "path", ["run", "/run", "s3://bucket/run", "gs:/bucket/run", "gs://Bucket/run", "gs://bucket"]
)
def test_paths_are_those_of_cloud_storage(name: str, path: str):
    assert not matches(name, path)


def test_an_image_is_named_by_tag_or_digest():
    assert matches("sdk_container_image", IMAGE)
    assert matches("sdk_container_image", f"{IMAGE}@sha256:{'0' * 64}")
    assert not matches("sdk_container_image", "an image")


def test_every_parameter_is_checked_and_tested():
    assert [name for name, about in PARAMETERS.items() if not about.get("regexes")] == []
    assert [name for name, about in PARAMETERS.items() if len(about["regexes"]) != 1] == []
