import json
import re
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_job.__main__ import run
from beam_job.datasets.catalog import staged_dataset
from beam_job.datasets.partition import load_images, partition
from beam_job.datasets.sample import sample_splits
from beam_job.evaluate import command
from beam_job.evaluate.evaluation import Evaluation
from beam_job.evaluate.measure import file_format_of
from beam_job.evaluate.report import PERHAPS_SEEN, compressai_results
from beam_job.outputs.attempt import check_output
from beam_job.reports.vector_codecs import latents_file
from transforms.json_documents import read_document
from transforms.models.arrays import latents_of
from transforms.models.autoencoder import build_decoder, build_encoder
from transforms.models.choice import Engine, load_encoder
from transforms.models.directory import find_model
from transforms.models.tensorflow_engine import compute_function
from transforms.quantize import calibrate

pytestmark = pytest.mark.long

IMAGES = 12


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


def test_a_report_says_where_images_may_have_been_seen(model, output, evaluation, tmp_path, capsys):
    first = evaluation.unseen, (output / "table.md").read_text(), output / "report.html"
    assert first[0] is False  # Its card says nothing of what it was trained on.
    assert first[1].split("\n\n")[1] == PERHAPS_SEEN
    escaped = PERHAPS_SEEN.replace("'", "&#39;")
    assert f'<p class="warning">{escaped}</p>' in first[2].read_text()
    assert "## PSNR in dB at the bytes of the latents" in first[1]
    command._show(str(output), evaluation)
    assert f"note: {PERHAPS_SEEN}\n" in capsys.readouterr().err
    folder = tmp_path / "trained"
    train = ["train", "--dataset=sample", f"--data_dir={model.parent / 'data'}", "--epochs=1"]
    assert run([*train, f"--output={folder}", "--quiet"]) == 0
    capsys.readouterr()
    assert evaluated(folder, tmp_path / "out") == 0
    assert PERHAPS_SEEN not in capsys.readouterr().err
    assert read_document(str(tmp_path / "out/evaluation.json"), Evaluation).unseen is True
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
    file_format = file_format_of(dataset, found, load_encoder(found, Engine()))
    content = latents_file(held_out, latents, file_format("int8", found.quantization(4)))
    assert content == path.read_bytes()


@pytest.fixture(scope="module")
def output(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "out"
    assert evaluated(model, folder, "--quiet") == 0
    return folder


@pytest.fixture(scope="module")
def evaluation(output) -> Evaluation:
    return read_document(str(output / "evaluation.json"), Evaluation)


def test_an_evaluation_is_whole(output, evaluation):
    written = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    named = {file.path for file in evaluation.files}
    assert written == {"_claim.json", "evaluation.json", *named}
    assert {"table.md", "report.html", "rate_distortion.svg", "rate_distortion.png"} < written
    for file in evaluation.files:
        content = (output / file.path).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (file.bytes, file.sha256)


def test_every_codec_is_measured_on_the_same_images(evaluation):
    points = evaluation.points
    assert {point.images for point in points} == {IMAGES}
    for point in points:
        assert point.bpp == pytest.approx(point.bytes * 8 / (IMAGES * 784), abs=1e-6)
    lossless = {point.codec for point in points if point.psnr is None}
    named = {"raw", "gzip", "zstd", "PNG", "WebP lossless", "AVIF lossless", "JPEG XL lossless"}
    assert lossless == named - {left.codec for left in evaluation.left_out}
    settings = [point.setting for point in points if point.codec == "latents int8"]
    assert settings == ["8 bits", "7 bits", "6 bits", "5 bits", "4 bits"]


def test_the_model_is_counted_with_both_of_its_files(model, evaluation):
    sizes = {name: (model / f"{name}.keras").stat().st_size for name in ("encoder", "decoder")}
    assert evaluation.model.bytes == sizes
    for row in evaluation.break_even:
        saved = row.their_bytes_per_image - row.bytes_per_image
        if saved > 0:
            assert row.images == pytest.approx(sum(sizes.values()) / saved, rel=1e-3, abs=1)


def test_quality_is_measured_by_class_and_group_for_each_way_to_store(output, evaluation):
    assert list(evaluation.quality) == [
        *("float32", "float16"),
        *(f"{bits} bits" for bits in (8, 7, 6, 5, 4)),
    ]
    points = {point.setting: point for point in evaluation.points if "latents" in point.codec}
    for stored, report in evaluation.quality.items():
        assert report.total.psnr == points[stored].psnr
        assert report.groups == {"digits": report.total}
        assert sum(found.images for found in report.classes.values()) == IMAGES
    worst = min(evaluation.quality["float32"].classes.items(), key=lambda item: item[1].psnr)
    assert (
        f"Worst classes: {worst[0]} ({worst[1].psnr:.2f} dB), " in (output / "table.md").read_text()
    )


def test_the_entropy_is_a_sum_over_the_dimensions(evaluation):
    assert [found.bits for found in evaluation.entropy] == [8, 7, 6, 5, 4]
    for found in evaluation.entropy:
        assert len(found.bits_per_dimension) == 32
        assert found.bits_per_image == pytest.approx(sum(found.bits_per_dimension), abs=0.01)
        assert 0 <= max(found.bits_per_dimension) <= min(found.bits, np.log2(IMAGES) + 1e-4)


def test_labels_are_classified_from_every_kind_of_feature(evaluation):
    judged = evaluation.classifiers["test"]
    assert (judged.classes, judged.measured_images) == (10, IMAGES)
    names = [found.features for found in judged.classifiers]
    assert names == ["latents float32", "latents int8, 8 bits", "PCA, 32 components", "pixels"]
    assert all(0 <= found.accuracy <= 1 for found in judged.classifiers)


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
    for point in evaluation.points:
        assert f"| {point.codec} | {point.setting} |" in table
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
