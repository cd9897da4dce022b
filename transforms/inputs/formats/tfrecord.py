"""TFRecord of tf.Example, as TensorFlow Datasets has EMNIST; read without TensorFlow.

The format: records of length (uint64), its CRC-32C (uint32), data, their CRC-32C; the data are a
protocol buffer (tensorflow/core/example/example.proto).
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import ChangedError, InputError, first_line
from transforms.images import IMAGE_COLUMN, LABEL_COLUMN
from transforms.inputs.content import DAMAGE, Content, Stream, scratch_content
from transforms.inputs.dataset import CHARACTERS
from transforms.inputs.formats import parquet
from transforms.inputs.formats.part import Part, Wanted, is_transposed
from transforms.inputs.names import is_of_emnist, kind_of
from transforms.inputs.parts import changed
from transforms.inputs.readers.decode import MAX_ENCODED_BYTES
from transforms.storage.files import find_files
from transforms.storage.local import local_errors
from transforms.storage.scratch import check_left

NAME = "TFRecord"

_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_MASK = 0xA282EAD8
"""What is added to a CRC-32C, once it is rotated by 15 bits (tensorflow/core/lib/hash/crc32c.h)."""
_POLYNOMIAL = 0x82F63B78
_ROWS_AT_ONCE = 1024
_SCHEMA = pa.schema(
    [
        (IMAGE_COLUMN, pa.struct([("bytes", pa.binary())])),
        (LABEL_COLUMN, pa.int64()),
    ]
)


def recognizes(content: Content) -> bool:
    """Whether the content begins with the length of a record and its checksum."""
    head = content.head[:_HEADER_BYTES]
    return len(head) == _HEADER_BYTES and _is_header(head)


def describe(content: Content, wanted: Wanted) -> list[Part]:
    """The images; how many there are is known at the end, so they are unpacked to Parquet."""
    path = wanted.scratch.new_path()
    try:
        with (
            local_errors("written", path),
            pq.ParquetWriter(path, _SCHEMA, compression="none") as writer,
        ):
            for table in _tables(content, wanted):
                writer.write_table(table)
    except ChangedError as error:
        raise changed(content.name) from error
    except DAMAGE as error:
        raise InputError(
            f"{content.name}: cannot be read as TFRecord of images ({first_line(error)}): fetch it "
            "again"
        ) from error
    (found,) = find_files(path)
    (part,) = parquet.describe(scratch_content(content.name, found), wanted)
    transposed = is_transposed(wanted.orientation, stored_by_nist=is_of_emnist(content.name))
    return [
        part._replace(
            segment=part.segment._replace(transposed=transposed),
            characters=CHARACTERS.get(kind_of(content.name) or "", {}),
            labels_in=f"feature {LABEL_COLUMN!r}",
        )
    ]


def _tables(content: Content, wanted: Wanted) -> Iterator[pa.Table]:
    """The examples as Hugging Face would have them in Parquet, some at once."""
    left = wanted.max_unpacked_bytes
    images: list[dict[str, bytes]] = []
    labels: list[int | None] = []
    with content.stream() as stream:
        for record in _records(stream):
            image, label = _image_and_label(record)
            left -= len(image)
            check_left(content.name, left, wanted.max_unpacked_bytes)
            images.append({"bytes": image})
            labels.append(label)
            if len(images) == _ROWS_AT_ONCE:
                yield pa.table([images, labels], schema=_SCHEMA)
                images, labels = [], []
    yield pa.table([images, labels], schema=_SCHEMA)


def _records(stream: Stream) -> Iterator[bytes]:
    while header := stream.read(_HEADER_BYTES):
        size = int.from_bytes(header[:8], "little")
        if len(header) < _HEADER_BYTES or not _is_header(header) or size > MAX_ENCODED_BYTES:
            raise ValueError("a record has no length, or a wrong one")
        record = stream.read(size + _FOOTER_BYTES)
        if len(record) < size + _FOOTER_BYTES:
            raise EOFError("it ends early")
        yield record[:size]


def _is_header(header: bytes) -> bool:
    return _masked_crc(header[:8]) == int.from_bytes(header[8:], "little")


def _masked_crc(content: bytes) -> int:
    """CRC-32C, as records have it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _image_and_label(record: bytes) -> tuple[bytes, int | None]:
    example = _example_type()()
    try:
        example.ParseFromString(record)
    except Exception as error:  # protobuf's own kinds, which differ between its versions.
        raise ValueError("a record is not a tf.Example") from error
    features = example.features.feature
    images = features[IMAGE_COLUMN].bytes_list.value
    labels = features[LABEL_COLUMN].int64_list.value
    if len(images) != 1:
        raise ValueError(f"an example has {len(images)} images in feature {IMAGE_COLUMN!r}")
    return images[0], labels[0] if labels else None


@lru_cache
def _example_type() -> Any:
    """The class of tf.Example, of the fields that are read."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="emnist_latents.proto", package="emnist_latents", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto

    def add(message: Any, name: str, number: int, kind: int, of: str = "", *, many: bool) -> None:
        label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
        type_name = f".emnist_latents.{of}" if of else None
        message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name)

    add(file.message_type.add(name="BytesList"), "value", 1, kinds.TYPE_BYTES, many=True)
    add(file.message_type.add(name="Int64List"), "value", 1, kinds.TYPE_INT64, many=True)
    feature = file.message_type.add(name="Feature")
    add(feature, "bytes_list", 1, kinds.TYPE_MESSAGE, "BytesList", many=False)
    add(feature, "int64_list", 3, kinds.TYPE_MESSAGE, "Int64List", many=False)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, kinds.TYPE_STRING, many=False)
    add(entry, "value", 2, kinds.TYPE_MESSAGE, "Feature", many=False)
    add(features, "feature", 1, kinds.TYPE_MESSAGE, "Features.FeatureEntry", many=True)
    example = file.message_type.add(name="Example")
    add(example, "features", 1, kinds.TYPE_MESSAGE, "Features", many=False)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("emnist_latents.Example"))
