"""NumPy's .npz: a zip of .npy files."""

from collections.abc import Sequence

from transforms.inputs.content import Content
from transforms.inputs.formats import npy
from transforms.inputs.formats.named import NamedArray, parts_of
from transforms.inputs.formats.part import Part, Wanted, is_transposed

NAME = ".npz"
_END = ".npy"


def is_npz(members: Sequence[Content]) -> bool:
    """Whether a zip of these is one."""
    return bool(members) and all(
        member.name.endswith(_END) and npy.recognizes(member) for member in members
    )


def describe_members(content: Content, members: Sequence[Content], wanted: Wanted) -> list[Part]:
    """The arrays of images in it, with the labels that are called alike."""
    arrays = [_array(member, member.name[len(content.name) + 1 :]) for member in members]
    transposed = is_transposed(wanted.orientation, stored_by_nist=False)
    return parts_of(content.name, arrays, wanted, transposed=transposed)


def _array(member: Content, name: str) -> NamedArray:
    header = npy.header_of(member)
    return NamedArray(
        name.removesuffix(_END), header.shape, header.dtype, header.fortran, member, header.offset
    )
