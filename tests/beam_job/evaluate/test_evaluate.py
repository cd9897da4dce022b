import json
import math
import re
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_job.__main__ import run
from beam_job.datasets.catalog import staged_dataset
from beam_job.datasets.partition import Images, Partition, by_split, load_images, partition
from beam_job.datasets.sample import sample_splits
from beam_job.evaluate import command
from beam_job.evaluate import measure as evaluate
from beam_job.evaluate.classifiers import linear_accuracy
from beam_job.evaluate.comparisons import bd_rates, break_even, equal_bytes, equal_psnr, frontier
from beam_job.evaluate.measure import is_unseen, thinned
from beam_job.evaluate.report import PERHAPS_SEEN, compressai_results, equal_bytes_table
from beam_job.outputs.attempt import check_output
from beam_job.reports.codecs import Point
from beam_job.reports.plots import Curve, rate_distortion_png, rate_distortion_svg
from beam_job.reports.vector_codecs import latents_file
from transforms.encode import latents_of
from transforms.inputs.dataset import Dataset
from transforms.inputs.files import files_dataset
from transforms.models.autoencoder import build_decoder, build_encoder
from transforms.models.choice import Engine, load_encoder
from transforms.models.directory import find_model
from transforms.models.tensorflow_engine import compute_function
from transforms.quantize import calibrate

pytestmark = pytest.mark.long

IMAGES = 12


def at(codec: str, bytes_per_image: float, psnr: float | None, setting: str = "") -> Point:
    total = round(bytes_per_image * 10)
    bpp = total * 8 / 7840
    return Point(codec, setting, 10, total, None, total / 10, bpp, psnr, 0.9)


POINTS = [
    at("latents int8", 20, 22.0, "4 bits"),
    at("latents int8", 40, 24.0, "8 bits"),
    at("PCA int8", 40, 20.0),
    at("PCA int8", 80, 24.0),
    at("WebP", 100, 23.0, "quality 0"),
    at("WebP", 400, 25.0, "quality 50"),
    at("PNG", 400, None, "optimized"),
]


def test_points_that_cost_more_for_nothing_are_no_part_of_a_frontier():
    curve = [at("a", 30, 12.0), at("a", 10, 10.0), at("a", 20, 11.0), at("a", 25, 10.5)]
    assert [found.bytes_per_image for found in frontier(curve)] == [10, 20, 30]


def test_bytes_at_equal_psnr_are_interpolated_on_a_logarithm():
    found = {(row.latents, row.codec): row for row in equal_psnr(POINTS)}
    assert len(found) == 4
    half_way = found["latents int8, 8 bits", "WebP"]
    assert half_way.their_bytes_per_image == pytest.approx(math.sqrt(100 * 400))
    assert found["latents int8, 8 bits", "PCA int8"].their_bytes_per_image == pytest.approx(80)
    below = found["latents int8, 4 bits", "WebP"]
    assert below.their_bytes_per_image is None
    assert (below.smallest_setting, below.smallest_bytes_per_image) == ("quality 0", 100)
    assert "higher PSNR" in below.reason
    (beyond,) = equal_psnr([at("latents int8", 20, 30.0), at("JPEG", 100, 20.0)])
    assert "none of its points" in beyond.reason


