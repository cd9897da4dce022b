"""Whether the paths that flags give can be used."""

from collections.abc import Sequence

from transforms.errors import InputError, StoreError
from transforms.storage.check import check_store
from transforms.storage.files import is_local


def check_file_system(flag: str, paths: str | Sequence[str] | None) -> None:
    """Raises InputError where there is no store for a flag's path or paths, or none to be used."""
    for path in (paths,) if isinstance(paths, str) else paths or ():
        if is_local(path):
            continue
        try:
            check_store(path)
        except StoreError as error:
            raise InputError(f"--{flag}={path}: {error}") from error
