"""What `verify` says of runs that are whole and of altered ones; on Beam's local runner."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from beam_job.__main__ import run
from beam_job.exit_status import WITH_REJECTS
from beam_job.outputs.file_list import MAX_LISTED, file_list, listed_files
from beam_job.outputs.run_directory import complete_run
from tests.conftest import compress
from tests.support.error_inputs import parquet
from transforms.inputs.dataset import shard_keys
from transforms.shard_files import ShardFile

FILE = "latents/split=all/part-00000-of-00003.parquet"
Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 images, and a run of them in three shards."""
    folder = tmp_path_factory.mktemp("whole")
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    np.save(folder / "images.npy", images)
    flags = [f"--input={folder}/images.npy", f"--output={folder}/run", "--shard_size=16"]
    assert compress(*flags, "--quiet") == 0
    return folder


@pytest.fixture
def spoilt(whole: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be spoilt."""
    return Path(shutil.copytree(whole / "run", tmp_path / "run"))


def verify(folder: Path, *flags: str) -> int:
    return run(["verify", f"--input={folder}", *flags])


@pytest.mark.parametrize(
    "stored",
    [
        ["--latent_dtype=float32"],
        ["--latent_dtype=float16"],
        ["--latent_dtype=int8", "--latent_bits=5"],
        ["--engine=tensorflow"],
    ],
    ids=" ".join,
)
def test_a_run_is_whole_however_its_latents_are_stored(whole, stored, tmp_path, capsys):
    flags = [f"--input={whole}/images.npy", f"--output={tmp_path}/run", *stored]
    assert compress(*flags, "--quiet") == 0
    again = [f"--against={whole}/images.npy", "--max_images=40", "--json"]
    assert verify(tmp_path / "run", *again) == 0
    found = json.loads(capsys.readouterr().out)
    not_listed = {"manifest.json", "report.html", "_claim.json"}
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    paths = [path for path in files if path.name not in not_listed]
    assert found["bytes"] == sum(path.stat().st_size for path in paths)
    assert (found["whole"], found["files"], found["compared"]) == (True, len(paths), 40)
    assert (found["images"], found["problems"], found["notes"]) == ({"all": 40}, [], [])


def test_a_run_with_rejects_is_whole(tmp_path, capsys):
    from PIL import Image

    cells = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((28, 28), number, np.uint8)).save(path)
        cells.append({"bytes": b"none" if number in (2, 5) else path.read_bytes(), "path": None})
    pq.write_table(pa.table({"image": cells}), tmp_path / "images.parquet")
    flags = [f"--input={tmp_path}/images.parquet", f"--output={tmp_path}/run", "--max_rejects=2"]
    assert compress(*flags, "--quiet") == WITH_REJECTS
    assert verify(tmp_path / "run", f"--against={tmp_path}/images.parquet", "--max_images=9") == 0
    assert "4 images of all; 4 encoded again" in capsys.readouterr().out
    assert verify(tmp_path / "run", "--quiet") == 0
    assert capsys.readouterr().out == ""


def rewrite(change: Callable[[pa.Table], pa.Table]) -> Spoil:
    """Alters a file of latents, and makes the manifest name it as it now is."""

    def spoil(folder: Path) -> None:
        with pq.ParquetFile(folder / FILE) as file:
            table, metadata = file.read(), file.metadata.metadata
        altered = change(table)
        kept = {b"emnist_latents": metadata[b"emnist_latents"]}
        with pq.ParquetWriter(folder / FILE, altered.schema) as writer:
            writer.write_table(altered)
            writer.add_key_value_metadata(kept)
        list_again(folder, FILE)

    return spoil


def list_again(folder: Path, path: str) -> None:
    content = (folder / path).read_bytes()
    change_manifest(
        lambda manifest: [
            file.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            for file in manifest["files"]
            if file["path"] == path
        ]
    )(folder)


def change_manifest(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    def spoil(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return spoil


def change_sizes(folder: Path) -> None:
    sizes = json.loads((folder / "sizes.json").read_text())
    sizes["total"]["latent_bytes"] += 1
    (folder / "sizes.json").write_text(json.dumps(sizes))
    list_again(folder, "sizes.json")


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / FILE).read_bytes())
    content[100] ^= 1
    (folder / FILE).write_bytes(content)


def with_latents(table: pa.Table, values: np.ndarray) -> pa.Table:
    kind = table.schema.field("latent").type
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
    return table.set_column(3, table.schema.field("latent"), lists)


def latents_of(table: pa.Table) -> np.ndarray:
    return np.stack(table.column("latent").to_pylist()).astype(np.float32)


def not_finite(table: pa.Table) -> pa.Table:
    values = latents_of(table)
    values[5, 3] = np.nan
    return with_latents(table, values)


def image_ids(values: list[int]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(0, table.schema.field(0), pa.array(values))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / FILE).unlink(), f"{FILE} is gone"),
        (flip_a_bit, f"{FILE} has another SHA-256"),
        (lambda run: (run / FILE).write_bytes(b""), f"{FILE} has 0 bytes, and the manifest says"),
        (lambda run: (run / "sample.parquet").unlink(), "sample.parquet is gone"),
        (
            lambda run: shutil.copy(run / FILE, run / "latents/split=all/more.parquet"),
            "latents/split=all/more.parquet is not in the manifest",
        ),
        (rewrite(not_finite), "has a latent that is not finite, for image_id 5"),
        (rewrite(lambda table: table.slice(0, 15)), "has 15 rows, and the manifest says 16"),
        (
            rewrite(lambda table: table.drop_columns("character")),
            "has other columns than the manifest promises",
        ),
        (
            rewrite(image_ids([*range(7), 6, *range(8, 16)])),
            "has image_id 6 behind 6",
        ),
        (
            rewrite(image_ids([*range(15), 16])),
            "goes from image_id 0 to 16, and the manifest says from 0 to 15",
        ),
        (
            rewrite(image_ids([*range(15), 16])),
            "begins with image_id 16, and the file before it ends with 16",
        ),
        (
            rewrite(lambda table: table.set_column(2, table.schema.field(2), pa.array(["x"] * 16))),
            "names other characters for its labels",
        ),
        (change_sizes, "sizes.json says 5121 for total.latent_bytes: it is 5120"),
        (
            change_manifest(lambda manifest: manifest["dataset"].update(name="other")),
            "says otherwise than the manifest what it was made of",
        ),
        (
            change_manifest(lambda manifest: manifest["dataset"]["splits"]["all"].update(read=39)),
            "manifest.json says 39 for split all, read: there are 40",
        ),
        (
            change_manifest(lambda manifest: manifest["files"].append(manifest["files"][0])),
            "lists latents/split=all/part-00000-of-00003.parquet 2 times",
        ),
        (
            change_manifest(
                lambda manifest: manifest["files"].append(
                    {"path": "../../etc/passwd", "bytes": 1, "sha256": ""}
                )
            ),
            "'../../etc/passwd' is not a path below its folder",
        ),
        (
            change_manifest(lambda manifest: manifest["files"].pop(0)),
            "latents/split=all/part-00000-of-00003.parquet",
        ),
        (
            change_manifest(lambda manifest: manifest.pop("characters")),
            "manifest.json is not what compress writes",
        ),
        (
            change_manifest(lambda manifest: manifest["dataset"].pop("sources")),
            "Object missing required field `sources`",
        ),
    ],
)
def test_what_was_altered_is_named(spoilt: Path, spoil: Spoil, said: str, capsys):
    spoil(spoilt)
    assert verify(spoilt) in (1, 2)
    told = capsys.readouterr()
    assert said in told.out + told.err
    assert "is whole" not in told.out


@pytest.fixture(scope="module")
def clipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of noise in 5 bits, much of which the model's range does not hold."""
    folder = tmp_path_factory.mktemp("clipped")
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    np.save(folder / "images.npy", images)
    flags = [f"--input={folder}/images.npy", f"--output={folder}/run", "--latent_dtype=int8"]
    assert compress(*flags, "--latent_bits=5", "--quiet") == 0
    return folder / "run"


def test_a_run_of_before_clipped_values_were_counted_is_whole(clipped: Path, tmp_path: Path):
    old = Path(shutil.copytree(clipped, tmp_path / "run"))
    sizes = json.loads((old / "sizes.json").read_text())
    for part in (sizes["total"], sizes["splits"]["all"]):
        assert part.pop("clipped_values") > part.pop("clipped_images") > 0
    (old / "sizes.json").write_text(json.dumps(sizes))
    list_again(old, "sizes.json")
    assert verify(old) == 1
    remove = [
        change_manifest(lambda manifest, name=name: manifest["dataset"]["splits"]["all"].pop(name))
        for name in ("clipped_values", "clipped_images")
    ]
    for change in remove:
        change(old)
    assert verify(old) == 0


@pytest.mark.parametrize("name", ["clipped_values", "clipped_images"])
def test_more_clipped_values_than_there_can_be_are_found(
    clipped: Path, tmp_path: Path, name, capsys
):
    """Values are clipped to the first or the last of the 32 levels."""
    assert verify(clipped) == 0
    latents = np.stack(pq.read_table(clipped / "latents").column("latent").to_pylist())
    at_ends = (latents == 0) | (latents == 31)
    most = {"clipped_values": at_ends.sum(), "clipped_images": at_ends.any(axis=1).sum()}[name]
    for count, status in ((most, 0), (most + 1, 1)):
        run = Path(shutil.copytree(clipped, tmp_path / f"run{count}"))
        counts = {name: int(count)}
        change_manifest(lambda m, c=counts: m["dataset"]["splits"]["all"].update(c))(run)
        sizes = json.loads((run / "sizes.json").read_text())
        for part in (sizes["total"], sizes["splits"]["all"]):
            part.update(counts)
        (run / "sizes.json").write_text(json.dumps(sizes))
        list_again(run, "sizes.json")
        assert verify(run) == status
    said = f"says {most + 1:,} for split all, {name}: at most {most:,} can have been clipped"
    assert said in capsys.readouterr().out


def test_floats_are_never_clipped(spoilt: Path, capsys):
    change_manifest(lambda m: m["dataset"]["splits"]["all"].update(clipped_values=1))(spoilt)
    assert verify(spoilt) == 1
    assert "says 1 for split all, clipped_values: at most 0" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", [flip_a_bit, lambda run: (run / FILE).unlink()])
def test_what_follows_from_an_altered_file_is_not_told(spoilt: Path, spoil: Spoil, capsys):
    spoil(spoilt)
    assert verify(spoilt, "--json") == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["path"] == FILE


def test_what_is_no_part_of_a_run_is_noted(spoilt: Path, capsys):
    strays = [".DS_Store", "latents/split=all/.DS_Store", "_incomplete-0123/job.json"]
    for name in strays:
        (spoilt / name).parent.mkdir(exist_ok=True)
        (spoilt / name).write_text("{}")
    assert verify(spoilt) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "note: latents/split=all/.DS_Store is not part of the run",
        "note: .DS_Store is not part of the run",
        "note: _incomplete-0123 is not part of the run",
    ]
    assert "is whole" in printed.out
    assert verify(spoilt, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def with_a_file_list(folder: Path, files: list[ShardFile] | bytes) -> None:
    """Puts the list of files in a document of its own, as in runs of many files."""
    content = files if isinstance(files, bytes) else file_list(files)
    (folder / "files.parquet").write_bytes(content)
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def change(manifest: dict[str, Any]) -> None:
        documents = [file for file in manifest["files"] if "split" not in file]
        manifest["files"] = [*documents, {"path": "files.parquet", **facts}]

    change_manifest(change)(folder)


def files_of(folder: Path) -> list[ShardFile]:
    return [file for _, file in complete_run(str(folder)).shard_files()]


def test_a_run_whose_files_are_in_a_list_is_whole(spoilt: Path, whole: Path, capsys):
    files = files_of(spoilt)
    with_a_file_list(spoilt, files)
    assert files_of(spoilt) == files
    assert verify(spoilt, f"--against={whole}/images.npy", "--max_images=40") == 0
    assert "is whole: 7 files" in capsys.readouterr().out
    shutil.copy(spoilt / FILE, spoilt / "latents/split=all/more.parquet")
    (spoilt / FILE).unlink()
    assert verify(spoilt) == 1
    said = capsys.readouterr().out
    assert "more.parquet is not in the manifest" in said
    assert f"{FILE} is gone" in said


def long_text(files: list[ShardFile]) -> bytes:
    """A list in which one text of a megabyte is stored once for ten thousand rows."""
    table = pq.read_table(io.BytesIO(file_list(files[:1] * 10_000)))
    rows = pa.array(np.zeros(10_000, np.int32))
    long = pa.DictionaryArray.from_arrays(rows, ["a" * (1 << 20)])
    sink = io.BytesIO()
    pq.write_table(table.set_column(4, "sha256", long), sink, store_schema=False)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: files[:2], "files.parquet does not list a file for each shard, in order"),
        (lambda files: files[::-1], "files.parquet does not list a file for each shard, in order"),
        (lambda files: [*files, files[0]], "does not list a file for each shard"),
        (
            lambda files: [replace(files[0], path="latents/x"), *files[1:]],
            "does not list a file for each shard",
        ),
        (lambda files: [replace(files[0], rows=-1), *files[1:]], "has a number of rows that is"),
        (
            lambda files: [replace(files[0], last_image_id=2**62 + 1), *files[1:]],
            "has a number of last_image_id that is too small, or too large",
        ),
        (lambda files: [replace(files[0], rows=None), *files[1:]], "has no rows in some rows"),
        (lambda _: b"PAR1", "files.parquet is not a list of files"),
        (lambda _: parquet(path=["x"]), "the columns of files.parquet are ['path']"),
        (long_text, "files.parquet has a sha256 of 1,048,576 bytes"),
    ],
)
def test_a_list_of_files_that_lies_is_refused(spoilt: Path, change, said: str, capsys):
    with_a_file_list(spoilt, change(files_of(spoilt)))
    assert verify(spoilt) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_list_of_files_that_is_another_is_refused(spoilt: Path, capsys):
    with_a_file_list(spoilt, files_of(spoilt))
    (spoilt / "files.parquet").write_bytes(file_list(files_of(spoilt)[:1]))
    assert verify(spoilt) == 2
    assert "files.parquet is not the file that it names" in capsys.readouterr().err
    (spoilt / "files.parquet").unlink()
    assert verify(spoilt) == 2
    assert "files.parquet" in capsys.readouterr().err


