"""Where a file is unpacked that can be read no other way."""

import tempfile
import uuid
from pathlib import Path
from typing import Any

from transforms.errors import InputError
from transforms.storage.files import FoundFile, find_files
from transforms.storage.local import local_errors


class Scratch:
    """A folder for unpacked files, made when it is needed and gone when nobody holds it."""

    def __init__(self) -> None:
        self._folder: Any = None

    def new_path(self) -> str:
        """The path of a file that is not there yet."""
        if self._folder is None:
            with local_errors("written", tempfile.gettempdir()):
                self._folder = tempfile.TemporaryDirectory(prefix="emnist-")
        return str(Path(self._folder.name, uuid.uuid4().hex))


class ScratchFile:
    """A file in a scratch folder as it is written; no more than `most` bytes of it."""

    def __init__(self, name: str, scratch: Scratch, most: int) -> None:
        self._name, self._most = name, most
        self.path = scratch.new_path()
        self._bytes = 0
        with local_errors("written", self.path):
            self._file = open(self.path, "wb")  # noqa: SIM115  # Closed by __exit__.

    def __enter__(self) -> "ScratchFile":
        return self

    def __exit__(self, *_: object) -> None:
        with local_errors("written", self.path):
            self._file.close()

    def write(self, content: Any) -> None:
        """Adds bytes. Raises InputError where they become too many, RunError for a full disk."""
        self._bytes += memoryview(content).nbytes
        check_left(self._name, self._most - self._bytes, self._most)
        with local_errors("written", self.path):
            self._file.write(content)

    def found(self) -> FoundFile:
        """The file, when it is closed."""
        (found,) = find_files(self.path)
        return found


def check_left(name: str, left: int, most: int) -> None:
    """Raises InputError where a file has unpacked to more than `most` bytes. left: of these."""
    if left < 0:
        raise InputError(
            f"{name}: unpacks to more than --max_unpacked_bytes={most}: raise that if it is right"
        )
