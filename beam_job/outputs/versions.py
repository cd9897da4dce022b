"""The versions of what is installed, for a run or a model to write down."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

_ALSO_CALLED = {"tensorflow": "tensorflow-cpu"}
"""TensorFlow without kernels for GPUs, which the container image has, is a package of its own."""


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The version of each package by its name; PackageNotFoundError where one is missing."""
    return {name: _version(name) for name in names}


def versions_if_installed(names: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are there."""
    return {name: _version(name) for name in names if _is_installed(name)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        if name not in _ALSO_CALLED:
            raise
        return version(_ALSO_CALLED[name])


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