def test_a_long_list_of_files_is_read_as_it_was_written():
    count = 2 * MAX_LISTED + 1
    files = [
        ShardFile(f"latents/{key.name}.0123456789ab.parquet", "all", 0, key.number, "a", None, None)
        for _, key in shard_keys("all", count, 1)
    ]
    found = list(listed_files(file_list(files)))
    assert found == [file.published for file in files]
    by_path = sorted(files, key=attrgetter("path"))
    assert sorted(by_path, key=attrgetter("order")) == files


def count_parquet_bytes(folder: Path) -> None:
    """Makes sizes.json say how large the files of latents now are."""
    total = sum(path.stat().st_size for path in folder.glob("latents/**/*.parquet"))
    sizes = json.loads((folder / "sizes.json").read_text())
    for part in (sizes["total"], sizes["splits"]["all"]):
        part["parquet_bytes"] = total
        part["parquet_mb"] = total / 1024**2
        part["uint8_to_parquet"] = round(part["uint8_bytes"] / total, 4)
        part["source_to_parquet"] = round(part["source_bytes"] / total, 4)
    (folder / "sizes.json").write_text(json.dumps(sizes))
    list_again(folder, "sizes.json")


def test_latents_that_the_encoder_does_not_give_are_found(spoilt: Path, whole: Path, capsys):
    def raised(table: pa.Table) -> pa.Table:
        values = latents_of(table)
        values[9, 0] += 0.1
        return with_latents(table, values)

    rewrite(raised)(spoilt)
    count_parquet_bytes(spoilt)
    assert verify(spoilt) == 0  # Nothing else tells it.
    assert verify(spoilt, f"--against={whole}/images.npy", "--max_images=40", "--json") == 1
    (problem,) = json.loads(capsys.readouterr().out.partition("\n")[2])["problems"]
    assert problem == {
        "path": FILE,
        "problem": "has other latents than the encoder gives for image_id 9",
    }


