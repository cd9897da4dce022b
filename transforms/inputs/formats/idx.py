"""IDX, the format of MNIST and of NIST's gzip.zip."""

import struct

from transforms.errors import InputError
from transforms.inputs.content import Content
from transforms.inputs.dataset import CHARACTERS
from transforms.inputs.formats.arrays import check_size, raw_part
from transforms.inputs.formats.part import Part, Wanted, is_transposed
from transforms.inputs.names import is_of_emnist, kind_of
from transforms.inputs.readers.raw import RawLayout

NAME = "IDX"
LABELS_MAGIC = 0x00000801
_IMAGES_MAGIC = 0x00000803
_HEADER_BYTES = 16


def recognizes(content: Content) -> bool:
    """Whether the content begins as an IDX file does: two zeros."""
    return content.head.startswith(b"\0\0")


def has_labels(content: Content) -> bool:
    """Whether the content is IDX of labels."""
    return content.head.startswith(struct.pack(">I", LABELS_MAGIC))


def describe(content: Content, wanted: Wanted) -> list[Part]:
    """The images; transposed in NIST's files."""
    rows, height, width = _images(content)
    check_size(content.name, height, width, fit=wanted.fit)
    layout = RawLayout(_HEADER_BYTES, rows, height=height, width=width)
    transposed = is_transposed(wanted.orientation, stored_by_nist=is_of_emnist(content.name))
    part = raw_part(content, layout, wanted, transposed=transposed)
    return [part._replace(characters=CHARACTERS.get(kind_of(content.name) or "", {}))]


def _images(content: Content) -> tuple[int, int, int]:
    """(images, height, width) by the header."""
    name, head = content.name, content.head[:_HEADER_BYTES]
    if has_labels(content):
        raise InputError(f"{name}: holds labels, not images: give the images, labels by --labels")
    (magic,) = struct.unpack(">I", head[:4].ljust(4, b"\0"))
    if magic != _IMAGES_MAGIC:
        raise InputError(
            f"{name}: begins with {magic:#010x}; an IDX file of uint8 images begins with "
            f"{_IMAGES_MAGIC:#010x}: give one"
        )
    if len(head) < _HEADER_BYTES:
        raise InputError(f"{name}: truncated: {len(head)} bytes are no IDX file: fetch it again")
    rows, height, width = struct.unpack(">III", head[4:])
    return rows, height, width
