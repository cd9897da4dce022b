"""What is recorded of flags and paths holds no secret, whatever a flag is called."""

import json
from pathlib import Path

import numpy as np
import pytest

from beam_job.outputs.redaction import (
    _HARMLESS,
    recorded_flags,
    recorded_options,
    recorded_source,
    without_credentials,
)
from tests.conftest import compress
from transforms.inputs.dataset import Source
from transforms.inputs.files import files_dataset

SECRET = "TOPSECRET"


@pytest.mark.parametrize(
    ("flags", "recorded"),
    [
        (["--runner=FlinkRunner", "--parallelism=2"], ["--runner=FlinkRunner", "--parallelism=2"]),
        (["--runner", "DirectRunner"], ["--runner=DirectRunner"]),
        (["--streaming", "--region=europe-west1"], ["--streaming", "--region=europe-west1"]),
        (["--s3_secret_access_key=TOPSECRET"], ["--s3_secret_access_key=..."]),
        (
            ["--s3_session_token", "TOPSECRET", "--runner=DirectRunner"],
            ["--s3_session_token=...", "--runner=DirectRunner"],
        ),
        (
            ["--azure_connection_string=AccountName=n;AccountKey=TOPSECRET=="],
            ["--azure_connection_string=..."],
        ),
        (
            ["--environment_type=PROCESS", '--environment_config={"env":{"KEY":"TOPSECRET"}}'],
            ["--environment_type=PROCESS", "--environment_config=..."],
        ),
        (["--profiler_extra_env_vars", "A=TOPSECRET", "B=TOPSECRET"], None),
        (["--a_flag_of_tomorrow", "-TOPSECRET"], ["--a_flag_of_tomorrow=..."]),
        (["--a_flag_of_tomorrow=x\nTOPSECRET"], ["--a_flag_of_tomorrow=..."]),
        (["-TOPSECRET"], ["..."]),
        (["--flink_master=http://user:TOPSECRET@host:8081"], ["--flink_master=http://host:8081"]),
        (["--flink_master=user:TOPSECRET@host:8081"], ["--flink_master=host:8081"]),
        (["--flink_master=host:8081"], ["--flink_master=host:8081"]),
        (["--job_endpoint", "host:8099"], ["--job_endpoint=host:8099"]),
        (
            ["--s3_endpoint_url=https://user:TOPSECRET@minio:9000"],
            ["--s3_endpoint_url=https://minio:9000"],
        ),
        (
            ["--sdk_container_image=registry/beam@sha256:0123"],
            ["--sdk_container_image=registry/beam@sha256:0123"],
        ),
    ],
    ids=lambda flags: " ".join(flags) if flags else "",
)
def test_a_flag_is_recorded_with_its_value_only_where_that_is_harmless(flags, recorded):
    found = recorded_flags(flags)
    assert recorded is None or found == recorded
    assert SECRET not in json.dumps(found)


def test_no_flag_of_beam_that_carries_a_secret_is_thought_harmless():
    named_so = ("auth", "config", "credential", "key", "option", "password", "secret", "token")
    assert not [name for name in _HARMLESS if any(part in name for part in named_so)]


@pytest.mark.parametrize(
    ("url", "recorded"),
    [
        ("http://user:secret@host:8081/x?sig=1", "http://host:8081/x"),
        ("https://secret@host", "https://host"),
        ("https://host/x?sig=secret#secret", "https://host/x"),
        ("https://host?sig=a@b/secret", "https://host"),
        ("https://user:se/cr#e?t@host:80/x", "https://host:80/x"),
        ("https://user:p@secret@host/x", "https://host/x"),
        ("http://[::1]:8081/x", "http://[::1]:8081/x"),
        ("https://host/@2x/a:b", "https://host/@2x/a:b"),
        ("hdfs://user:secret@namenode/x", "hdfs://namenode/x"),
        ("s3://key:secret@bucket/x", "s3://bucket/x"),
        ("s3://bucket/x.npy?secret_key=secret", "s3://bucket/x.npy"),
        # A wildcard, and a character that the key of an object may have.
        ("s3://bucket/part-?.npy", "s3://bucket/part-?.npy"),
        ("gs://bucket/a#1@2.npy", "gs://bucket/a#1@2.npy"),
        ("images/a?b#c@d:e=f.npy", "images/a?b#c@d:e=f.npy"),
        ("C:\\images\\x.npy", "C:\\images\\x.npy"),
        ("", ""),
    ],
)
def test_a_url_is_recorded_without_user_info_query_and_fragment(url: str, recorded: str):
    assert without_credentials(url) == recorded
    assert without_credentials(recorded) == recorded


def test_our_own_options_are_recorded_without_credentials():
    options = {"input": "http://u:s@h/x?y=1", "labels": None, "quiet": True, "batch_size": 7}
    expected = {"input": "http://h/x", "labels": None, "quiet": True, "batch_size": 7}
    assert recorded_options(options) == expected


def test_sources_are_recorded_without_credentials():
    source = Source("https://u:s@h/x", None, 3)
    assert recorded_source(source).path == "https://h/x"


def test_no_secret_of_the_command_line_is_in_any_document_of_a_run(tmp_path: Path, monkeypatch):
    """The files are opened by a path that holds a secret, as those of some stores do."""
    np.save(tmp_path / "f.npy", np.zeros((3, 28, 28), np.uint8))
    url = f"hdfs://me:{SECRET}@host/f.npy"
    dataset = files_dataset(str(tmp_path / "f.npy"), None, "auto")
    monkeypatch.setattr("beam_job.compress.command.known_dataset", lambda _: dataset)
    monkeypatch.setattr("beam_job.compress.command.check_file_system", lambda *_: None)
    flags = [f"--input={url}", f"--archive_url=https://h/?t={SECRET}", f"--output={tmp_path}/out"]
    assert compress(*flags, f"--s3_session_token={SECRET}", "--quiet") == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["flags"]["input"] == "hdfs://host/f.npy"
    assert manifest["flags"]["archive_url"] == "https://h/"
    assert manifest["flags"]["beam"] == ["--s3_session_token=...", "--runner=FnApiRunner"]
    for path in (tmp_path / "out").rglob("*.*"):
        assert SECRET.encode() not in path.read_bytes()