STEP = 0.09299609810113907
"""Between two neighbouring values of the int8 encoder's last layer, as its file has it."""


@pytest.fixture(scope="module")
def int8_runs(whole: Path) -> Path:
    """Runs by the int8 encoder, by how their latents are stored."""
    for dtype, bits in (("float32", []), ("float16", []), ("int8", ["--latent_bits=5"])):
        flags = [f"--input={whole}/images.npy", f"--output={whole}/by-int8-{dtype}"]
        flags += ["--shard_size=16", "--precision=int8", f"--latent_dtype={dtype}", *bits]
        assert compress(*flags, "--quiet") == 0
    return whole


@pytest.mark.parametrize(
    ("dtype", "steps", "status"),
    [
        *(("float32", steps, status) for steps, status in ((0, 0), (1, 0), (-1, 0), (2, 1))),
        *(("float16", steps, status) for steps, status in ((1, 0), (2, 1))),
        # One step is less than a level of these; a value may besides be on the edge of two.
        *(("int8", levels, status) for levels, status in ((1, 0), (2, 0), (3, 1), (-3, 1))),
    ],
)
def test_an_int8_encoder_on_other_kernels_may_be_one_step_off(
    dtype: str, steps: int, status: int, int8_runs: Path, tmp_path: Path
):
    run = Path(shutil.copytree(int8_runs / f"by-int8-{dtype}", tmp_path / "run"))

    def moved(table: pa.Table) -> pa.Table:
        values = np.stack(table.column("latent").to_pylist())
        # A value that is not near 0 or the last level, so that it can move either way.
        middle = np.median(values[values > 0])
        place = np.unravel_index(np.abs(values - middle).argmin(), values.shape)
        step = STEP if dtype != "int8" else 1
        assert 4 * step < values[place] < 28
        values[place] = values[place] + steps * step
        return with_latents(table, values.astype({"int8": np.uint8}.get(dtype, dtype)))

    rewrite(moved)(run)
    count_parquet_bytes(run)
    assert verify(run, f"--against={int8_runs}/images.npy", "--max_images=40") == status


