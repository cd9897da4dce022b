"""The forms in which people have images: each made by hand, with what it is to give.

`python -m tests.documentation.inputs_page` writes the table of docs/inputs.md from it.
"""

import csv
import gzip
import io
import json
import lzma
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
from PIL import Image

from tests.support.nist import idx_images, idx_labels, matlab_zip

COUNT = 12
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (COUNT, 28, 28), np.uint8)
LABELS = np.arange(COUNT) % 5
STORED = IMAGES.transpose(0, 2, 1)
"""As NIST stores them."""
FLAT = IMAGES.reshape(COUNT, 784)
LETTERS = np.array(["a", "b", "c", "d", "e"])[LABELS]
TRAIN = 8
"""The first images are the split train, where a form has two."""

Make = Callable[[Path], str]
"""Makes the form in a folder; gives the name of the file or folder there."""


class Form(NamedTuple):
    """A form. given: by the row; refused: what the line says instead of reading it.

    images, labels: what comes out, None for no labels. classes: the characters that come with it.
    flags: of files_dataset.
    """

    group: str
    name: str
    make: Make
    images: np.ndarray = IMAGES
    labels: np.ndarray | None = None
    classes: dict[int, str] | None = None
    flags: Mapping[str, Any] = {}
    refused: str = ""


def file(name: str, content: bytes) -> Make:
    def make(folder: Path) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name

    return make


def files(shown: str, contents: Mapping[str, bytes]) -> Make:
    def make(folder: Path) -> str:
        for name, content in contents.items():
            file(name, content)(folder)
        return shown

    return make


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npz(*, packed: bool = True, **arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(content, **arrays)
    return content.getvalue()


def zipped(contents: Mapping[str, bytes], way: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", way) as archive:
        for name, part in contents.items():
            archive.writestr(name, part)
    return content.getvalue()


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


def picture(image: np.ndarray, kind: str = "PNG", **settings: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind, **settings)
    return content.getvalue()


def parquet(metadata: Mapping[str, str] | None = None, **columns: Any) -> bytes:
    content = io.BytesIO()
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, content, row_group_size=5)
    return content.getvalue()


def mat(*, packed: bool, **arrays: Any) -> bytes:
    content = io.BytesIO()
    scipy.io.savemat(content, arrays, do_compression=packed)
    return content.getvalue()


def emnist_mat(*, packed: bool) -> bytes:
    pixels = STORED.reshape(COUNT, 784)
    splits = {
        split: {
            "images": pixels[rows],
            "labels": LABELS[rows].reshape(-1, 1).astype(np.uint8),
            "writers": np.zeros((len(pixels[rows]), 1), np.uint16),
        }
        for split, rows in (("train", slice(TRAIN)), ("test", slice(TRAIN, None)))
    }
    return mat(packed=packed, dataset={**splits, "mapping": np.array([[0, 48]], np.uint8)})


def csv_text(
    *,
    header: bool,
    label: str = "first",
    mark: str = ",",
    values: np.ndarray = FLAT,
    names: Any = LABELS,
) -> bytes:
    content = io.StringIO()
    writer = csv.writer(content, delimiter=mark)
    pixels = [f"pixel{number}" for number in range(784)]

    def row(pixel_values: list[Any], name: Any) -> list[Any]:
        first, last = label == "first", label == "last"
        return [name] * first + pixel_values + [name] * last

    if header:
        writer.writerow(row(pixels, "class" if label == "last" else "label"))
    for pixel_values, name in zip(values.tolist(), names, strict=True):
        writer.writerow(row(pixel_values, name))
    return content.getvalue().encode()


def tfrecord() -> bytes:
    """Records as the format's description has them, with a CRC-32C of our own."""
    return b"".join(
        _record(_example(picture(image), int(label)))
        for image, label in zip(STORED, LABELS, strict=True)
    )


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _crc(length)) + data + struct.pack("<I", _crc(data))


