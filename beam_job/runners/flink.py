"""Whether what a job on Flink needs is there: cluster, job server, worker pool.

Asked before anything starts, as Beam finds out late and says it in many lines.
"""

import json
import re
import shutil
import socket
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from transforms.errors import InputError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

MAGIC_MASTERS = ("[local]", "[auto]")
"""Flink inside the job server."""

_SECONDS = 10
_FLINK_VERSION_FILE = "META-INF/maven/org.apache.flink/flink-core/pom.properties"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_flink(options: "PipelineOptions") -> None:
    """Raises InputError unless what a job on Flink needs is there; nothing for other runners."""
    from apache_beam.options import pipeline_options as beam

    runner = str(options.view_as(beam.StandardOptions).runner).rpartition(".")[2].lower()
    portable = options.view_as(beam.PortableOptions)
    flink = options.view_as(beam.FlinkRunnerOptions)
    master = flink.flink_master.strip()
    is_flink = runner in ("flinkrunner", "flink")
    if portable.job_endpoint and portable.job_endpoint != "embed":
        _check_answers(portable.job_endpoint, "job_endpoint", "start the job server there")
    elif is_flink:
        _check_job_server(flink.flink_job_server_jar, flink.flink_version)
    if is_flink and master not in MAGIC_MASTERS:
        _check_cluster(master, flink.flink_version)
    pool = portable.environment_config
    job_at = portable.job_endpoint or master
    if portable.environment_type == "EXTERNAL" and pool and _is_seen_from_here(pool, job_at):
        _check_answers(pool, "environment_config", "start the worker pool there")


def _check_job_server(jar: str | None, version: str) -> None:
    if shutil.which("java") is None:
        raise InputError("--runner=FlinkRunner needs java, which is not there: install Java 17")
    if jar is None or urlsplit(jar).scheme in ("http", "https"):
        return
    if not Path(jar).is_file():
        raise InputError(
            f"--flink_job_server_jar={jar} is no file: give the jar "
            f"org.apache.beam:beam-runners-flink-{version}-job-server of Maven Central, or leave "
            "the flag out, and Beam downloads it"
        )
    found = _flink_version_in(jar)
    if found is not None and _minor(found) != version:
        raise InputError(
            f"--flink_job_server_jar={jar} is for Flink {found}, not {version}: give "
            f"--flink_version={_minor(found)}, or the jar for {version}"
        )


def _flink_version_in(jar: str) -> str | None:
    """The version of Flink that a job server brings; None where it doesn't say."""
    try:
        with zipfile.ZipFile(jar) as archive:
            properties = archive.read(_FLINK_VERSION_FILE).decode()
    except KeyError:
        return None
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(
            f"--flink_job_server_jar={jar} is no jar ({error}): download it again"
        ) from error
    found = re.search(r"^version=(\S+)", properties, re.MULTILINE)
    return found[1] if found else None


def _check_cluster(master: str, version: str) -> None:
    url = master if "://" in master else f"http://{master}"
    try:
        with urlopen(f"{url}/v1/config", timeout=_SECONDS) as answer:  # noqa: S310  # The user's.
            found = str(json.load(answer)["flink-version"])
    except (URLError, OSError, ValueError, KeyError, TypeError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise InputError(
            f"--flink_master={master}: no Flink answers there ({reason}): give the address of its "
            "REST interface, HOST:8081"
        ) from error
    if _minor(found) != version:
        raise InputError(
            f"--flink_master={master} runs Flink {found}, and the job is for {version}: give "
            f"--flink_version={_minor(found)}, and the job server's jar for it where you name one"
        )


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _is_seen_from_here(pool: str, job_at: str) -> bool:
    """Whether a worker pool's address means the same here as to the job: `localhost` may not."""
    return _host(pool) in _LOOPBACK and (job_at in MAGIC_MASTERS or _host(job_at) in _LOOPBACK)


def _host(address: str) -> str | None:
    try:
        return urlsplit(f"//{address.rpartition('//')[2]}").hostname
    except ValueError:
        return None


def _check_answers(address: str, flag: str, way_out: str) -> None:
    parts = urlsplit(f"//{address}")
    try:
        host, port = parts.hostname, parts.port
        if host is None or port is None:
            raise ValueError("it is no HOST:PORT")
        socket.create_connection((host, port), _SECONDS).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"--{flag}={address} does not answer ({error}): {way_out}, or correct the address"
        ) from error
