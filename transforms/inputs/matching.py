"""The files that --input and --labels name: files, folders, globs, and several of these."""

import glob
import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from transforms.errors import InputError, first_line
from transforms.inputs.parts import read_part
from transforms.printable import is_unicode
from transforms.storage.files import FoundFile, find_files, is_local, join_path

_PACKED = (".gz", ".xz", ".zst", ".bz2")
_GZIP_LENGTH_BYTES = 4
"""At the end of a gzip: what it unpacks to, modulo 2 ** 32 (RFC 1952, 2.3.1)."""
_DOCUMENTS = {".html", ".ini", ".ipynb", ".json", ".md", ".pdf", ".py", ".txt", ".yaml", ".yml"}
_DOCUMENT_NAMES = {"_success", "copying", "licence", "license", "notice", "readme", "thumbs"}


class LeftOut(NamedTuple):
    """A file that a folder or a glob has in it, and why it is not read."""

    path: str
    reason: str


class Matched(NamedTuple):
    """Files in the order of their names, pattern by pattern, each there once."""

    files: list[FoundFile]
    left_out: list[LeftOut]


def match_files(patterns: Sequence[str], flag: str) -> Matched:
    """The files that a flag names, documents in a folder left out.

    Raises InputError where one of its values matches no file, or packs another that differs.
    """
    files: dict[str, FoundFile] = {}
    left_out = []
    for pattern in patterns:
        for file in _matched(pattern, flag):
            if _is_folder(pattern) and _is_document(file.path):
                left_out.append(LeftOut(file.path, "a document"))
                continue
            same = files.setdefault(_identity(file.path), file)
            if same is not file:
                left_out.append(LeftOut(file.path, f"the same file as {same.path}"))
    if not files:
        raise InputError(f"{flag}={patterns[0]} holds documents alone: give files of images")
    twins = {file.path: file for file in files.values()}
    packed = {path for path in twins if _unpacked_name(path) in twins}
    for path in sorted(packed):
        plain = twins[str(_unpacked_name(path))]
        _check_twin(twins[path], plain)
        left_out.append(LeftOut(path, f"{plain.path} packed"))
    return Matched([file for path, file in twins.items() if path not in packed], left_out)


def _matched(pattern: str, flag: str) -> list[FoundFile]:
    searched = join_path(glob.escape(pattern), "**") if _is_folder(pattern) else pattern
    try:
        found = find_files(searched)
        if not found and is_local(pattern):
            _check_looked_up(pattern)
    except OSError as error:
        raise InputError(
            f"{flag}={pattern} cannot be looked up ({first_line(error)}): correct the path, or let "
            "it be read"
        ) from error
    if not found and _is_folder(pattern):
        raise InputError(f"{flag}={pattern} is a folder with no file in it: give one that has some")
    if not found:
        raise InputError(f"{flag}={pattern} matches no file: give a file or a glob that does")
    for file in found:
        if not is_unicode(file.path):
            raise InputError(f"{file.path}: its name is no Unicode text: rename it")
    return found


def _is_folder(pattern: str) -> bool:
    return is_local(pattern) and os.path.isdir(pattern)  # noqa: PTH112  # Path raises for some.


def _check_looked_up(pattern: str) -> None:
    """Raises OSError where a path, or the folder of a glob, may not be looked at at all."""
    parts = Path(pattern).parts
    fixed = list(takewhile(lambda part: not glob.has_magic(part), parts))
    with suppress(FileNotFoundError):
        if len(fixed) == len(parts):
            os.lstat(pattern)
        else:
            os.scandir(Path(*fixed)).close()


def _is_document(path: str) -> bool:
    name = PurePosixPath(path.lower())
    return name.suffix in _DOCUMENTS or name.stem in _DOCUMENT_NAMES


def _identity(path: str) -> str:
    """What is the same for a file and a link to it."""
    return os.path.realpath(path) if is_local(path) else path


def _unpacked_name(path: str) -> str | None:
    plain, dot, ending = path.rpartition(".")
    return plain if dot + ending.lower() in _PACKED else None


def _check_twin(packed: FoundFile, plain: FoundFile) -> None:
    """Raises InputError where a gzip does not unpack to as many bytes as `plain` has."""
    if not packed.path.lower().endswith(".gz"):
        return
    length = read_part(packed, packed.bytes - _GZIP_LENGTH_BYTES, packed.bytes)
    if int.from_bytes(length, "little") != plain.bytes % (1 << 32):
        raise InputError(
            f"{packed.path}: is not {plain.path} packed, as it unpacks to another length: give one "
            "of the two"
        )
