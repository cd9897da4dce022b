"""The catalogue of errors: every line that a person can be told, with the input that gives it.

CATALOGUE is run by tests/beam_job/test_errors.py, whose last tests find what is missing here.
ELSEWHERE holds what needs a fault, a server or a cluster, with the test that sees it.
"""

import gzip
import io
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pyarrow as pa
from PIL import Image

from beam_job.datasets.selection import EMNIST_NAMES
from tests.conftest import PRETRAINED
from tests.support.error_inputs import (
    IDX,
    IMAGES,
    RUN_FILE,
    Prepare,
    altered,
    at,
    encoded,
    filled,
    functional,
    input_and,
    int8_of_another_shape,
    link_to_itself,
    manifest,
    model,
    network,
    nothing,
    npy,
    parquet,
    pictures,
    png,
    removed,
    replaced,
    sequential,
    small_encoder,
    staged,
    two_outputs,
    with_lambda,
)
from tests.support.keras_files import zipped
from tests.support.nist import idx_images, idx_labels, matlab_zip


class Case(NamedTuple):
    """An error. line: all that is said, without `error: `; … is any text. argv: the command.

    It runs in a folder of its own with what `prepare` makes, and with a run directory `run` where
    it names one. inner: what the line passes on from another place that raises.
    """

    line: str
    argv: str
    prepare: Prepare = nothing
    inner: str | None = None
    status: int = 2
    long: bool = False


def counts(run: dict[str, Any]) -> dict[str, int]:
    """What a manifest counts of its split."""
    (found,) = run["dataset"]["splits"].values()
    return dict(found)


def no_weights() -> bytes:
    """An HDF5 file with nothing in it."""
    content = io.BytesIO()
    h5py.File(content, "w").close()
    return content.getvalue()


class Seen(NamedTuple):
    """An error that another test gives. words: of the line, that are in the test too."""

    line: str
    test: str
    words: str


def flag(said: str, argv: str, command: str = "compress") -> Case:
    """A flag whose value is wrong, which argparse tells."""
    inner = said.partition(": ")[2]
    return Case(f"{said}; see `python -m beam_job {command} --help`", argv, input_and(), inner)


def of_input(said: str, content: bytes, inner: str | None = None, *, long: bool = False) -> Case:
    """A file of images that compress refuses."""
    return Case(said, "compress --input=f", at({"f": content}), inner, long=long)


def of_labels(said: str, content: bytes) -> Case:
    return Case(said, "compress --input=f --labels=g", input_and(at({"g": content})))


def of_model(said: str, flags: str, *steps: Prepare, **how: Any) -> Case:
    return Case(said, f"compress --input=f {flags}", input_and(*steps), **how)


def with_mnist(mat: bytes) -> Prepare:
    """NIST's archive in the cache, with this for EMNIST MNIST."""
    six = {f"matlab/emnist-{name}.mat": b"" for name in EMNIST_NAMES}
    archive = zipped({**six, "matlab/emnist-mnist.mat": mat})
    return at({"keras/datasets/emnist_matlab.npz": archive})


def with_a_label_too_few() -> None:
    path = Path("keras/datasets/emnist_matlab.npz")
    path.parent.mkdir(parents=True)
    images = (IMAGES, np.arange(5))
    matlab_zip(path, {"mnist": {"train": images, "test": images}})


def with_a_file_list(content: bytes) -> Prepare:
    """A run whose manifest names this as the list of its files, or `x` where it is `other`."""
    named = b"x" if content == b"other" else content
    facts = {"bytes": len(named), "sha256": sha256(named).hexdigest()}
    listed = {"path": "files.parquet", **facts}
    return input_and(
        manifest(lambda run: run["files"].append(listed)), at({"run/files.parquet": content})
    )