def test_psnr_at_equal_bytes_is_interpolated_over_a_logarithm():
    points = [*POINTS, at("JPEG", 5, 10.0), at("JPEG", 30, 12.0), at("latents float", 200, 24.5)]
    rows = equal_bytes(points)
    found = {(row.latents, row.codec): row for row in rows}
    assert len(found) == len(rows) == 9
    half_way = found["latents float, ", "WebP"]  # 200 lies midway from 100 to 400.
    assert (half_way.bytes_per_image, half_way.psnr, half_way.their_psnr) == (200, 24.5, 24.0)
    assert found["latents int8, 8 bits", "PCA int8"].their_psnr == 20.0
    below = found["latents int8, 4 bits", "WebP"]
    assert (below.their_psnr, below.reason) == (None, "even its fewest bytes are more")
    assert (below.smallest_setting, below.smallest_bytes_per_image) == ("quality 0", 100)
    beyond = found["latents int8, 8 bits", "JPEG"]
    assert (beyond.their_psnr, beyond.reason) == (None, "even its most bytes are fewer")
    table = equal_bytes_table({"equal_bytes": [row._asdict() for row in rows]})
    assert table.header[3:] == ["PCA int8", "WebP", "JPEG"]
    middle = 10 + 2 * math.log(4) / math.log(6)
    cells = ["(40.0 at 20.0 dB)", "(100.0 at 23.0 dB)", f"{middle:.2f}"]
    assert table.rows[0] == ["latents int8, 4 bits", "20.0", "22.00", *cells]
    assert table.rows[1][3:] == ["20.00", "(100.0 at 23.0 dB)", "at least 12.00"]


def test_a_model_pays_from_so_many_images_on():
    found = {(row.latents, row.codec): row for row in break_even(POINTS, model_bytes=36_001)}
    assert found["latents int8, 8 bits", "PNG, optimized"].images == 101  # 36001 / (400 - 40).
    assert found["latents int8, 8 bits", "WebP"].at == "equal PSNR"
    smallest = found["latents int8, 4 bits", "WebP"]
    assert (smallest.at, smallest.images) == ("quality 0, 23.0 dB", 451)  # 36001 / (100 - 20).
    assert not [codec for _, codec in found if codec.startswith("PCA")]
    (never,) = break_even([at("latents int8", 500, 20.0), at("PNG", 400, None)], 1)
    assert never.images is None


def test_a_curve_of_twice_the_bytes_has_a_bd_rate_of_100_percent():
    sizes, decibels = [50, 80, 120, 200], [20.0, 22.0, 25.0, 29.0]
    curve = list(zip(sizes, decibels, strict=True))
    points = [at("PCA int8", size, psnr) for size, psnr in curve]
    points += [at("JPEG", 2 * size, psnr) for size, psnr in curve]
    (found,) = bd_rates(points)
    assert (found.codec, found.anchor, found.overlap_db) == ("JPEG", "PCA int8", (20.0, 29.0))
    assert found.percent == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ([(10, 30.0), (20, 40.0)], "less than 0.5 dB in common: 30.0 to 40.0 dB against 20.0 to"),
        ([(10, 22.0)], "JPEG is a point, no curve"),
    ],
)
def test_curves_that_share_no_psnr_have_no_bd_rate(others, reason):
    points = [at("PCA int8", 10, 20.0), at("PCA int8", 20, 25.0)]
    (found,) = bd_rates(points + [at("JPEG", size, psnr) for size, psnr in others])
    assert (found.percent, found.overlap_db) == (None, None)
    assert found.reason.startswith(reason)


def images_of(splits: list[str], labels: list[int], pixels: np.ndarray) -> Images:
    ids = np.arange(len(splits), dtype=np.int64)
    return Images(np.array(splits), ids, np.array(labels, np.int16), pixels)


def test_images_are_thinned_evenly_and_told_apart_by_split():
    images = images_of(["b"] * 60 + ["a"] * 40, [0] * 100, np.zeros((100, 784), np.uint8))
    few = thinned(images, 10)
    assert few.image_ids.tolist() == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert {split: len(found) for split, found in by_split(few).items()} == {"b": 6, "a": 4}
    assert thinned(few, 10) is few


def test_a_linear_classifier_finds_what_a_line_tells_apart():
    labels = [0, 1] * 20
    pixels = np.zeros((40, 784), np.uint8)
    pixels[:, 7] = np.array(labels) * 200 + np.arange(40)
    images = images_of(["test"] * 40, labels, pixels)
    found = linear_accuracy("pixels", lambda pixels: pixels.astype(np.float32), images, images)
    assert (found.accuracy, found.dimensions, found.converged) == (1.0, 784, True)


CURVES = [
    Curve("latents int8", (20.0, 30.0, 40.0), (22.0, 23.5, 24.0), ours=True),
    Curve("WebP & more", (100.0, 200.0), (22.6, 34.0)),
    Curve("nothing", (), ()),
]


