"""What a run's documents record of flags and paths: never a secret.

A manifest is shared with whoever reads the latents, so a value is recorded only where it is known
to be harmless.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from transforms.inputs.dataset import Source

_ADDRESSES = frozenset({"artifact_endpoint", "flink_master", "job_endpoint", "spark_master_url"})
"""Flags of Beam whose value is a URL, or a host and a port."""
_HARMLESS = _ADDRESSES | {
    "artifact_port",
    "autoscaling_algorithm",
    "direct_num_workers",
    "direct_running_mode",
    "disk_size_gb",
    "disk_type",
    "environment_cache_millis",
    "environment_type",
    "flexrs_goal",
    "flink_submit_uber_jar",
    "flink_version",
    "job_name",
    "job_port",
    "job_server_timeout",
    "machine_type",
    "max_num_workers",
    "max_parallelism",
    "min_cpu_platform",
    "num_workers",
    "number_of_worker_harness_threads",
    "parallelism",
    "pickle_library",
    "region",
    "runner",
    "s3_api_version",
    "s3_disable_ssl",
    "s3_endpoint_url",
    "s3_region_name",
    "s3_verify",
    "save_main_session",
    "sdk_container_image",
    "sdk_worker_parallelism",
    "spark_submit_uber_jar",
    "spark_version",
    "streaming",
    "use_public_ips",
    "worker_disk_type",
    "worker_machine_type",
    "worker_region",
    "worker_zone",
    "zone",
}
"""Flags of Beam whose values are recorded; a flag of any other name may hold a secret."""

_FLAG = re.compile(r"--([A-Za-z][\w-]*)(?:=(.*))?", re.DOTALL)
_HIDDEN = "..."
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_USER_INFO = re.compile(r"[^/?#]*@|(?!\[)[^/?#:]*:(?!\d*(?:[/?#]|$)).*@", re.DOTALL)
"""Up to the `@` of the host. The second form is of a password with a `/`, `?` or `#` in it."""
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_OBJECT_QUERY = re.compile(r"\?[^/?]*=.*", re.DOTALL)
"""In the key of an object `?` may also be a wildcard, and `#` a character as any other."""
_STORES = ("s3://", "gs://")


def recorded_flags(flags: Sequence[str]) -> list[str]:
    """Beam's flags as a manifest records them, one entry for each flag.

    The value of a flag that is not known to be harmless is recorded as `...`, whether it follows an
    equals sign or is the next argument.
    """
    return list(_recorded_flags(flags))


def _recorded_flags(flags: Sequence[str]) -> Iterator[str]:
    name: str | None = None
    """The flag that waits for its value."""
    for argument in flags:
        flag = _FLAG.fullmatch(argument)
        if flag is None:
            yield _HIDDEN if name is None else f"--{name}={_recorded_value(name, argument)}"
            name = None
            continue
        if name is not None:
            yield f"--{name}"
        name, value = flag.groups()
        if value is not None:
            yield f"--{name}={_recorded_value(name, value)}"
            name = None
    if name is not None:
        yield f"--{name}"


def _recorded_value(name: str, value: str) -> str:
    name = name.replace("-", "_")
    if name not in _HARMLESS:
        return _HIDDEN
    if name in _ADDRESSES and not _SCHEME.match(value):
        return without_credentials(f"//{value}", scheme="//").removeprefix("//")
    return without_credentials(value)


def recorded_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Our own options as a manifest records them: by name, URLs without credentials.

    A flag that may be given several times is a list only if it is.
    """
    return {name: _recorded_option(value) for name, value in options.items()}


def _recorded_option(value: Any) -> Any:
    if isinstance(value, tuple):
        values = [without_credentials(each) for each in value]
        return values if len(values) > 1 else next(iter(values), None)
    return without_credentials(value) if isinstance(value, str) else value


def without_credentials(text: str, scheme: str | None = None) -> str:
    """A URL without user info, query and fragment; any other text as it is.

    scheme: what the URL begins with, where that is known.
    """
    if scheme is None:
        found = _SCHEME.match(text)
        if found is None:
            return text
        scheme = found.group()
    rest = text[len(scheme) :]
    user_info = _USER_INFO.match(rest)
    rest = rest[user_info.end() :] if user_info else rest
    return scheme + (_OBJECT_QUERY if scheme.lower() in _STORES else _QUERY).sub("", rest)


def recorded_source(source: Source) -> Source:
    """A source as documents record it; a URL without credentials."""
    return replace(source, path=without_credentials(source.path))
