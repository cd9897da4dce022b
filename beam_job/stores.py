"""Whether the paths that flags give can be used."""

from transforms.errors import InputError, StoreError
from transforms.storage.check import check_store
from transforms.storage.files import is_local


def check_file_system(flag: str, path: str | None) -> None:
    """Raises InputError where there is no store for a flag's path, or it cannot be used."""
    if not path or is_local(path):
        return
    try:
        check_store(path)
    except StoreError as error:
        raise InputError(f"--{flag}={path}: {error}") from error