def test_the_picture_is_one_svg_element_of_text_and_always_the_same():
    svg = rate_distortion_svg(CURVES)
    assert svg == rate_distortion_svg(list(CURVES))
    assert svg.startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
    assert ">latents int8</text>" in svg
    assert ">WebP &amp; more</text>" in svg
    assert "nothing" not in svg
    assert rate_distortion_png(CURVES).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model directory of untrained networks."""
    folder = tmp_path_factory.mktemp("model")
    networks = {
        "encoder.keras": build_encoder(latent_bias=0.5),
        "decoder.keras": build_decoder(),
    }
    for name, network in networks.items():
        network.save(folder / name)
    pixels, _ = sample_splits()["train"]
    encode = compute_function(networks["encoder.keras"])
    latents = latents_of(encode, np.ascontiguousarray(pixels[:200]).reshape(-1, 784))
    files = {
        name: {"sha256": sha256((folder / name).read_bytes()).hexdigest()} for name in networks
    }
    card = {
        "format": "emnist-latents model",
        "files": files,
        "quantization": {
            str(bits): msgspec.to_builtins(calibrate(latents, bits)) for bits in range(4, 9)
        },
    }
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def evaluated(model: Path, output: Path, *flags: str) -> int:
    where = [f"--model={model}", f"--output={output}", f"--data_dir={model.parent / 'data'}"]
    return run(["evaluate", "--dataset=sample", *where, f"--max_images={IMAGES}", *flags])


def trained_card(parts: Partition) -> dict:
    """The card of a model that `train` fitted to what it takes of the same images."""
    pixels = parts.training.pixels.tobytes() + parts.validation.pixels.tobytes()
    data = {"fingerprint": sha256(pixels).hexdigest(), "sources": [], "split": parts.rule}
    return {"data": data, "initial_model": None}


def files_card(folder: Path, names: dict[str, str], split: str) -> dict:
    """The card of a model that was trained on files, and on other images besides."""
    sources = [
        {"path": name, "split": part, "sha256": sha256((folder / name).read_bytes()).hexdigest()}
        for name, part in names.items()
    ]
    return {"data": {"fingerprint": "of more", "sources": sources, "split": split}}


@pytest.fixture
def digits(tmp_path) -> Path:
    """A folder of two files of images, with a number of images that 10 does not divide."""
    pixels, _ = sample_splits()["train"]
    for number, name in enumerate(("a.npy", "b.npy")):
        np.save(tmp_path / name, np.asarray(pixels[number * 45 : number * 45 + 45], np.uint8))
    return tmp_path


def opened(pattern: Path) -> tuple[Dataset, Partition]:
    dataset = files_dataset(str(pattern), None, "auto")
    return dataset, partition(load_images(dataset))


EACH = "of each file: held out: image_id % 10 == 9; validation: others"
TOGETHER = EACH.removeprefix("of each file: ")


def test_images_beside_those_that_a_model_was_trained_on_are_unseen(digits):
    dataset, parts = opened(digits / "a.npy")
    _, other_parts = opened(digits / "b.npy")
    card, other = trained_card(parts), trained_card(other_parts)
    assert is_unseen(card, dataset, parts)
    assert is_unseen({**card, "initial_model": card}, dataset, parts)
    assert not is_unseen(other, dataset, parts)
    assert not is_unseen({**card, "initial_model": other}, dataset, parts)
    assert not is_unseen({**card, "initial_model": {**card, "data": None}}, dataset, parts)
    assert not is_unseen({}, dataset, parts)
    assert not is_unseen(None, dataset, parts)


@pytest.mark.parametrize(
    ("evaluated", "trained", "split", "unseen"),
    [
        ("a.npy", {"a.npy": "all", "b.npy": "all"}, EACH, True),
        ("b.npy", {"a.npy": "all", "b.npy": "all"}, EACH, True),
        ("b.npy", {"a.npy": "all"}, EACH, False),
        ("a.npy", {"a.npy": "all"}, "held out: the split test; validation: others", False),
        # Where image_ids run on from a.npy to b.npy, the 45 before b.npy's move what is held out.
        ("*.npy", {"a.npy": "all", "b.npy": "all"}, EACH, False),
        ("a.npy", {"a.npy": "all", "b.npy": "all"}, TOGETHER, True),
        ("b.npy", {"a.npy": "all", "b.npy": "all"}, TOGETHER, False),
    ],
)
def test_images_that_were_held_out_of_the_same_files_are_unseen(
    evaluated, trained, split, unseen, digits
):
    dataset, parts = opened(digits / evaluated)
    assert is_unseen(files_card(digits, trained, split), dataset, parts) is unseen


def test_a_split_that_was_held_out_is_unseen_under_the_same_name(digits):
    for name, renamed in (("a.npy", "train.npy"), ("b.npy", "test.npy")):
        (digits / name).rename(digits / renamed)
    dataset, parts = opened(digits / "*.npy")
    names = {"train.npy": "train", "test.npy": "test"}
    assert is_unseen(files_card(digits, names, parts.rule), dataset, parts)
    swapped = {"train.npy": "test", "test.npy": "train"}
    assert not is_unseen(files_card(digits, swapped, parts.rule), dataset, parts)


def test_a_report_says_where_images_may_have_been_seen(model, output, evaluation, tmp_path, capsys):
    first = evaluation["unseen"], (output / "table.md").read_text(), output / "report.html"
    assert first[0] is False  # Its card says nothing of what it was trained on.
    assert first[1].split("\n\n")[1] == PERHAPS_SEEN
    escaped = PERHAPS_SEEN.replace("'", "&#39;")
    assert f'<p class="warning">{escaped}</p>' in first[2].read_text()
    assert evaluation["total"]["equal_bytes"]
    assert "### At equal bytes" in first[1]
    evaluate._show(str(output), evaluation)
    assert f"note: {PERHAPS_SEEN}\n" in capsys.readouterr().err
    folder = tmp_path / "trained"
    train = ["train", "--dataset=sample", f"--data_dir={model.parent / 'data'}", "--epochs=1"]
    assert run([*train, f"--output={folder}", "--quiet"]) == 0
    capsys.readouterr()
    assert evaluated(folder, tmp_path / "out") == 0
    assert PERHAPS_SEEN not in capsys.readouterr().err
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["unseen"] is True
    for name in ("table.md", "report.html"):
        assert "does not show" not in (tmp_path / "out" / name).read_text()


def test_latents_are_counted_as_compress_writes_them(model, tmp_path):
    data_dir = f"--data_dir={model.parent / 'data'}"
    told = ["--latent_dtype=int8", "--latent_bits=4", "--engine=tensorflow", "--quiet"]
    flags = ["--dataset=sample", f"--model={model}", data_dir, f"--output={tmp_path / 'out'}"]
    assert run(["compress", *flags, *told]) == 0
    found = find_model(str(model))
    dataset = staged_dataset(str(model.parent / "data"), "sample")
    held_out = partition(load_images(dataset)).held_out
    (path,) = (tmp_path / "out/latents").glob("split=test/*.parquet")
    latents = np.array(pq.read_table(path)["latent"].to_pylist(), np.uint8)
    file_format = evaluate._file_format(dataset, found, load_encoder(found, Engine()))
    content = latents_file(held_out, latents, file_format("int8", found.quantization(4)))
    assert content == path.read_bytes()


@pytest.fixture(scope="module")
def output(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "out"
    assert evaluated(model, folder, "--quiet") == 0
    return folder


@pytest.fixture(scope="module")
def evaluation(output) -> dict:
    return json.loads((output / "evaluation.json").read_text())


def test_an_evaluation_is_whole(output, evaluation):
    written = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    named = {file["path"] for file in evaluation["files"]}
    assert written == {"_claim.json", "evaluation.json", *named}
    assert {"table.md", "report.html", "rate_distortion.svg", "rate_distortion.png"} < written
    for file in evaluation["files"]:
        content = (output / file["path"]).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (file["bytes"], file["sha256"])


def test_every_codec_is_measured_on_the_same_images(evaluation):
    assert list(evaluation["splits"]) == ["test"]
    assert evaluation["splits"]["test"] == evaluation["total"]
    points = evaluation["total"]["points"]
    assert {found["images"] for found in points} == {IMAGES}
    for found in points:
        assert found["bpp"] == pytest.approx(found["bytes"] * 8 / (IMAGES * 784), abs=1e-6)
    lossless = {found["codec"] for found in points if found["psnr"] is None}
    named = {"raw", "gzip", "zstd", "PNG", "WebP lossless", "AVIF lossless", "JPEG XL lossless"}
    assert lossless == named - {left["codec"] for left in evaluation["left_out"]}
    settings = [found["setting"] for found in points if found["codec"] == "latents int8"]
    assert settings == ["8 bits", "7 bits", "6 bits", "5 bits", "4 bits"]


def test_the_model_is_counted_with_both_of_its_files(model, evaluation):
    sizes = {name: (model / f"{name}.keras").stat().st_size for name in ("encoder", "decoder")}
    assert evaluation["model"]["bytes"] == sizes
    for row in evaluation["total"]["break_even"]:
        saved = row["their_bytes_per_image"] - row["bytes_per_image"]
        if saved > 0:
            assert row["images"] == pytest.approx(sum(sizes.values()) / saved, rel=1e-3, abs=1)


def test_labels_are_classified_from_every_kind_of_feature(evaluation):
    judged = evaluation["classifiers"]["test"]
    assert (judged["classes"], judged["measured_images"]) == (10, IMAGES)
    names = [found["features"] for found in judged["classifiers"]]
    assert names == ["latents float32", "latents int8, 8 bits", "PCA, 32 components", "pixels"]
    assert all(0 <= found["accuracy"] <= 1 for found in judged["classifiers"])


def test_results_are_in_compressais_form(output, evaluation):
    found = {path.stem: json.loads(path.read_text()) for path in (output / "results").iterdir()}
    assert found == compressai_results(evaluation)
    assert {"jpeg", "webp", "avif", "jpeg-xl", "pca-int8", "latents-int8"} <= set(found)
    for result in found.values():
        assert list(result) == ["name", "description", "results"]
        rates, psnrs, ssims = (result["results"][key] for key in ("bpp", "psnr", "ssim"))
        assert len(rates) == len(psnrs) == len(ssims) > 0
        assert rates == sorted(rates)
        assert psnrs == sorted(psnrs)


def test_reports_hold_every_point_and_need_no_network(output, evaluation):
    table = (output / "table.md").read_text()
    report = (output / "report.html").read_text()
    for found in evaluation["total"]["points"]:
        assert f"| {found['codec']} | {found['setting']} |" in table
    assert report.count("<svg") == 1
    linked = set(re.findall(r'(?:src|href)="([^"]*)"', report))
    assert all(link.startswith("#") for link in linked)


def test_a_complete_evaluation_is_replaced_only_when_told_to(model, output, capsys):
    assert evaluated(model, output) == 2
    assert "holds a complete evaluation already: give another folder, or --overwrite" in _error(
        capsys
    )
    check_output(str(output), command.EVALUATION_KIND, overwrite=True)


def test_other_files_are_left_alone(model, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert evaluated(model, tmp_path, "--overwrite") == 2
    assert "holds files that are not an evaluation" in _error(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_is_not_installed_is_named_with_how_to_install_it(
    model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(command, "find_spec", lambda name: None if name[0] in "bi" else name)
    assert evaluated(model, tmp_path / "out") == 2
    assert (
        "evaluate needs bjontegaard and imagecodecs: pip install 'emnist-latents[evaluate]'"
        in _error(capsys)
    )


def test_an_encoder_alone_cannot_be_evaluated(model, tmp_path, capsys):
    assert evaluated(model / "encoder.keras", tmp_path / "out") == 2
    assert "cannot decode" in _error(capsys)
    assert not (tmp_path / "out").exists()


def _error(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    return line
