import gzip
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_job.exit_status import WITH_REJECTS
from tests.conftest import compress, latents, rows
from tests.support.nist import idx_images, idx_labels
from tests.transforms.test_images import png


def same_input(folder: Path, images: np.ndarray) -> dict[str, Path]:
    """The same 40 upright images and labels 0, 1, 2, ... in each form that --input takes."""
    labels = np.arange(40, dtype=np.uint8)
    paths = {name: folder / name for name in ("idx", "gzip", "nist", "npy", "staged", "hf")}
    for path in paths.values():
        path.mkdir()
    (paths["idx"] / "train-images-idx3-ubyte").write_bytes(idx_images(images))
    (paths["idx"] / "train-labels-idx1-ubyte").write_bytes(idx_labels(labels))
    (paths["gzip"] / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_images(images)))
    (paths["gzip"] / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_labels(labels)))
    nist = "emnist-mnist-train-{}-ubyte.gz"
    stored = idx_images(images.transpose(0, 2, 1))
    (paths["nist"] / nist.format("images-idx3")).write_bytes(gzip.compress(stored))
    (paths["nist"] / nist.format("labels-idx1")).write_bytes(gzip.compress(idx_labels(labels)))
    np.save(paths["npy"] / "train.npy", images)
    np.save(folder / "labels.npy", labels.astype(np.int64))
    pq.write_table(
        pa.table(
            {
                "image_id": pa.array(range(40), pa.int64()),
                "label": pa.array(labels),
                "image": pa.array([image.tobytes() for image in images], pa.binary(784)),
            }
        ),
        paths["staged"] / "train.parquet",
    )
    names = [chr(ord("0") + label) for label in range(40)]
    features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pa.table(
        {
            "image": [{"bytes": png(image), "path": "a.png"} for image in images],
            "label": pa.array(labels, pa.int64()),
        }
    )
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(features)}),
        paths["hf"] / "train-00000-of-00001.parquet",
    )
    return paths


def test_the_same_images_give_the_same_latents_in_every_form(
    tmp_path: Path, random_images, plain_latents
):
    expected = plain_latents(random_images)
    for name, folder in same_input(tmp_path, random_images).items():
        flags = [f"--labels={tmp_path / 'labels.npy'}"] if name == "npy" else []
        output = tmp_path / "out" / name
        argv = [f"--input={folder}/*", f"--output={output}", "--shard_size=16", "--quiet"]
        assert compress(*argv, "--batch_size=7", *flags) == 0, name
        table = rows(output)
        assert table["split"].unique().tolist() == ["train"], name
        assert table["image_id"].tolist() == list(range(40)), name
        assert table["label"].tolist() == list(range(40)), name
        np.testing.assert_allclose(latents(output), expected, atol=1e-4, err_msg=name)
        if name == "hf":
            assert table["character"][17] == "A"


def test_one_bad_image_goes_to_rejects_and_the_rest_go_on(tmp_path: Path, random_images, capsys):
    contents = [png(image) for image in random_images]
    contents[17] = b"broken"
    path = tmp_path / "test.parquet"
    pq.write_table(
        pa.table({"image": [{"bytes": content, "path": ""} for content in contents]}), path
    )
    output = tmp_path / "out"
    argv = [f"--input={path}", f"--output={output}", "--shard_size=16"]

    assert compress(*argv) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "test.parquet row 17" in said
    assert "--max_rejects" in said
    assert not (output / "manifest.json").exists()

    assert compress(*argv, "--max_rejects=1", "--resume") == WITH_REJECTS
    assert rows(output)["image_id"].tolist() == [n for n in range(40) if n != 17]
    (line,) = (output / "rejects/rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == json.loads(line)["image_id"] == 17
    assert json.loads(line)["reason"] == "is not one of PNG, JPEG, WEBP, BMP, TIFF, GIF"
    sizes = json.loads((output / "sizes.json").read_text())
    assert sizes["splits"]["test"]["images"] == 39
    assert sizes["splits"]["test"]["rejected"] == 1
    manifest = json.loads((output / "manifest.json").read_text())
    assert "rejects/rejects.jsonl" in [file["path"] for file in manifest["files"]]
    said = capsys.readouterr()
    assert "rejected" in said.out
    assert said.err.splitlines()[-1] == (
        f"note: 1 image could not be read, within --max_rejects=1: {output}/rejects/rejects.jsonl "
        "lists them, and why"
    )


def test_a_batch_of_which_nothing_is_left_harms_nobody(tmp_path: Path, random_images, capfd):
    contents = [png(image) for image in random_images[:3]] + [b"broken"]
    table = pa.table({"image": [{"bytes": content, "path": ""} for content in contents]})
    pq.write_table(table, tmp_path / "f")
    argv = [f"--input={tmp_path}/f", f"--output={tmp_path}/out", "--quiet", "--max_rejects=1"]
    assert compress(*argv, "--batch_size=1", "--shard_size=2") == WITH_REJECTS
    assert rows(tmp_path / "out")["image_id"].tolist() == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_an_input_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path, random_images):
    np.save(tmp_path / "im[1].npy", random_images)
    np.save(tmp_path / "im1.npy", random_images[:1])
    argv = [f"--input={tmp_path}/im[1].npy", f"--output={tmp_path}/out", "--quiet"]
    assert compress(*argv) == 0
    assert len(rows(tmp_path / "out")) == 40


def test_a_pickle_in_an_npy_is_never_loaded(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    content = io.BytesIO()
    np.save(content, np.array([Trap()], object), allow_pickle=True)
    (tmp_path / "images.npy").write_bytes(content.getvalue())
    assert compress(f"--input={tmp_path}/images.npy", f"--output={tmp_path}/out") == 2
    assert not (tmp_path / "sprung").exists()
