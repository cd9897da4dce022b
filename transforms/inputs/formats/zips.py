"""A zip: what its members hold, with the labels among them."""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from transforms.errors import InputError
from transforms.inputs.content import (
    HEAD_BYTES,
    MEMBER,
    ZIP_MAGIC,
    Content,
    damage_named,
    in_scratch,
    open_member,
    random_file,
    unpacked,
)
from transforms.inputs.formats import idx, npz, pictures
from transforms.inputs.formats.part import Part, Wanted
from transforms.inputs.labels import counted, labels_in, most_bytes
from transforms.inputs.names import kind_of, subject_of

NAME = "zip"

_LOCAL_HEADER_BYTES = 30
_SHOWN_NAMES = 5
_BESIDES = (".txt", ".md", ".html", ".pdf", ".json", ".yml", ".yaml")
"""The ends of the names of what is no data, in small letters."""

Describe = Callable[[Content, Wanted], list[Part]]


def recognizes(content: Content) -> bool:
    """Whether the content begins as a zip does."""
    return content.head.startswith((ZIP_MAGIC, b"PK\5\6"))


def describe(content: Content, wanted: Wanted, describe_member: Describe) -> list[Part]:
    """What is in its members: images of any format, pictures, or the arrays of an .npz."""
    content = in_scratch(content, wanted.scratch, wanted.max_unpacked_bytes)
    with (
        damage_named(content.name, NAME),
        zipfile.ZipFile(io.BufferedReader(random_file(content))) as opened,
    ):
        infos = [info for info in opened.infolist() if _is_data(info)]
        if infos and all(info.filename.endswith(".npy") for info in infos):
            members = [_member(content, opened, info) for info in infos]
            if npz.is_npz(members):
                return npz.describe_members(content, members, wanted)
        chosen = [info for info in infos if _is_wanted(info.filename, wanted)]
        names = [info.filename for info in chosen]
        if any(map(pictures.is_picture, names)):
            return pictures.describe_zip(content, list(filter(pictures.is_picture, names)), wanted)
        members = [_member(content, opened, info) for info in chosen]
    _check(content.name, names, [info.filename for info in infos], wanted)
    labels = [member for member in members if _holds_labels(member)]
    parts, whole = [], replace(wanted, member=None)
    for member in members:
        if member not in labels:
            parts += _labelled(describe_member(member, whole), member, labels)
    return parts


def _is_data(info: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(info.filename)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not (info.is_dir() or hidden or path.suffix.lower() in _BESIDES)


def _is_wanted(name: str, wanted: Wanted) -> bool:
    pattern = wanted.member
    return pattern is None or fnmatchcase(name, pattern) or fnmatchcase(_last(name), pattern)


def _last(name: str) -> str:
    return PurePosixPath(name).name


def _member(content: Content, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Content:
    """A member with its head; as a part of the file where it is stored as it is."""
    name = f"{content.name}/{info.filename}"
    with open_member(opened, info) as file:
        head = file.read(HEAD_BYTES)
    member = content._replace(
        name=name, head=head, packing=(*content.packing, MEMBER + info.filename), size=0
    )
    if info.compress_type != zipfile.ZIP_STORED or member.packed_by or recognizes(member):
        return member
    header = content.part(info.header_offset, info.header_offset + _LOCAL_HEADER_BYTES)
    name_bytes, extra_bytes = header[26:28], header[28:30]
    begin = _LOCAL_HEADER_BYTES + sum(
        int.from_bytes(n, "little") for n in (name_bytes, extra_bytes)
    )
    start = content.start + info.header_offset + begin
    return member._replace(packing=content.packing, start=start, size=info.file_size)


def _check(name: str, chosen: Sequence[str], all_names: Sequence[str], wanted: Wanted) -> None:
    """Raises InputError where nothing is chosen, or several of EMNIST's datasets."""
    shown = ", ".join(all_names[:_SHOWN_NAMES]) + " ..." * (len(all_names) > _SHOWN_NAMES)
    if not chosen:
        raise InputError(
            f"{name}: --member={wanted.member or '*'} names nothing in it, of "
            f"{shown or 'none'}: give a name or a glob that does"
        )
    datasets = {kind_of(each) for each in chosen} - {None}
    if wanted.member is None and len(datasets) > 1:
        raise InputError(
            f"{name}: holds several datasets ({', '.join(sorted(map(str, datasets)))}), whose "
            "images are partly the same: name one by --member='*balanced*'"
        )


def _holds_labels(member: Content) -> bool:
    return idx.has_labels(unpacked(member) if member.packed_by else member)


def _labelled(parts: list[Part], member: Content, labels: Sequence[Content]) -> list[Part]:
    """The images of a member with their labels: those called alike, by NIST's naming."""
    subject = subject_of(member.name)
    given = [each for each in labels if subject_of(each.name) == subject]
    if len(parts) != 1 or len(given) != 1:
        return parts
    (part,) = parts
    label = unpacked(given[0]) if given[0].packed_by else given[0]
    rows = part.segment.rows
    numbers = labels_in(label.name, label.first(most_bytes(rows) + 1), rows)
    counted(label.name, numbers, part.name, rows)
    segment = part.segment.with_labels(numbers)
    return [part._replace(segment=segment, labels_in=_last(label.name))]