def _crc(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _example(image: bytes, label: int) -> bytes:
    """The bytes of the protocol buffer, field by field."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size >= 128:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    def feature(name: bytes, kind: int, values: bytes) -> bytes:
        return field(1, field(1, name) + field(2, field(kind, values)))

    labels = field(1, bytes([label]))
    return field(1, feature(b"image", 1, field(1, image)) + feature(b"label", 3, labels))


BY_CLASS = np.argsort(LABELS, kind="stable")
CLASSES = dict(enumerate("abcde"))


def folder_of(ending: str, kind: str, **settings: Any) -> dict[str, bytes]:
    return {
        f"pictures/{letter}/{number:04d}.{ending}": picture(image, kind, **settings)
        for number, (image, letter) in enumerate(zip(IMAGES, LETTERS, strict=True))
    }


def idx_forms() -> Iterator[Form]:
    group = "IDX"
    raw = idx_images(IMAGES)
    labels = idx_labels(LABELS)
    yield Form(group, "raw", file("train-images-idx3-ubyte", raw))
    yield Form(group, "`train-images.idx3-ubyte`", file("train-images.idx3-ubyte", raw))
    for way, pack in (("gz", gzip.compress), ("xz", lzma.compress), ("zst", zstd)):
        yield Form(group, f"in .{way}", file(f"train-images-idx3-ubyte.{way}", pack(raw)))
    yield Form(
        group,
        "NIST's, with labels next to it",
        files(
            "emnist-digits-train-images-idx3-ubyte.gz",
            {
                "emnist-digits-train-images-idx3-ubyte.gz": gzip.compress(idx_images(STORED)),
                "emnist-digits-train-labels-idx1-ubyte.gz": gzip.compress(labels),
            },
        ),
        labels=LABELS,
    )
    yield Form(
        group,
        "torchvision's folder EMNIST/raw",
        files(
            "EMNIST/raw",
            {
                "EMNIST/raw/emnist-digits-train-images-idx3-ubyte": idx_images(STORED[:TRAIN]),
                "EMNIST/raw/emnist-digits-train-labels-idx1-ubyte": idx_labels(LABELS[:TRAIN]),
                "EMNIST/raw/emnist-digits-test-images-idx3-ubyte": idx_images(STORED[TRAIN:]),
                "EMNIST/raw/emnist-digits-test-labels-idx1-ubyte": idx_labels(LABELS[TRAIN:]),
            },
        ),
        labels=LABELS,
    )
    yield Form(group, "of other sizes", file("f", idx_images(IMAGES[:, :20])), refused="--fit")
    yield Form(group, "of labels alone", file("f", labels), refused="holds labels, not images")
    yield Form(group, "cut off", file("f", raw[:-1]), refused="truncated")
    yield Form(group, "cut off, in .gz", file("f", gzip.compress(raw)[:-9]), refused="truncated")
    yield Form(group, "of floats", file("f", b"\0\0\x0d\3" + raw[4:]), refused="begins with")


def npy_forms() -> Iterator[Form]:
    group = ".npy"
    shapes = {
        "(n, 28, 28)": IMAGES,
        "(n, 28, 28, 1)": IMAGES[..., None],
        "(n, 1, 28, 28)": IMAGES[:, None],
        "(n, 784)": FLAT,
        "(28, 28, n)": np.ascontiguousarray(IMAGES.transpose(1, 2, 0)),
    }
    for shape, array in shapes.items():
        yield Form(group, shape, file("f.npy", npy(array)))
        yield Form(group, f"{shape}, Fortran order", file("f.npy", npy(np.asfortranarray(array))))
    for kind in ("<i2", ">i2", "<u2", "<i4", ">i4", "<i8", ">u8"):
        yield Form(group, f"integers, `{kind}`", file("f.npy", npy(IMAGES.astype(kind))))
    for kind in ("<f2", "<f4", ">f4", "<f8"):
        yield Form(group, f"floats to 255, `{kind}`", file("f.npy", npy(IMAGES.astype(kind))))
        ones = (IMAGES.astype(np.float64) / 255).astype(kind)
        yield Form(group, f"floats to 1, `{kind}`", file("f.npy", npy(ones)))
    ink = IMAGES > 127
    yield Form(group, "bool", file("f.npy", npy(ink)), images=ink * np.uint8(255))
    for way, pack in (("gz", gzip.compress), ("xz", lzma.compress), ("zst", zstd)):
        yield Form(group, f"in .{way}", file(f"f.npy.{way}", pack(npy(IMAGES))))
    fortran = gzip.compress(npy(np.asfortranarray(IMAGES)))
    yield Form(group, "Fortran order, in .gz", file("f.npy.gz", fortran))
    yield Form(group, "floats from -1 to 1", file("f", npy(IMAGES / 127.5 - 1)), refused="run from")
    yield Form(group, "integers above 255", file("f", npy(IMAGES.astype("i2") * 9)), refused="run")
    yield Form(group, "of 3 colours", file("f", npy(np.stack([IMAGES] * 3, 3))), refused="shape")
    yield Form(group, "complex", file("f", npy(IMAGES.astype(complex))), refused="not numbers")
    pickled = npy(np.array([{"a": 1}], dtype=object))
    yield Form(group, "of pickled objects", file("f", pickled), refused="never loaded")


def npz_forms() -> Iterator[Form]:
    group = ".npz"
    halves = {
        "x_train": IMAGES[:TRAIN],
        "y_train": LABELS[:TRAIN],
        "x_test": IMAGES[TRAIN:],
        "y_test": LABELS[TRAIN:],
    }
    for packed in (False, True):
        how = "compressed" if packed else "not compressed"
        content = npz(packed=packed, **halves)
        yield Form(
            group, f"`x_train`, `y_train`, ..., {how}", file("f.npz", content), labels=LABELS
        )
        yield Form(group, f"`arr_0`, {how}", file("f.npz", npz(packed=packed, arr_0=IMAGES)))
    yield Form(
        group,
        "`--member='x_test'`",
        file("f.npz", npz(**halves)),
        images=IMAGES[TRAIN:],
        flags={"member": "x_test"},
    )
    both = npz(arr_0=IMAGES, arr_1=LABELS)
    yield Form(group, "`arr_0`, `arr_1`", file("f.npz", both), labels=LABELS)
    texts = npz(images=IMAGES, labels=LETTERS)
    yield Form(group, "labels as text", file("f.npz", texts), labels=LABELS, classes=CLASSES)
    fewer = npz(x=IMAGES, y=LABELS[:-1])
    yield Form(group, "fewer labels than images", file("f.npz", fewer), refused="save as many")
    yield Form(group, "no images", file("f.npz", npz(a=LABELS)), refused="holds images")


def mat_forms() -> Iterator[Form]:
    group = ".mat"
    for packed in (False, True):
        how = "compressed" if packed else "not compressed"
        content = emnist_mat(packed=packed)
        name = "emnist-digits.mat"
        yield Form(group, f"`emnist-*.mat`, {how}", file(name, content), labels=LABELS)
        side = mat(packed=packed, images=IMAGES.transpose(1, 2, 0), labels=LABELS.astype(float))
        yield Form(group, f"28x28xn, {how}", file("f.mat", side), labels=LABELS)
    floats = mat(packed=True, X=IMAGES / 255, y=LABELS.reshape(-1, 1))
    yield Form(group, "nx28x28 of doubles to 1", file("f.mat", floats), labels=LABELS)
    yield Form(group, "version 7.3", file("f.mat", b"MATLAB 7.3 MAT-file"), refused="-v7")
    yield Form(group, "cut off", file("f.mat", emnist_mat(packed=True)[:900]), refused="fetch it")


def zip_forms() -> Iterator[Form]:
    group = "zip"
    nist = {}
    for name in ("digits", "letters"):
        for split, rows in (("train", slice(TRAIN)), ("test", slice(TRAIN, None))):
            start = f"gzip/emnist-{name}-{split}"
            nist[f"{start}-images-idx3-ubyte.gz"] = gzip.compress(idx_images(STORED[rows]))
            nist[f"{start}-labels-idx1-ubyte.gz"] = gzip.compress(idx_labels(LABELS[rows]))
        nist[f"gzip/emnist-{name}-mapping.txt"] = b"0 48\n"
    content = zipped(nist)
    for member, rows in (("*digits*", slice(None)), ("*digits-test*", slice(TRAIN, None))):
        yield Form(
            group,
            f"NIST's `gzip.zip`, `--member='{member}'`",
            file("gzip.zip", content),
            images=IMAGES[rows],
            labels=LABELS[rows],
            flags={"member": member},
        )
    stored = zipped(nist, zipfile.ZIP_STORED)
    yield Form(
        group,
        "NIST's `gzip.zip`, packed again without compression",
        file("gzip.zip", stored),
        labels=LABELS,
        flags={"member": "*digits*"},
    )
    within = zipped({"inner.zip": zipped({"a": idx_images(IMAGES)})}, zipfile.ZIP_STORED)
    yield Form(group, "a zip in a zip", file("f.zip", within))
    yield Form(group, "NIST's `gzip.zip`, all", file("gzip.zip", content), refused="--member")

    def matlab(folder: Path) -> str:
        train, test = (IMAGES[:TRAIN], LABELS[:TRAIN]), (IMAGES[TRAIN:], LABELS[TRAIN:])
        matlab_zip(folder / "matlab.zip", {"digits": {"train": train, "test": test}})
        return "matlab.zip"

    flags = {"member": "*digits*"}
    name = "NIST's `matlab.zip`, `--member='*digits*'`"
    yield Form(group, name, matlab, labels=LABELS, flags=flags)
    for way, how in ((zipfile.ZIP_STORED, "stored"), (zipfile.ZIP_DEFLATED, "deflated")):
        yield Form(group, f"of IDX, {how}", file("f.zip", zipped({"a": idx_images(IMAGES)}, way)))
        text = csv_text(header=True)
        yield Form(
            group, f"of CSV, {how}", file("f.zip", zipped({"a.csv": text}, way)), labels=LABELS
        )
        rows = parquet(image=FLAT.tolist(), label=LABELS)
        yield Form(
            group, f"of Parquet, {how}", file("f.zip", zipped({"a": rows}, way)), labels=LABELS
        )
    pictures = zipped(folder_of("png", "PNG"))
    yield Form(
        group,
        "of pictures in class folders",
        file("f.zip", pictures),
        images=IMAGES[BY_CLASS],
        labels=LABELS[BY_CLASS],
        classes=CLASSES,
    )
    yield Form(group, "of nothing", file("f.zip", zipped({})), refused="names nothing")
    yield Form(group, "cut off", file("f.zip", content[:-90]), refused="the zip is truncated")


def csv_forms() -> Iterator[Form]:
    group = "CSV"
    stored = csv_text(header=False, values=STORED.reshape(COUNT, 784))
    name = "emnist-balanced-train.csv"
    yield Form(group, f"Kaggle's `{name}`", file(name, stored), labels=LABELS)
    first = csv_text(header=True)
    yield Form(group, "MNIST's, with a header", file("train.csv", first), labels=LABELS)
    bare = csv_text(header=True, label="none")
    yield Form(group, "MNIST's of Kaggle, without labels", file("test.csv", bare))
    yield Form(group, "no header, no labels", file("f", csv_text(header=False, label="none")))
    last = csv_text(header=True, label="last")
    yield Form(group, "OpenML's, `class` last", file("mnist_784.csv", last), labels=LABELS)
    for mark, what in ((";", "semicolons"), ("\t", "tabs")):
        text = csv_text(header=True, mark=mark)
        yield Form(group, f"with {what}", file("f.csv", text), labels=LABELS)
    floats = csv_text(header=True, values=FLAT / 255)
    yield Form(group, "floats to 1", file("f.csv", floats), labels=LABELS)
    letters = csv_text(header=False, names=LETTERS)
    yield Form(group, "labels as text", file("f.csv", letters), labels=LABELS, classes=CLASSES)
    yield Form(group, "in .gz", file("f.csv.gz", gzip.compress(first)), labels=LABELS)
    two = csv_text(header=True, label="first").replace(b"label", b"writer")
    yield Form(group, "a column nobody knows", file("f.csv", two), refused="one of labels")
    yield Form(group, "with a row cut off", file("f.csv", bare[:-100]), refused="save it again")


def picture_forms() -> Iterator[Form]:
    group = "pictures"
    lossless = {"webp": {"lossless": True}}
    kinds = {"png": "PNG", "bmp": "BMP", "tiff": "TIFF", "gif": "GIF", "webp": "WEBP"}
    for ending, kind in kinds.items():
        contents = folder_of(ending, kind, **lossless.get(ending, {}))
        yield Form(
            group,
            f"a folder of {kind}, class folders",
            files("pictures", contents),
            images=IMAGES[BY_CLASS],
            labels=LABELS[BY_CLASS],
            classes=CLASSES,
        )
    grey = np.full_like(IMAGES, np.arange(COUNT, dtype=np.uint8).reshape(-1, 1, 1) * 20)
    jpegs = {f"d/{n:02d}.jpg": picture(image, "JPEG") for n, image in enumerate(grey)}
    yield Form(group, "a folder of JPEG, no class folders", files("d", jpegs), images=grey)
    splits = {
        f"d/{'train' if n < TRAIN else 'test'}/{label}/{n:02d}.png": picture(image)
        for n, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True))
    }
    order = [*np.argsort(LABELS[:TRAIN], kind="stable")]
    order += [TRAIN + n for n in np.argsort(LABELS[TRAIN:], kind="stable")]
    yield Form(
        group,
        "train and test, classes that are numbers",
        files("d", splits),
        images=IMAGES[order],
        labels=LABELS[order],
    )
    mixed = {"d/a/1.png": picture(IMAGES[0]), "d/2.png": picture(IMAGES[1])}
    yield Form(group, "some in class folders", files("d", mixed), refused="put it into one")


def parquet_forms() -> Iterator[Form]:
    group = "Parquet"
    pngs = [picture(image) for image in IMAGES]
    structs = [{"bytes": png, "path": None} for png in pngs]
    names = {"info": {"features": {"label": {"names": list("abcde"), "_type": "ClassLabel"}}}}
    hf = {"huggingface": json.dumps(names)}
    yield Form(
        group,
        "Hugging Face: structs, ClassLabel",
        file("f", parquet(hf, image=structs, label=LABELS)),
        labels=LABELS,
        classes=CLASSES,
    )
    flat = pa.array(FLAT.reshape(-1))
    rows = pa.FixedSizeListArray.from_arrays(flat, 28)
    images = {
        "PNG as binary": pa.array(pngs),
        "PNG as large binary": pa.array(pngs, pa.large_binary()),
        "784 bytes, fixed": pa.array([image.tobytes() for image in IMAGES], pa.binary(784)),
        "784 bytes": pa.array([image.tobytes() for image in IMAGES]),
        "lists of lists (Array2D)": pa.array(IMAGES.tolist()),
        "lists of 784 integers": pa.array(FLAT.tolist()),
        "large lists": pa.array(FLAT.tolist(), pa.large_list(pa.int32())),
        "lists of floats to 1": pa.array((FLAT / 255).tolist()),
        "lists of floats to 255": pa.array(FLAT.astype(float).tolist()),
        "fixed-size lists": pa.FixedSizeListArray.from_arrays(flat, 784),
        "fixed-size lists of those": pa.FixedSizeListArray.from_arrays(rows, 28),
        "tensors (Arrow)": pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES),
    }
    for name, column in images.items():
        yield Form(group, name, file("f", parquet(image=column, label=LABELS)), labels=LABELS)
    frame = pd.DataFrame(FLAT, columns=[f"pixel{number}" for number in range(784)])
    frame.insert(0, "label", LABELS)
    content = io.BytesIO()
    frame.to_parquet(content)
    yield Form(group, "pandas: 784 columns", file("f", content.getvalue()), labels=LABELS)
    by_name = frame[sorted(frame.columns)]
    content = io.BytesIO()
    by_name.to_parquet(content)
    yield Form(group, "784 columns sorted as text", file("f", content.getvalue()), labels=LABELS)
    labels = {
        "text": (pa.array(LETTERS.tolist()), CLASSES),
        "text of numbers": (pa.array(LABELS.astype(str).tolist()), None),
        "a dictionary (pandas' category)": (
            pa.array(LETTERS.tolist()).dictionary_encode(),
            CLASSES,
        ),
        "a dictionary of numbers": (pa.array(LABELS).dictionary_encode(), None),
        "whole floats": (pa.array(LABELS.astype(float)), None),
        "int8": (pa.array(LABELS, pa.int8()), None),
        "above 255": (pa.array(LABELS + 60_000), None),
    }
    for name, (column, classes) in labels.items():
        given = LABELS + 60_000 if name == "above 255" else LABELS
        content_ = parquet(image=pngs, target=column)
        yield Form(group, f"labels as {name}", file("f", content_), labels=given, classes=classes)
    yield Form(group, "in .gz", file("f.gz", gzip.compress(parquet(image=pngs))))
    text = parquet(text=["a", "b"], label=[0, 1])
    yield Form(group, "no images", file("f", text), refused="no column holds images")
    two = parquet(a=pngs, b=pngs)
    yield Form(group, "two columns of images", file("f", two), refused="call that of the images")
    part = parquet(image=pngs, label=LABELS + 0.5)
    yield Form(group, "labels that are not whole", file("f", part), refused="whole numbers")


def tfrecord_forms() -> Iterator[Form]:
    content = tfrecord()
    name = "emnist-train.tfrecord-00000-of-00001"
    yield Form("TFRecord", "TensorFlow Datasets' emnist", file(name, content), labels=LABELS)
    packed = gzip.compress(content)
    yield Form("TFRecord", "in .gz", file(f"{name}.gz", packed), labels=LABELS)
    yield Form("TFRecord", "cut off", file("f", content[:-9]), refused="fetch it again")


def other_forms() -> Iterator[Form]:
    yield Form("others", "text", file("f", b"hello"), refused="unknown format")
    yield Form("others", "nothing", file("f", b""), refused="unknown format")
    bomb = gzip.compress(b"PAR1" + bytes(1 << 20))
    flags = {"max_unpacked_bytes": 1000}
    yield Form("others", "a bomb", file("f", bomb), flags=flags, refused="--max_unpacked_bytes")


FORMS: tuple[Form, ...] = (
    *idx_forms(),
    *npy_forms(),
    *npz_forms(),
    *mat_forms(),
    *zip_forms(),
    *csv_forms(),
    *picture_forms(),
    *parquet_forms(),
    *tfrecord_forms(),
    *other_forms(),
)
