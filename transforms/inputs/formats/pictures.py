"""Files of one image each: a folder of them, or a zip; class folders are their labels."""

from collections.abc import Sequence
from hashlib import sha256

from transforms.errors import InputError
from transforms.images import Segment
from transforms.inputs.content import Content
from transforms.inputs.formats.part import Part, Wanted, is_transposed, with_texts
from transforms.inputs.names import split_of
from transforms.inputs.readers.pictures import IN_ZIP, PICTURES
from transforms.storage.files import FoundFile

NAME = "PNG, JPEG, WebP, BMP, TIFF, GIF"
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def is_picture(name: str) -> bool:
    """Whether a file is one of an image, by its name: nobody opens a million files to see."""
    return name.lower().endswith(ENDINGS)


def describe_files(found: Sequence[FoundFile], wanted: Wanted) -> Part:
    """Pictures in folders, of one split; in the order in which they are given."""
    folder, names = _below([file.path for file in found])
    part = _part(folder, found[0].path, names, wanted)
    size = sum(file.bytes for file in found)
    return part._replace(segment=part.segment._replace(bytes=size))


def describe_zip(content: Content, names: Sequence[str], wanted: Wanted) -> list[Part]:
    """Pictures in a zip, a part for each split that the folders in it name."""
    by_split: dict[str, list[str]] = {}
    for name in sorted(names):
        by_split.setdefault(split_of(name).split, []).append(name)
    parts = []
    for some in by_split.values():
        part = _part(content.found.path, f"{content.name}/{some[0]}", some, wanted)
        segment = part.segment._replace(
            packing=(IN_ZIP,),
            called=content.name,
            here=content.here,
            bytes=content.found.bytes,
            version=content.found.version,
        )
        parts.append(part._replace(segment=segment))
    return parts


def version_of(found: Sequence[FoundFile]) -> str:
    """What changes when one of many files is written to."""
    return sha256("\n".join(f"{file.path} {file.version}" for file in found).encode()).hexdigest()


def _below(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that holds all files, and their paths below it."""
    folders = [path.split("/")[:-1] for path in paths]
    shared = 0
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        shared += 1
    return "/".join(folders[0][:shared]), ["/".join(path.split("/")[shared:]) for path in paths]


def _part(path: str, name: str, names: Sequence[str], wanted: Wanted) -> Part:
    segment = Segment(
        path,
        PICTURES,
        len(names),
        first_row=0,
        first_image_id=0,
        transposed=is_transposed(wanted.orientation, stored_by_nist=False),
        files=tuple(names),
        fit=wanted.fit,
    )
    part = Part(name, segment, {})
    _, below = _below(names)
    classes = [each.rpartition("/")[0].rpartition("/")[2] for each in below]
    if not any(classes):
        return part._replace(notes=(f"{path}: no class folders, so no labels",))
    if not all(classes):
        without = below[classes.index("")]
        raise InputError(
            f"{path}: some pictures are in class folders, and {without} is not: put it into one"
        )
    return with_texts(part, classes)._replace(labels_in="the names of class folders")