CACHE = "keras/datasets/emnist_matlab.npz"
REMOVE = f"remove {CACHE} to have it fetched again, or put matlab.zip there"
MANY = idx_images(np.random.default_rng(5).integers(0, 256, (40, 28, 28)))
ENCODER = PRETRAINED / "encoder.keras"
EMPTY_KERAS = {"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b""}

USE = [
    Case("--quiet comes before the command: put flags behind it", "--quiet compress"),
    Case(
        "argument COMMAND: invalid choice: 'nosuch' (choose from …); see `python -m beam_job "
        "--help`",
        "nosuch",
    ),
    Case(
        "there is no flag --nosuch; see `python -m beam_job stage --help`",
        "stage --dataset=sample --nosuch",
    ),
    Case(
        "give either --dataset=NAME or --input=FILE_OR_GLOB, one of the two; see `python -m "
        "beam_job compress --help`",
        "compress",
    ),
    Case(
        "give either --dataset=NAME or --input=FILE_OR_GLOB, one of the two; see `python -m "
        "beam_job train --help`",
        "train --input=f --dataset=sample",
    ),
    Case(
        "--labels goes with --input: leave it out, a --dataset knows its own",
        "compress --dataset=sample --labels=g",
    ),
    Case(
        "--precision=int8 goes with --engine=litert: ncnn has float32 alone",
        "compress --input=f --precision=int8 --engine=ncnn",
    ),
    Case(
        "--engine=litert goes with --precision=int8: in float32 ncnn is faster",
        "compress --input=f --engine=litert",
    ),
    Case(
        "--latent_bits goes with --latent_dtype=int8: other types keep all bits",
        "compress --input=f --latent_bits=5",
    ),
    Case(
        "--parquet=compatible goes with --latent_dtype=float32 or int8: Spark, BigQuery and "
        "fastparquet read no float16",
        "compress --input=f --latent_dtype=float16 --parquet=compatible",
    ),
    Case(
        "--labels goes with --originals=FILE_OR_GLOB: give it too",
        "reconstruct --input=run --labels=g",
    ),
    Case(
        "--labels goes with --against=FILE_OR_GLOB: give it too",
        "verify --input=run --labels=g",
    ),
    flag(
        "argument --dataset: there is no dataset 'nosuch': give one of sample, balanced, byclass, "
        "bymerge, letters, digits, mnist",
        "compress --dataset=nosuch",
    ),
    flag(
        "argument --latent_bits: '3' is not a whole number from 4 to 8",
        "compress --input=f --latent_dtype=int8 --latent_bits=3",
    ),
    flag(
        "argument --shard_size: '0' is not a whole number of at least 1",
        "compress --input=f --shard_size=0",
    ),
    flag(
        "argument --batch_size: '-1' is not a whole number of at least 1",
        "compress --input=f --batch_size=-1",
    ),
    flag(
        "argument --latent_dtype: invalid choice: 'int4' (choose from …)",
        "compress --input=f --latent_dtype=int4",
    ),
    flag("argument --output: is empty: give a path", "compress --input=f --output="),
    flag(
        "argument --output: 'run?' has one of * ? [ in it: give another folder",
        "compress --input=f --output=run?",
    ),
    flag(
        "argument --data_dir: 'd[1]' has one of * ? [ in it: give another folder",
        "compress --input=f --data_dir=d[1]",
    ),
    flag(r"argument --input: 'f\udcff' is no Unicode text: rename it", "compress --input=f\udcff"),
    flag(
        "argument --learning_rate: '0' is not a number above 0, at most 1",
        "train --input=f --learning_rate=0",
        "train",
    ),
    flag(
        "argument --latent_noise: 'x' is not a number from 0 to 1",
        "train --input=f --latent_noise=x",
        "train",
    ),
    Case(
        "--output is given twice, and only one would count: give it once",
        "compress --input=f --output=a --output=b",
    ),
    Case(
        "--runner is given twice, and only one would count: give it once",
        "compress --input=f --runner=FnApiRunner --runner=FlinkRunner",
    ),
    flag(
        "argument --originals: is empty: give a path",
        "reconstruct --input=run --originals=",
        "reconstruct",
    ),
    Case(
        "there is no flag --shard_sise (did you mean --shard_size?); see `python -m beam_job "
        "compress --help`",
        "compress --input=f --shard_sise=1",
    ),
    Case(
        "f stands alone: give files by --input, a glob in quotes",
        "compress --input=f f",
        input_and(),
    ),
    Case(
        "argument --direct_num_workers: invalid int value: 'many' (a flag of Beam's): correct it",
        "compress --input=f --direct_num_workers=many",
    ),
    Case(
        "--direct_running_mode=multi_processing: each worker process imports Beam and loads the "
        "model again, which took 1.2 to 1.5 times as long, and one process uses all cores already: "
        "leave it out",
        "compress --input=f --direct_num_workers=2 --direct_running_mode multi_processing",
    ),
    Case(
        "there is no runner Nosuch for this program: give one of FnApiRunner, …",
        "compress --input=f --runner=Nosuch",
    ),
    Case(
        "there is no runner InteractiveRunner for this program: give one of FnApiRunner, …",
        "compress --input=f --runner=InteractiveRunner",
    ),
    Case(
        "--performance_runtime_type_check: Beam mistakes the outputs of a step for each other "
        "there: leave it out",
        "compress --input=f --performance_runtime_type_check",
    ),
    Case(
        "the runner needs other flags (…dill…): give those",
        "compress --input=f --pickle_library=dill",
        input_and(),
    ),
    Case(
        "--no_wait goes with a job that stays when this process ends: FnApiRunner runs in it; give "
        "--runner=DataflowRunner, or a job service by --job_endpoint",
        "compress --input=f --no_wait",
    ),
    Case(
        "--input=f is on this machine, and the workers of DataflowRunner are not: give a place "
        "that "
        "all of them reach (gs://, s3://)",
        "compress --input=f --runner=DataflowRunner",
    ),
    Case(
        "--output=hdfs://b/o: there is no such file system: give a path on this machine, s3:// or "
        "gs://",
        "compress --input=f --output=hdfs://b/o",
    ),
    Case(
        "--input=file:///f: there is no such file system: give a path on this machine, s3:// or "
        "gs://",
        "compress --input=file:///f",
    ),
    Case(
        "--s3_verify is a flag of Beam's own S3, which is not used: leave it out",
        "compress --input=f --s3_verify=1",
        input_and(),
    ),
    Case(
        "--input=s3://b/f: s3:// needs more: pip install 'emnist-latents[aws]'",
        "compress --input=s3://b/f",
        inner="s3:// needs more: pip install 'emnist-latents[aws]'",
    ),
]

LENGTH = "f: {}: 6 images take 4,704 bytes and there are {}: fetch it again"
IMAGE_COLUMN = (
    "give a column 'image' of bytes, of structs with `bytes` (Hugging Face) or of lists of 784 "
    "numbers, or 784 columns"
)
NO_KIND = (
    "f: unknown format (it begins with {}): give one of IDX, .npy, Parquet, .mat, TFRecord, CSV"
)
FILES = [
    Case(
        "--input=nosuch* matches no file: give a file or a glob that does",
        "compress --input=nosuch*",
    ),
    Case(
        "--labels=g matches no file: give a file or a glob that does",
        "compress --input=f --labels=g",
        input_and(),
    ),
    Case(
        "--input=loop cannot be looked up (…): correct the path, or let it be read",
        "compress --input=loop",
        link_to_itself,
    ),
    Case(
        "/dev/null is not a regular file: give a file that can be read twice",
        "compress --input=/dev/null",
    ),
    Case(
        "--input=d is a folder with no file in it: give one that has some",
        "compress --input=d",
        at({"d/.hidden": b""}),
    ),
    Case(
        "--input=d holds documents alone: give files of images",
        "compress --input=d",
        at({"d/README.md": b"", "d/LICENSE": b""}),
    ),
    Case(
        "f.gz: is not f packed, as it unpacks to another length: give one of the two",
        "compress --input=f*",
        input_and(at({"f.gz": gzip.compress(IDX[:-1])})),
    ),
    Case(
        r"f\udcff: its name is no Unicode text: rename it",
        "compress --input=*",
        at({"f\udcff": IDX}),
    ),
    Case(
        "d/split=a[1]/f: its folder says split=a[1]: call a split by letters, digits, spaces, - . "
        "and _",
        "compress --input=d/*/f",
        at({"d/split=a[1]/f": IDX}),
    ),
    of_input(NO_KIND.format("b''"), b""),
    of_input(NO_KIND.format("b'image_id'"), b"image_id,label\n"),
    of_input(
        "f: begins with 0x00000903; an IDX file of uint8 images begins with 0x00000803: give one",
        b"\0\0\x09\x03" + IDX[4:],
    ),
    of_input("f: truncated: 10 bytes are no IDX file: fetch it again", IDX[:10]),
    of_input(LENGTH.format("truncated", "4,703"), IDX[:-1]),
    of_input(LENGTH.format("too long", "4,705"), IDX + b"x"),
    of_input("f: truncated: 4,294,967,295 images take …", IDX[:4] + b"\xff" * 4 + IDX[8:]),
    of_input("--input=f holds no images: give files that hold some", idx_images(IMAGES[:0])),
    of_input(
        "f: its images are 32x32, not 28x28: --fit brings them to EMNIST's size and margin",
        idx_images(np.zeros((2, 32, 32))),
    ),
    of_input(
        "f: holds labels, not images: give the images, labels by --labels", idx_labels(np.arange(6))
    ),
    of_input(LENGTH.format("truncated", "4,695"), gzip.compress(IDX[:-9])),
    of_input("f: too long: more follows 6 images: fetch it again", gzip.compress(IDX + b"x")),
    of_input(
        "f: says that it unpacks to 4,294,967,295 images of 784 bytes, more than "
        "--max_unpacked_bytes=17179869184: raise that if it is right",
        gzip.compress(IDX[:4] + b"\xff" * 4 + IDX[8:]),
    ),
    of_input(
        "f: has image_id 4611686018427387904, which is too large: count from 0",
        staged([2**62]),
    ),
    of_input("f: the gzip is truncated or damaged (…): fetch it again", gzip.compress(IDX)[:-20]),
    of_input(
        "f: unknown format (it begins with b'hello, t'): give one of …",
        gzip.compress(b"hello, this is text"),
    ),
    of_input(
        "f: is of type complex128, not numbers: save pixels from 0 to 255",
        npy(np.zeros((2, 784), complex)),
    ),
    of_input(
        "f: its pixels run from -1.0 to 0.0, and those before from 0 to 1: save all of them as "
        "uint8, from 0 to 255",
        npy(-np.ones((1, 784)) + np.eye(1, 784)),
    ),
    Case(
        "f: unpacks to more than --max_unpacked_bytes=1000: raise that if it is right",
        "compress --input=f --max_unpacked_bytes=1000",
        at({"f": gzip.compress(b"PAR1" + bytes(1 << 20))}),
    ),
    of_input(
        "f: holds pickled objects, which are never loaded: save it as uint8", npy(np.array([{}]))
    ),
    of_input(
        "f: its images are 27x28, not 28x28: --fit brings them to EMNIST's size and margin",
        npy(IMAGES[:, :27]),
    ),
    of_input(
        "f: is of shape (4704,); images are (n, 28, 28), (n, 28, 28, 1), (n, 1, 28, 28), "
        "(28, 28, n) or (n, 784): reshape it",
        npy(IMAGES.reshape(-1)),
    ),
    of_input(LENGTH.format("truncated", "4,699"), npy(IMAGES)[:-5]),
    of_input(
        "f: its .npy header cannot be read (…): save it with numpy.save()",
        b"\x93NUMPY\x01\x00\x05\x00abc",
    ),
    of_input("f: cannot be read as Parquet (…): fetch it again", b"PAR1" + b"x" * 40),
    of_input(f"f: no column holds images, of a (int64): {IMAGE_COLUMN}", parquet(a=[1])),
    of_input(
        f"f: no column holds images, of image (struct<bytes: …>): {IMAGE_COLUMN}",
        parquet(image=[{"bytes": [1, 2], "path": ""}]),
    ),
    of_input(
        "f: column 'image_id' is double: store whole numbers there", staged([0, 1], pa.float64())
    ),
    of_input(
        "f: column 'label' holds 1.5; labels are whole numbers: store them so",
        parquet(image=pictures(png()), label=[1.5]),
    ),
    of_input(
        "f: column 'label' is list<element: int64>: store labels there, as whole numbers or text",
        parquet(image=pictures(png()), label=[[1]]),
    ),
    of_input(
        "f: its labels have more than 65,536 names: give the images classes",
        parquet(
            image=pa.nulls(65_537, pa.binary()), label=[f"of {number}" for number in range(65_537)]
        ),
    ),
    of_input(
        "f: columns a, b could all be the images: call that of the images 'image'",
        parquet(a=[b""], b=[b""]),
    ),
    of_input(
        "f: image_id 1 follows image_id 1: image_ids must rise from row to row, each there once",
        staged([0, 1, 1]),
    ),
    of_input("f: a row has no image_id: give each row one of its own", staged([0, None])),
    of_input(
        "f: column 'label' holds 70000; labels are whole numbers from 0 to 65535 (null or -1: "
        "none)",
        parquet(image=pictures(png()), label=[70_000]),
    ),
    *(
        of_input(
            f"1 image could not be read and --max_rejects=0; the first is f row 1: {reason}; mend "
            "the input, or bear more with --max_rejects",
            parquet(image=pictures(png(), content)),
            reason,
            long=content is not None,
        )
        for content, reason in [
            (None, "there are no bytes"),
            (b"no picture", "is not one of PNG, JPEG, WEBP, BMP, TIFF, GIF"),
            (png()[:48], "is not an image that can be read (…)"),
            (png(32), "is 32x32, not 28x28"),
            (png(mode="RGBA"), "is all transparent"),
            (encoded("TIFF", Image.new("F", (28, 28))), "is of mode F; read are …"),
            (
                encoded("TIFF", Image.new("I", (28, 28), 70_000)),
                "holds values from 70000 to 70000, not of 16 bits",
            ),
            (
                encoded("PNG", Image.new("I;16", (28, 28), 200)),
                "is of 16 bits, and nearly black: its values go up to 200",
            ),
            (
                encoded(
                    "GIF",
                    Image.new("L", (28, 28)),
                    save_all=True,
                    append_images=[Image.new("L", (28, 28), 9)],
                ),
                "holds several pictures",
            ),
        ]
    ),
    Case(
        "1 image could not be read and --max_rejects=0; the first is f row 0: is 5000x1; 4096 "
        "pixels are the most that a side may have; mend the input, or bear more with --max_rejects",
        "compress --input=f --fit",
        at({"f": parquet(image=pictures(encoded("PNG", Image.new("L", (5000, 1)))))}),
        "is 5000x1; 4096 pixels are the most that a side may have",
        long=True,
    ),
    of_input(
        "1 image could not be read and --max_rejects=0; the first is f row 0: a.png has more than "
        "16,777,216 bytes; mend the input, or bear more with --max_rejects",
        zipped({"a.png": bytes((16 << 20) + 1)}),
        "has more than 16,777,216 bytes",
        long=True,
    ),
    of_input(
        "1 image could not be read and --max_rejects=0; the first is f row 0: a.png is damaged "
        "(…); mend the input, or bear more with --max_rejects",
        zipped({"a.png": png()}).replace(b"IHDR", b"IHDr", 1),
        "is damaged (…)",
        long=True,
    ),
    of_input(
        "f: has 786 columns; images are 784, and one of labels: first, or called 'label': save it "
        "so",
        b",".join([b"1"] * 786),
    ),
    of_input("f: cannot be read as CSV (…): save it again", b",".join([b"1"] * 784) + b"\n1,2\n"),
    of_input(
        "f: cannot be read as TFRecord of images (…): fetch it again",
        b"\5" + bytes(7) + bytes.fromhex("ea b2 04 3e".replace(" ", "")) + b"12",
    ),
    of_input("f: is a .mat of version 7.3: save it with -v7", b"MATLAB 7.3 MAT-file"),
    of_input("f: cannot be read as .mat (…): fetch it again", b"MATLAB 5.0 MAT-file"),
    of_input(
        "f: no array in it holds images, of a (3,): give another",
        zipped({"a.npy": npy(np.arange(3))}),
    ),
    of_input(
        "f/x.npy: x holds 6 images, and y 5 labels: save as many of both",
        zipped({"x.npy": npy(IMAGES), "y.npy": npy(np.arange(5))}),
    ),
    of_input(
        "f/x: its labels, y, run from -1 to 4; labels are whole numbers from 0 to 65535: give "
        "other numbers",
        zipped({"x.npy": npy(IMAGES), "y.npy": npy(np.arange(6) - 1)}),
    ),
    of_input(
        "f/y.npy: y is truncated or damaged: fetch it again",
        zipped({"x.npy": npy(IMAGES), "y.npy": npy(np.arange(6))[:-1]}),
    ),
    Case(
        "xb: its labels are numbers, and those of other files are names such as 'a': compress "
        "them apart",
        "compress --input=x*",
        at(
            {
                "xa": parquet(image=pictures(png()), label=["a"]),
                "xb": parquet(image=pictures(png()), label=[1]),
            }
        ),
    ),
    Case(
        "d: some pictures are in class folders, and b.png is not: put it into one",
        "compress --input=d",
        at({"d/a/a.png": png(), "d/b.png": png()}),
    ),
    Case(
        "f: --member=b names nothing in it, of c: give a name or a glob that does",
        "compress --input=f --member=b",
        at({"f": zipped({"c": npy(IMAGES), "b.txt": b""})}),
    ),
    of_input(
        "f: holds several datasets (digits, letters), whose images are partly the same: name one "
        "by --member='*balanced*'",
        zipped({"emnist-digits-images-idx3-ubyte": IDX, "emnist-letters-images-idx3-ubyte": IDX}),
    ),
    Case(
        "--labels=g: f has its labels in a column of its own: leave it out",
        "compress --input=f --labels=g",
        at({"f": staged([0]), "g": idx_labels(np.arange(1))}),
    ),
    Case(
        "xb: begins with image_id 1 of split all, and a file before it goes up to 1: give each "
        "image once, in order",
        "compress --input=x*",
        at({"xa": staged([0, 1]), "xb": staged([1, 2])}),
    ),
    Case(
        "xb: label 0 stands for 'O' here and for '0' in a file before it: compress them apart",
        "compress --input=x*",
        at({"xa": staged([0], character="0"), "xb": staged([1], character="O")}),
    ),
    Case(
        "…a-labels-idx1-ubyte: holds 5 labels, and a-images-idx3-ubyte 6 images: give the labels "
        "of "
        "these images by --labels",
        "compress --input=a-images-idx3-ubyte",
        at({"a-images-idx3-ubyte": IDX, "a-labels-idx1-ubyte": idx_labels(np.arange(5))}),
    ),
    of_labels(
        "g: labels are whole numbers of shape (n,), not float64 (6,): save them so", npy(np.ones(6))
    ),
    of_labels(
        "g: labels run from 65531 to 65536, not 0 to 65535: give other numbers",
        npy(np.arange(6) + 65_531),
    ),
    of_labels(
        "g: labels are whole numbers of shape (n,), not object (1,): save them so",
        npy(np.array([{}])),
    ),
    of_labels(
        "g: 6 labels of type int64 take 48 bytes and there are 47: save it again",
        npy(np.arange(6))[:-1],
    ),
    of_labels(
        "g: holds more labels than the 6 images that they are of: give the labels of these images "
        "by --labels",
        idx_labels(np.zeros(70_000)),
    ),
    of_labels(
        "g: begins with 0x00000803; an IDX file of labels begins with 0x00000801: give one", IDX
    ),
    of_labels("g: truncated: 3 bytes are no file of labels: fetch it again", b"123"),
    of_labels(
        "g: truncated: says 6 labels and holds 5: fetch it again", idx_labels(np.arange(6))[:-1]
    ),
    Case(
        "--labels=x* matches 2 files and --input 1 file of images: give one file of labels for "
        "each file of images",
        "compress --input=f --labels=x*",
        input_and(at({"xg": b"", "xh": b""})),
    ),
    Case(
        "--labels=y*: the names do not say which labels are of x1, and which of x2: call images "
        "and labels alike (train and test, the same numbers), or compress one file at a time",
        "compress --input=x* --labels=y*",
        at({"x1": IDX, "x2": IDX, "y2": b"", "y3": b""}),
    ),
    Case(
        "y_test: its name says test, and that of its images, x_train, says train: give the labels "
        "of these images by --labels",
        "compress --input=x_train --labels=y_test",
        at({"x_train": IDX, "y_test": idx_labels(np.arange(6))}),
    ),
]

NOT_FOUND = "[Errno 2] No such file or directory"
MODELS = [
    of_model(
        f"--model=m.keras is neither a folder with a model.json, which train writes last, nor a "
        f".keras file ({NOT_FOUND}: 'm.keras'): give one that is",
        "--model=m.keras",
    ),
    of_model(
        "--model=m is neither a folder with a model.json, …: give one that is",
        "--model=m",
        at({"m/x": b""}),
    ),
    of_model(
        "--model=m: m is no .keras file (File is not a zip file): save one with model.save()",
        "--model=m",
        at({"m": b"x"}),
    ),
    of_model(
        "--model=m: its model.json is not what train writes (ValueError: its format is ''): train "
        "it again",
        "--model=m",
        at({"m/model.json": b"{}"}),
    ),
    of_model(
        "--model=m: its model.json has format version 2, and this program knows versions up to 1: "
        "use a newer emnist-latents",
        "--model=m",
        at({"m/model.json": b'{"format": "emnist-latents model", "format_version": 2}'}),
    ),
    of_model(
        "--model=m: encoder.keras is not the one that model.json names (its SHA-256 is another): "
        "it "
        "was altered; train it again",
        "--model=m",
        model(altered("m/encoder.keras")),
    ),
    of_model(
        f"--model=m: m/decoder.keras cannot be read ({NOT_FOUND}: 'm/decoder.keras'): put it back, "
        "or train it again",
        "--model=m",
        model(removed("m/decoder.keras")),
    ),
    of_model(
        "--model=m: its int8 encoder cannot be loaded (…): train it again",
        "--model=m --precision=int8",
        model(replaced("encoder-int8.tflite", lambda: b"no model")),
    ),
    of_model(
        "--model=m: its int8 encoder maps (7,) to (3,), not (28, 28, 1) to (32,): train it again",
        "--model=m --precision=int8",
        model(replaced("encoder-int8.tflite", int8_of_another_shape)),
        long=True,
    ),
    of_model(
        "--precision=int8: --model=m.keras has no int8 encoder: train it again, which makes one, "
        "or "
        "give --precision=float32",
        "--model=m.keras --precision=int8",
        network(functional),
    ),
    of_model(
        "--latent_dtype=int8 needs a model that train calibrated, and --model=m.keras is an "
        "encoder "
        "alone: give a model directory, or another --latent_dtype",
        "--model=m.keras --latent_dtype=int8",
        network(functional),
    ),
    of_model(
        "--engine=ncnn: --model=m.keras has a Functional network, which ncnn is not used for: give "
        "--engine=tensorflow",
        "--model=m.keras --engine=ncnn",
        network(functional),
    ),
    of_model(
        "--model=m.keras: m.keras holds …, which may run code: save a model that is made of "
        "Keras's "
        "own layers alone",
        "--model=m.keras",
        network(with_lambda),
    ),
    of_model(
        "--model=m.keras maps float32 (28, 28, 1) to float32 (26, 26, 1); an encoder maps float32 "
        "(28, 28, 1) to float32 (N,): give one that does",
        "--model=m.keras",
        network(lambda keras: sequential(keras, keras.layers.Conv2D(1, 3))),
    ),
    of_model(
        "--model=m.keras takes (None, 28, 28, 3); an encoder maps (28, 28, 1) to (N,), for any "
        "number of images at once: give one that does",
        "--model=m.keras",
        network(lambda keras: sequential(keras, keras.layers.Flatten(), shape=(28, 28, 3))),
    ),
    of_model(
        "--model=m.keras does not encode an image (…): an encoder maps (28, 28, 1) to (N,), give "
        "one "
        "that does",
        "--model=m.keras",
        network(two_outputs),
    ),
    of_model(
        "--model=m: its decoder maps (None, 28, 28, 1) to (None, 32); a decoder maps (N,) to (28, "
        "28, 1): train it again",
        "--model=m",
        model(replaced("decoder.keras", ENCODER.read_bytes)),
    ),
    of_model(
        "--model=m.keras: m.keras is no .keras file (…): save one with model.save()",
        "--model=m.keras",
        at({"m.keras": zipped(EMPTY_KERAS)}),
    ),
    of_model(
        "--model=m.keras: m.keras cannot be loaded as a Keras model (…): save one that is made of "
        "Keras's own layers",
        "--model=m.keras",
        at({"m.keras": zipped({**EMPTY_KERAS, "model.weights.h5": no_weights()})}),
    ),
    of_model(
        "the encoder gave a latent that is not finite for image_id 0 of split all: give another "
        "--model",
        "--model=m.keras",
        network(filled(np.nan)),
        status=1,
    ),
    of_model(
        "a latent of 70000 is too large for float16: give --latent_dtype=float32",
        "--model=m.keras --latent_dtype=float16",
        network(filled(70_000)),
        status=1,
    ),
    Case(
        "--model=m.keras is an encoder alone, and cannot decode: give the model directory that "
        "train "
        "wrote",
        "evaluate --input=f --model=m.keras",
        input_and(network(functional)),
    ),
    Case(
        "--initial_model=m is built otherwise than what train fits: give a model that train wrote",
        "train --input=f --initial_model=m",
        input_and(at({"f": MANY}), model(replaced("encoder.keras", small_encoder))),
        long=True,
    ),
]

OUTPUTS = [
    Case(
        "--output=out is a file: give a folder", "compress --input=f", input_and(at({"out": b"x"}))
    ),
    Case(
        "--output=f/out is below f, a file: give a folder",
        "compress --input=f --output=f/out",
        input_and(),
    ),
    Case(
        "--output=out holds files that are not a run: give another folder",
        "compress --input=f --overwrite",
        input_and(at({"out/x": b""})),
    ),
    Case(
        "--output=out holds files that are not a run: give another folder",
        "compress --input=f --overwrite",
        input_and(at({"out/manifest.json": b'{"name": "app"}', "out/latents/mine": b"precious"})),
    ),
    Case(
        "--output=run holds a complete run already: give another folder, or --overwrite",
        "compress --input=f --output=run",
        input_and(),
    ),
    Case(
        "--output=run holds a complete run already, and next to it an unfinished one: --overwrite "
        "--resume continues that, --overwrite starts again",
        "compress --input=f --output=run",
        input_and(at({"run/_incomplete-1/job.json": b"{}"})),
    ),
    Case(
        "--output=out holds an unfinished run already: --resume continues it, --overwrite starts "
        "again",
        "compress --input=f",
        input_and(at({"out/_incomplete-1/job.json": b"{}"})),
    ),
    Case(
        "--resume: the unfinished run out/_incomplete-1 is another one, by dataset.name (null "
        'there, "f" now), …: give the same flags to continue it, or --overwrite without --resume '
        "to start again",
        "compress --input=f --resume",
        input_and(at({"out/_incomplete-1/job.json": b'{"versions": {"python": "2"}}'})),
    ),
    Case(
        "--output=loop/out cannot be written (Too many levels of symbolic links): give a folder "
        "that "
        "can",
        "compress --input=f --output=loop/out",
        input_and(link_to_itself),
    ),
    Case(
        "--output=out holds a complete model already: give another folder, or --overwrite",
        "train --dataset=sample",
        at({"out/model.json": b"{}"}),
    ),
    Case(
        "--output=out holds files that are not a model: give another folder",
        "train --dataset=sample --overwrite",
        at({"out/thesis.tex": b"precious"}),
    ),
    Case(
        "--output=out holds an unfinished training: --resume continues it, --overwrite starts "
        "again",
        "train --dataset=sample",
        at({"out/checkpoint.npz": b"no checkpoint"}),
    ),
    Case(
        "out/checkpoint.npz is not a checkpoint that can be read (File is not a zip file): remove "
        "it, or give another folder",
        "train --input=f --resume",
        at({"out/checkpoint.npz": b"no checkpoint", "f": MANY}),
    ),
]

DATASETS = [
    Case(
        "data/sample/dataset.json is not what stage writes (ValueError: it has no 'name'): remove "
        "data/sample and run it again",
        "compress --dataset=sample",
        at({"data/sample/dataset.json": b"{}"}),
    ),
    Case(
        "data/sample/dataset.json has format version 7, and this program knows versions up to 1: "
        "use a newer emnist-latents",
        "compress --dataset=sample",
        at({"data/sample/dataset.json": b'{"format_version": 7}'}),
    ),
    Case(
        "--archive_url=file:///etc is no address to fetch from: give an https:// URL (http:// is "
        "for this machine alone)",
        "compress --dataset=mnist --archive_url=file:///etc",
    ),
    Case(
        "EMNIST's archive cannot be fetched from http://127.0.0.1:9/ ([Errno 111] Connection "
        f"refused): try again, give another --archive_url, or put matlab.zip at {CACHE} "
        "(--dataset=sample needs none)",
        "stage --dataset=mnist --archive_url=http://127.0.0.1:9/",
    ),
    Case(
        f"{CACHE} is not NIST's matlab.zip (it begins with b'<html>'): {REMOVE}",
        "compress --dataset=mnist",
        at({CACHE: b"<html>"}),
    ),
    Case(
        f"{CACHE} is a folder, not NIST's matlab.zip: {REMOVE}",
        "compress --dataset=mnist",
        at({f"{CACHE}/x": b""}),
    ),
    Case(
        f"{CACHE} is not NIST's matlab.zip (matlab/emnist-balanced.mat is not in it): {REMOVE}",
        "compress --dataset=mnist",
        at({CACHE: zipped({"readme": b""})}),
    ),
    Case(
        "keras/datasets cannot be made (Not a directory): set KERAS_HOME to a folder that can be "
        "written",
        "compress --dataset=mnist",
        at({"keras": b""}),
    ),
    Case(
        f"matlab/emnist-mnist.mat in {CACHE} cannot be read (…): remove the archive to have it "
        "fetched again",
        "stage --dataset=mnist",
        with_mnist(b"no matrix"),
        long=True,
    ),
    Case(
        f"matlab/emnist-mnist.mat in {CACHE} cannot be read (it holds train images of shape "
        "(6, 28, 28) and 5 labels): remove the archive to have it fetched again",
        "stage --dataset=mnist",
        with_a_label_too_few,
        long=True,
    ),
    Case(
        "6 images are too few to split (6 training, 0 validation, 0 held out): give 10 or more in "
        "each split",
        "evaluate --input=f",
        input_and(),
    ),
    Case(
        "f row 1: there are no bytes: mend that image, or leave it out",
        "train --input=f",
        at({"f": parquet(image=pictures(png(), None))}),
    ),
]

AGAIN = "it was altered; run compress again"
RUNS = [
    Case(
        "--input=f/manifest.json is not a folder: give a run directory",
        "verify --input=f/manifest.json",
        at({"f/manifest.json": b"{}"}),
    ),
    Case(
        "--input=f has no manifest.json, so there is no complete run: give a run directory, or run "
        "compress again",
        "reconstruct --input=f",
        at({"f/x": b""}),
    ),
    Case(
        f"f/manifest.json is not what compress writes (ValueError: its format is 'x'): {AGAIN}",
        "verify --input=f",
        at({"f/manifest.json": b'{"format": "x"}'}),
    ),
    *(
        Case(
            "run/manifest.json has format version 2, and this program knows versions up to 1: use "
            "a newer emnist-latents",
            command,
            # Of a shape that nobody knows yet.
            at({"run/manifest.json": b'{"format": "emnist-latents run", "format_version": 2}'}),
        )
        for command in ("verify --input=run", "reconstruct --input=run")
    ),
    Case(
        "run/manifest.json is not what compress writes (ValidationError: Expected `int`, got "
        f"`str` - at `$.format_version`): {AGAIN}",
        "verify --input=run",
        manifest(lambda run: run.update(format_version="1")),
    ),
    Case(
        "run/manifest.json is not what compress writes (ValidationError: the name of a split "
        f"cannot be the name of a folder - at `$.dataset`): {AGAIN}",
        "reconstruct --input=run",
        manifest(lambda run: run["dataset"].update(splits={"../x": counts(run)})),
    ),
    Case(
        "run/manifest.json is not what compress writes (ValueError: files.parquet is not the file "
        f"that it names): {AGAIN}",
        "verify --input=run",
        with_a_file_list(b"other"),
    ),
    Case(
        "run/manifest.json is not what compress writes (ValueError: files.parquet is not a list of "
        f"files: …): {AGAIN}",
        "verify --input=run",
        with_a_file_list(b"x"),
    ),
    Case(
        "run/manifest.json is not what compress writes (ValueError: the columns of files.parquet "
        f"are ['path']): {AGAIN}",
        "verify --input=run",
        with_a_file_list(parquet(path=["x"])),
    ),
    Case(
        "--input=run was made by an encoder alone (pretrained), so its latents cannot be decoded: "
        "compress with a model directory that train wrote",
        "reconstruct --input=run",
        manifest(lambda run: run["model"].update(decoder_sha256=None)),
    ),
    Case(
        "--input=run was made with the model gone, which cannot be had (--model=gone is neither "
        "…): "
        "give it by --model",
        "reconstruct --input=run",
        manifest(lambda run: run["model"].update(name="gone")),
    ),
    Case(
        "--input=run was made with the model s3://somebody/model, and a store that a run names is "
        "never asked: give the model by --model",
        "reconstruct --input=run",
        manifest(lambda run: run["model"].update(name="s3://somebody/model")),
    ),
    Case(
        "--input=run holds latents of another model than m.keras: of pretrained, whose encoder has "
        "the SHA-256 c5f8faf4eb5b..., not …...: give the model that made them by --model",
        "reconstruct --input=run --model=m.keras",
        network(functional),
    ),
    Case(
        f"{RUN_FILE} is gone or cannot be read: the run directory is not whole; run compress again",
        "reconstruct --input=run",
        removed(RUN_FILE),
    ),
    Case(
        f"{RUN_FILE} is not the file that the manifest names (its SHA-256 is another): {AGAIN}",
        "reconstruct --input=run",
        altered(RUN_FILE),
    ),
    Case(
        f"{RUN_FILE} was made otherwise than the manifest says (its own metadata name another "
        f"model, "
        "scale or offset): the manifest was altered; run compress again",
        "reconstruct --input=run",
        manifest(lambda run: run["model"]["quantization"].update(scale=[0.5] * 32)),
    ),
    Case(
        "--originals holds 5 images of split all, and the run in run was made of 6 images of split "
        "all: give the images that it was made of",
        "reconstruct --input=run --originals=f",
        at({"f": idx_images(IMAGES[:5])}),
    ),
    Case(
        "--originals has no image_id 5 in split all: give the images that the run was made of",
        "reconstruct --input=run --originals=f",
        at({"f": staged([0, 1, 2, 3, 4, 7])}),
    ),
    Case(
        "--originals has label 7 for image_id 0 of split all, the run 0: give the images that the "
        "run was made of",
        "reconstruct --input=run --originals=f --labels=g",
        input_and(at({"g": npy(np.full(6, 7))})),
    ),
    Case(
        "--originals=sample is another dataset than f, which the run in run was made of (their "
        "fingerprints differ): give that one",
        "reconstruct --input=run --originals=sample --data_dir=../sample",
        manifest(lambda run: run["flags"].update(dataset="sample")),
    ),
    Case(
        "--input=run holds latents of another model than m.keras: of pretrained, whose encoder has "
        "the SHA-256 c5f8faf4eb5b..., not …...: give the model that made them by --model",
        "verify --input=run --against=f --model=m.keras",
        input_and(network(functional)),
    ),
    Case(
        "--against holds 5 images of split all, and the run in run was made of 6 images of split "
        "all: give the images that it was made of",
        "verify --input=run --against=f",
        at({"f": idx_images(IMAGES[:5])}),
    ),
]

CATALOGUE = [*USE, *FILES, *MODELS, *OUTPUTS, *DATASETS, *RUNS]


def seen(line: str, test: str, words: str) -> Seen:
    return Seen(line, f"tests/{test}", words)


APPEARANCE = "tests/transforms/inputs/test_appearance.py"
ELSEWHERE = [
    Seen(
        "--input: some files are dark on light or have other values than others, and there are too "
        "many to look at all: give those that are alike, or say --invert and --max_pixel",
        f"{APPEARANCE}::test_many_files_that_differ_are_refused",
        "some files are dark on light or have other values than others",
    ),
    Seen(
        "a.npy: its brightest pixel is 63 of 255 in 256 images: say by --max_pixel what stands for "
        "white (255 if they are as dark as that)",
        f"{APPEARANCE}::test_values_that_could_be_anything_are_refused",
        "its brightest pixel is 63 of 255",
    ),
    Seen(
        "a.npy: 20 of 100 images are dark on light, and others are not: give them apart, or say by "
        "--invert=yes or --invert=no how to take all",
        f"{APPEARANCE}::test_some_images_of_ink_on_paper_are_refused",
        "20 of 100 images are dark on light",
    ),
    Seen(
        "a.npy: its images look transposed, and nothing in its name says so: say "
        "--orientation=upright or --orientation=transposed",
        f"{APPEARANCE}::test_a_name_and_a_look_that_disagree_are_refused",
        "look transposed, and nothing in its name says so",
    ),
    Seen(
        "a.npy: has a pixel of 200, and those looked at go up to 1: say by --max_pixel what stands "
        "for white",
        f"{APPEARANCE}::test_a_larger_value_than_those_looked_at_is_refused",
        "has a pixel of 200, and those looked at go up to 1",
    ),
    Seen(
        "--model=m.keras: m.keras was saved by Keras 2 (keras.src.engine.functional.Functional): "
        "load it there, and save it with Keras 3",
        "tests/transforms/models/test_directory.py::test_what_may_run_code_is_refused",
        "was saved by Keras 2 (keras.src.engine.functional.Functional): load it there, and",
    ),
    Seen(
        "--model=m.keras: m.keras computes with keras.src.ops.numpy.Multiply outside of a layer, "
        "which is not read: use Keras's own layers alone (x * 2 is Rescaling(2.0))",
        "tests/transforms/models/test_directory.py::test_what_may_run_code_is_refused",
        "computes with keras.src.ops.numpy.Multiply outside of a layer, which is not read",
    ),
    Seen(
        "stdout cannot be written (No space left on device): what --output names is as it should "
        "be; send stdout where there is room",
        "tests/beam_job/test_environment.py::test_a_full_stdout_is_said_and_counts",
        "stdout cannot be written",
    ),
    Seen(
        "python -OO (PYTHONOPTIMIZE=2) takes docstrings away, and Beam and Keras need theirs: run "
        "it without",
        "tests/beam_job/test_environment.py::test_python_without_docstrings_is_refused",
        "takes docstrings away",
    ),
    Seen(
        "this program runs on Linux and macOS, and this system has no fcntl: on Windows use WSL 2, "
        "or the container image",
        "tests/beam_job/test_environment.py::test_a_system_without_fcntl_is_refused",
        "this program runs on Linux and macOS",
    ),
    Seen(
        "this user has no home folder: say by --data_dir where to stage --dataset",
        "tests/beam_job/test_environment.py::test_a_user_without_a_home_needs_none",
        "say by --data_dir where to stage",
    ),
    Seen(
        "this user has no home folder: set KERAS_HOME to the folder that EMNIST's archive is in",
        "tests/beam_job/test_environment.py::test_a_user_without_a_home_needs_none",
        "set KERAS_HOME to the folder",
    ),
    Seen(
        "EMNIST's archive is whole, and the process that reads it failed (No module named 'x'): "
        "remedy that, then run it again",
        "tests/beam_job/datasets/test_emnist.py::test_an_archive_is_blamed_only_when_at_fault",
        "the process that reads it failed",
    ),
    Seen(
        "a/emnist_matlab.npz cannot be read (Permission denied): let it be read, or put another "
        "matlab.zip there",
        "tests/beam_job/datasets/test_emnist.py::test_an_archive_is_blamed_only_when_at_fault",
        "or put another matlab.zip there",
    ),
    Seen(
        "Keras was imported with the backend jax: import it after transforms, or set "
        "KERAS_BACKEND=tensorflow",
        "tests/transforms/models/test_engines.py::test_keras_on_another_backend_is_refused",
        "Keras was imported with the backend",
    ),
    seen(
        "split test: 9 images staged, 0 read (0 rejected), 0 encoded, 0 written: these must "
        "agree, so nothing is published; run it again, and report it if it happens again",
        "beam_job/compress/test_complete.py::test_a_difference_fails_the_run_and_is_named",
        "these must agree, so nothing is published",
    ),
    seen(
        "split train: 1 files for 2 shards, so nothing is published: run it again, and report it "
        "if it happens again",
        "beam_job/compress/test_complete.py::test_each_shard_has_one_file",
        "1 files for 2 shards",
    ),
    seen(
        "split train: image_id 4 is in two places of the input: give each image once, in order",
        "beam_job/compress/test_complete.py::test_files_do_not_share_image_ids",
        "image_id 4 is in two places",
    ),
    seen(
        "--output=out was filled by another command while this one worked, and that one stays: "
        "give another folder, or --overwrite",
        "beam_job/compress/test_complete.py::test_a_second_run_stays_out_of_an_output_that_is_filled",
        "filled by another command",
    ),
    seen(
        "the checkpoint holds weights of other shapes than this network's: remove it, or set "
        "--overwrite without --resume to start again",
        "beam_job/train/test_fit.py::test_weights_of_other_shapes_are_told",
        "weights of other shapes",
    ),
    seen(
        "out/latents is a link, and what is written stays in --output=out: remove it",
        "campaigns/test_hostile.py::test_a_linked_folder_of_the_output_is_refused",
        "is a link",
    ),
    seen(
        "latents/part.parquet is not what compress writes (its latents are int8): it was altered; "
        "run compress again",
        "transforms/test_decode.py::test_a_file_with_other_columns_is_told",
        "is not what compress writes",
    ),
    *(
        seen(
            line, "campaigns/test_hostile.py::test_any_byte_of_a_parquet_footer_may_be_wrong", words
        )
        for line, words in (
            (
                (
                    "f: row group 0 takes 2,000,000,000 bytes unpacked, and 1,073,741,824 are the "
                    "most that is read: write it in smaller row groups"
                ),
                "the most that is read: write it in smaller row groups",
            ),
            ("f: row group 0 says that it has -3 rows: fetch it again", "rows: fetch it again"),
            (
                "f: says that it has 5 rows, and its row groups 6: fetch it again",
                "rows, and its row groups 6: fetch it again",
            ),
        )
    ),
    seen(
        "f: holds fewer rows than its metadata say: fetch it again",
        "campaigns/test_hostile.py::test_fewer_rows_than_the_metadata_say",
        "holds fewer rows than its metadata say",
    ),
    seen(
        "takes 20,000,000 bytes, and 16,777,216 are the most",
        "campaigns/test_hostile.py::test_an_image_of_megabytes_is_a_reject",
        "and 16,777,216 are the most",
    ),
    seen(
        "matlab.zip is not NIST's matlab.zip (Bad CRC-32 for file 'matlab/emnist-letters.mat'): "
        "give another --archive_url, or put matlab.zip at …",
        "beam_job/datasets/test_emnist.py::test_a_damaged_member_is_found_before_it_takes_its_place",
        "give another --archive_url",
    ),
    seen(
        "--runner=FlinkRunner needs java, which is not there: install Java 17",
        "beam_job/runners/test_remote_runners.py::test_a_job_server_needs_java",
        "--runner=FlinkRunner needs java, which is not there: install Java 17",
    ),
    seen(
        "--flink_job_server_jar=none.jar is no file: give the jar "
        "org.apache.beam:beam-runners-flink-1.20-job-server of Maven Central, or leave the flag "
        "out, and Beam downloads it",
        "beam_job/runners/test_remote_runners.py::test_what_is_no_job_server_is_refused",
        "is no file: give the jar org.apache.beam:beam-runners-flink-1.20-job-server",
    ),
    seen(
        "--flink_job_server_jar=text.jar is no jar (…): download it again",
        "beam_job/runners/test_remote_runners.py::test_what_is_no_job_server_is_refused",
        "is no jar",
    ),
    seen(
        "--flink_job_server_jar=server.jar is for Flink 1.19.1, not 1.20: give "
        "--flink_version=1.19, or the jar for 1.20",
        "beam_job/runners/test_remote_runners.py::test_a_job_server_of_another_flink_is_refused",
        "is for Flink 1.19.1, not 1.20: give --flink_version=1.19",
    ),
    seen(
        "--flink_master=http://… runs Flink 1.20.3, and the job is for 1.19: give "
        "--flink_version=1.20, and the job server's jar for it where you name one",
        "beam_job/runners/test_remote_runners.py::test_a_cluster_of_another_flink_is_refused",
        "runs Flink 1.20.3, and the job is for 1.19: give --flink_version=1.20",
    ),
    seen(
        "--flink_master=localhost:1: no Flink answers there (…): give the address of its REST "
        "interface, HOST:8081",
        "beam_job/runners/test_remote_runners.py::test_what_does_not_answer_is_named",
        "--flink_master=localhost:1: no Flink answers there",
    ),
    seen(
        "--job_endpoint=localhost:1 does not answer (…): start the job server there, or correct "
        "the address",
        "beam_job/runners/test_remote_runners.py::test_what_does_not_answer_is_named",
        "--job_endpoint=localhost:1 does not answer",
    ),
    seen(
        "--engine=ncnn: Dataflow's own image has no such engine: give an image that has it by "
        "--sdk_container_image (deploy/README.md says how), or --engine=tensorflow",
        "beam_job/runners/test_remote_runners.py::test_an_engine_that_dataflow_has_not_is_refused",
        "give an image that has it by --sdk_container_image",
    ),
    seen(
        "the runner needs other flags (…): give those",
        "beam_job/runners/test_remote_runners.py::test_what_a_runner_is_not_told_is_asked_for",
        "needs other flags",
    ),
    seen(
        "the runner ended the job as CANCELLED: its own log says why",
        "beam_job/runners/test_remote_runners.py::test_a_job_that_its_runner_ends_has_failed",
        "the runner ended the job as CANCELLED: its own log says",
    ),
    seen(
        "the job failed, as something refused a connection from the cluster: a worker pool has to "
        "listen at --environment_config=localhost:50000 on each of its machines (python -m "
        "apache_beam.runners.worker.worker_pool_main)",
        "cluster/runners/test_runners.py::test_no_worker_pool_on_the_machines_of_the_cluster",
        "the job failed, as something refused a connection from the cluster",
    ),
    seen(
        "the job failed: RuntimeError: the machine is gone; --debug shows where",
        "beam_job/test_errors.py::test_what_a_runner_makes_of_an_error_is_one_line",
        "the job failed: RuntimeError: the machine is gone; --debug shows where",
    ),
    seen(
        "evaluate needs bjontegaard and imagecodecs: pip install 'emnist-latents[evaluate]'",
        "beam_job/evaluate/test_evaluate.py::test_what_is_not_installed_is_named_with_how_to_install_it",
        "evaluate needs bjontegaard and imagecodecs: pip install 'emnist-latents[evaluate]'",
    ),
    seen(
        "out/a cannot be written (No space left on device): make room there, and run it again",
        "transforms/storage/test_files.py::test_the_way_out_goes_by_what_is_wrong",
        "make room there",
    ),
    seen(
        "pipe is not a regular file: give a file that can be read twice",
        "transforms/storage/test_files.py::test_a_file_that_can_be_read_once_is_refused",
        "is not a regular file: give a file that can be",
    ),
    seen(
        "out/_claim.json cannot be locked (Operation not supported): its file system has no locks; "
        "give a folder on another one",
        "transforms/storage/test_files.py::test_a_file_system_without_locks_is_told",
        "its file system has no locks; give a folder on another one",
    ),
    seen(
        "--resume: out/checkpoint.npz is of another training, by seed (0 there, 1 now): give the "
        "same flags to continue it, or --overwrite without --resume to start again",
        "beam_job/train/test_train.py::test_training_that_was_killed_goes_on_from_its_last_epoch",
        "of another training, by",
    ),
    seen(
        "data/sample was removed, or is being written by another command, while sample was staged: "
        "run it again",
        "beam_job/test_errors.py::test_a_dataset_that_somebody_removes_is_told",
        "while sample was staged: run it again",
    ),
    seen(
        "training diverged in its first epoch, so there is no model: try a smaller --learning_rate",
        "beam_job/train/test_train.py::test_a_loss_that_is_no_number_is_told_in_one_line",
        "diverged in its first epoch",
    ),
    seen(
        "out/sizes.json is not as the manifest lists it: it was altered; run compress again",
        "beam_job/reports/test_run_report.py::test_a_report_is_drawn_only_from_files_that_are_as_listed",
        "is not as the manifest lists it",
    ),
    seen(
        "images are float64 (2, 28, 28): give uint8 (n, 28, 28)",
        "beam_job/test_runs.py::test_what_cannot_be_is_refused_in_a_line",
        "images are float64 (2, 28, 28): give",
    ),
    seen(
        "latents are of shape (32,): give (n, 32)",
        "beam_job/test_runs.py::test_what_cannot_be_is_refused_in_a_line",
        "latents are of shape",
    ),
    seen(
        "there is no split 'all': give one of test, train",
        "beam_job/test_runs.py::test_what_cannot_be_is_refused_in_a_line",
        "there is no split 'all'",
    ),
    seen(
        "6 latents in 1 files, 0 images written in 0, 0 measured: these must agree, so nothing is "
        "published; run it again, and report it if it happens again",
        "beam_job/test_errors.py::test_images_that_did_not_come_back_are_told",
        "6 latents in 1 files, 0 images written in 0, 0 measured: these must agree",
    ),
    seen(
        "the decoder gave pixels that are not finite: give another --model",
        "transforms/test_decode.py::test_a_pixel_that_is_no_number_fails",
        "pixels that are not finite",
    ),
    seen(
        "--model=m has no int8 encoder: train it again",
        "transforms/models/test_engines.py::test_an_older_model_has_no_int8_encoder_and_works_in_float32",
        "has no int8 encoder: train it again",
    ),
    seen(
        "the engine ncnn is not installed: pip install 'emnist-latents[fast]', or give "
        "--engine=tensorflow",
        "beam_job/compress/test_engines.py::test_an_engine_that_is_not_installed_is_told_in_one_line",
        "is not installed: ",
    ),
    seen(
        "the engine ncnn is installed, and cannot be imported (…): mend it (pip install "
        "'emnist-latents[fast]'), or give --engine=tensorflow",
        "beam_job/test_errors.py::test_an_engine_that_does_not_work_here_is_told",
        "is installed, and cannot be imported",
    ),
    seen(
        "f: has fewer rows than when the job was planned; leave the input as it is while the job "
        "runs, then run it again",
        "transforms/inputs/test_read.py::test_a_parquet_file_that_shrank_is_an_error",
        "has fewer rows than when the job was planned",
    ),
    seen(
        "f: shorter than it was when the job was planned; leave the input as it is while the job "
        "runs, then run it again",
        "transforms/inputs/test_read.py::test_a_raw_file_that_shrank_is_an_error",
        "shorter than it was",
    ),
    seen(
        "f: is not what was staged (its SHA-256 is another): it was altered; remove the staged "
        "dataset to have it staged again",
        "beam_job/compress/test_compress.py::test_a_staged_dataset_that_was_altered_is_refused",
        "is not what was staged",
    ),
    seen(
        "f: was written to while the job read it, so nothing is published: leave the input as it "
        "is while the job runs, then run it again",
        "transforms/inputs/test_read.py::test_a_file_that_is_written_to_while_it_is_read_is_an_error",
        "was written to while the job read it",
    ),
    seen(
        "--output=out was written, and cannot be read any more (No such file or directory): see "
        "whether another command overwrote or removed it, or give another folder",
        "beam_job/compress/test_compress.py::test_a_run_that_is_gone_before_it_is_shown_is_told",
        "and cannot be read any more",
    ),
    seen(
        "f: cannot be read (…): put it back, or give another file",
        "transforms/inputs/test_files.py::"
        "test_a_file_that_is_written_to_between_two_looks_is_refused",
        "put it back, or give another",
    ),
    seen(
        "f: has to be unpacked before it can be read: unpack it",
        "transforms/inputs/test_files.py::test_what_has_to_be_unpacked_has_no_shards",
        "has to be unpacked before it can be read",
    ),
    seen(
        "shard split=all/part-00000-of-00001: its segments have 3 rows and its key says 2: correct "
        "the shard, or have transforms.stretches_of make it",
        "transforms/inputs/test_read.py::test_a_shard_of_other_rows_than_its_key_says_is_refused",
        "its segments have 3 rows and its key says ",
    ),
    seen(
        "--output=out was overwritten by another command while this one worked, and that one "
        "stays: give another folder, or --overwrite",
        "beam_job/compress/test_resume.py::test_who_overwrites_a_run_at_work_stays",
        "overwritten by another command",
    ),
    seen(
        "f: gone or damaged since the job was planned (…): put it back, or stage it again, and "
        "run it again",
        "beam_job/compress/test_compress.py::test_a_staged_dataset_that_was_altered_is_refused",
        "gone or damaged",
    ),
    seen(
        "--model=m: m is not what it was (its SHA-256 is another): put the right one back, or "
        "train it again",
        "transforms/models/test_keras_file.py::test_another_file_than_expected_is_refused",
        "is not what it was",
    ),
    seen(
        "--model=m: m cannot be read (…): put it back",
        "transforms/models/test_keras_file.py::test_another_file_than_expected_is_refused",
        "cannot be read ",
    ),
    seen(
        "split all: image_id 2 came through twice: run it again, and report it if it happens again",
        "transforms/test_write_shards.py::test_a_shard_that_is_not_whole_fails",
        "image_id 2 came through twice",
    ),
    seen(
        "it names no bucket: give s3://BUCKET/...",
        "transforms/storage/test_check.py::test_a_path_without_a_bucket",
        "names no bucket: give s3://BUCKET/",
    ),
    seen(
        "split train: 2 of the 5 rows of shard 0 came through; run it again, and report it if it "
        "happens again",
        "transforms/test_write_shards.py::test_a_shard_that_is_not_whole_fails",
        "2 of the 5 rows of shard 0 came through",
    ),
]

PASSED_ON = {
    "_busy(attempt, kind)": (
        "tests/beam_job/compress/test_resume.py::test_who_comes_second_stays_out"
    ),
    "_gone(child(attempt.folder, JOB))": (
        "tests/beam_job/compress/test_resume.py::"
        "test_an_attempt_that_somebody_removes_leaves_the_older_run"
    ),
    "_gone(error.filename)": (
        "tests/beam_job/compress/test_resume.py::"
        "test_a_file_that_somebody_removes_is_named_and_publishes_nothing"
    ),
    "too_many_rejects(rejects, run.max_rejects)": (
        "tests/beam_job/test_errors.py::test_rejects_of_all_shards_count"
    ),
    "too_many_rejects(rejected, self._max_rejects)": (
        "tests/beam_job/compress/test_inputs.py::test_one_bad_image_goes_to_rejects_and_the_rest_go_on"
    ),
    "_line(where, failed)": (
        "tests/transforms/storage/test_check.py::test_an_answer_that_is_no_listing"
    ),
    "str(error).removeprefix(f'{path}: ')": (
        "tests/transforms/storage/test_check.py::test_a_scheme_that_has_no_store"
    ),
}
"""Places whose message comes from another, as the source has it, and the test that sees it."""