@pytest.mark.parametrize(("off", "status"), [(0.00005, 0), (0.001, 1)])
def test_an_encoder_in_floats_may_be_off_by_its_rounding(off, status, spoilt, whole):
    def raised(table: pa.Table) -> pa.Table:
        values = latents_of(table)
        row = np.abs(values).max(axis=1).argmin()
        values[row, 0] += off * max(1, np.abs(values[row]).max())
        return with_latents(table, values)

    rewrite(raised)(spoilt)
    count_parquet_bytes(spoilt)
    assert verify(spoilt, f"--against={whole}/images.npy", "--max_images=40") == status


def test_other_images_are_told_from_those_of_the_run(whole: Path, tmp_path: Path, capsys):
    images = np.load(whole / "images.npy")
    images[20] = 255 - images[20]
    np.save(tmp_path / "other.npy", images)
    against = f"--against={tmp_path}/other.npy"
    assert verify(whole / "run", against, "--max_images=40") == 1
    assert "has other latents than the encoder gives for image_id 20" in capsys.readouterr().out
    np.save(tmp_path / "other.npy", images[:30])
    assert verify(whole / "run", against) == 2
    assert "--against holds 30 images of split all" in capsys.readouterr().err


def test_a_name_that_no_folder_can_have_is_wrong_input(capsys):
    assert verify(Path("a" * 300)) == 2
    assert "is not a folder: give a run directory" in capsys.readouterr().err


def test_a_folder_without_a_run_is_wrong_input(tmp_path: Path, capsys):
    assert verify(tmp_path) == 2
    assert "has no manifest.json, so there is no complete run" in capsys.readouterr().err
