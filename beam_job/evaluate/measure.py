"""Measuring rate and distortion of a model and of the codecs on held-out images."""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import to_builtins
from tqdm import tqdm

from beam_job import __version__
from beam_job.console import say, tell
from beam_job.datasets.partition import (
    ONE_IN,
    Images,
    Partition,
    TrainingData,
    by_split,
    load_images,
    partition,
)
from beam_job.datasets.staging import open_dataset, with_gzips_staged
from beam_job.evaluate.classifiers import Features, classified
from beam_job.evaluate.command import EVALUATION, EVALUATION_KIND, EXTRA
from beam_job.evaluate.comparisons import bd_rates, break_even, equal_bytes, equal_psnr
from beam_job.evaluate.options import EvaluateOptions
from beam_job.evaluate.report import (
    PERHAPS_SEEN,
    TOTAL,
    compressai_results,
    curves,
    markdown,
    named_groups,
    report_html,
    terminal_table,
)
from beam_job.outputs.attempt import Attempt, abandon, begin
from beam_job.outputs.model_record import latents_metadata, model_record
from beam_job.outputs.redaction import recorded_source
from beam_job.outputs.seal import seal
from beam_job.outputs.versions import versions_of
from beam_job.reports.codecs import Codec, Measured, Point, image_codecs, measured, point
from beam_job.reports.plots import rate_distortion_png, rate_distortion_svg
from beam_job.reports.vector_codecs import (
    FileFormat,
    VectorCoder,
    fit_pca,
    latent_codecs,
    pca_codecs,
    pca_coder,
)
from transforms.decode import decoded_pixels
from transforms.encode import latents_of
from transforms.inputs.dataset import Dataset, Source
from transforms.latents import LatentFormat
from transforms.models.choice import TENSORFLOW, Engine, load_decoder, load_encoder
from transforms.models.directory import Model, find_model
from transforms.models.network import Network
from transforms.quantize import Quantization
from transforms.settings import MAX_BITS, MIN_BITS
from transforms.storage.files import child, facts_of, file_facts

if TYPE_CHECKING:
    from sklearn.decomposition import PCA

TABLE = "table.md"
REPORT = "report.html"
PICTURE = "rate_distortion"
RESULTS = "results"

FITTED_IMAGES = 20_000
"""How many training images PCA and the classifiers are fitted to at most."""

_FORMAT = "emnist-latents evaluation"
_VERSIONS_OF = ("pillow", "numpy", "pyarrow", "scikit-learn", "tensorflow", "matplotlib", *EXTRA)
_PCA_CLASSIFIED = 32


@dataclass(frozen=True)
class Subject:
    """What is measured, and on what.

    fitted: the images that PCA and classifiers are fitted to; measured: held-out images; both
    evenly spread over `parts`. unseen: see is_unseen. latents: the model's, stored as file_format
    says. characters: what a label stands for. network_bytes: of the model's files.
    """

    parts: Partition
    fitted: Images
    measured: Images
    unseen: bool
    latents: VectorCoder
    quantizations: Mapping[int, Quantization]
    file_format: FileFormat
    characters: Mapping[int, str]
    network_bytes: Mapping[str, int]


def run(options: EvaluateOptions) -> None:
    """Measures a model and the codecs on what the options name, and shows what came of it."""
    model = find_model(options.model)
    encoder = load_encoder(model, Engine())
    latents = _latents(model, encoder)
    attempt = begin(options.output, "--output")
    try:
        dataset = open_dataset(options)
        parts = partition(load_images(with_gzips_staged(dataset, attempt.folder)))
        subject = Subject(
            parts,
            thinned(parts.training, FITTED_IMAGES),
            thinned(parts.held_out, options.max_images),
            is_unseen(model.card, dataset, parts),
            latents,
            _quantizations(model),
            _file_format(dataset, model, encoder),
            dataset.characters,
            _network_bytes(model),
        )
        evaluation = {
            **_what(dataset, model, subject),
            **evaluate(subject, quiet=options.quiet),
        }
        _publish(attempt, evaluation, overwrite=options.overwrite)
    finally:
        abandon(attempt)
    if not options.quiet:
        _show(options.output, evaluation)


def _latents(model: Model, encoder: Network) -> VectorCoder:
    decode = load_decoder(model, TENSORFLOW).compute
    return VectorCoder(
        lambda pixels: latents_of(encoder.compute, pixels),
        lambda latents: decoded_pixels(decode, latents),
    )


def _quantizations(model: Model) -> dict[int, Quantization]:
    known = {bits: model.quantization(bits) for bits in range(MIN_BITS, MAX_BITS + 1)}
    return {bits: quantization for bits, quantization in known.items() if quantization}


def _file_format(dataset: Dataset, model: Model, encoder: Network) -> FileFormat:
    """What a run of `compress` on this dataset would write."""

    def file_format(latent_dtype: str, quantization: Quantization | None) -> LatentFormat:
        record = model_record(model, Engine(), encoder, latent_dtype, quantization)
        return LatentFormat(dataset.characters, latents_metadata(dataset.name, record))

    return file_format


def _network_bytes(model: Model) -> dict[str, int]:
    networks = {"encoder": model.encoder, "decoder": str(model.decoder)}
    return {name: file_facts(path).bytes for name, path in networks.items()}


def thinned(images: Images, most: int) -> Images:
    """At most so many of the images, evenly spread."""
    if len(images) <= most:
        return images
    return images.take(np.linspace(0, len(images) - 1, most).round().astype(int))


def is_unseen(card: Mapping[str, Any] | None, dataset: Dataset, parts: Partition) -> bool:
    """Whether a model's card shows that it was not trained on the held-out images.

    It does if the model, and every model that its training started from, was trained on what
    `parts` has for training and validation, or on files among which are all of this dataset, with
    the same images held out. dataset: as it was opened, its gzips not staged.
    """
    fingerprint = TrainingData(parts.training.pixels, parts.validation.pixels, {}, {}).fingerprint
    if card is None:
        return False
    try:
        while card is not None:
            data = card["data"]
            if data["fingerprint"] != fingerprint and not _held_out_alike(data, dataset, parts):
                return False
            card = card.get("initial_model")
    except (KeyError, TypeError, AttributeError):  # A card of somebody else's making.
        return False
    return True


def _held_out_alike(data: Mapping[str, Any], dataset: Dataset, parts: Partition) -> bool:
    """Whether each file of images was one of a training that held the same of its images out.

    data: of a card. A staged dataset's images are not in its source, an archive of many datasets.
    """
    rule = parts.rule.partition("; validation")[0]
    sources = {source.path: source for source in dataset.sources}
    first_ids: dict[str, int] = {}
    for file in dataset.files:
        first_ids.setdefault(file.segment.path, file.segment.first_image_id)
    return (
        rule in data["split"]
        and first_ids.keys() <= sources.keys()
        and all(
            _held_out_alike_of(sources[path], first_id, data, by_image_id="image_id" in rule)
            for path, first_id in first_ids.items()
        )
    )


def _held_out_alike_of(
    source: Source, first_image_id: int, data: Mapping[str, Any], *, by_image_id: bool
) -> bool:
    """The same for one file, whose images had the same split and image_ids there as here."""
    digest = source.sha256 or file_facts(source.path).sha256
    found = [theirs for theirs in data["sources"] if theirs["sha256"] == digest]
    if not by_image_id:
        return bool(found) and all(theirs["split"] == source.split for theirs in found)
    # In a split of several files image_ids run on, so that only those of the first are known.
    firsts: dict[str | None, Any] = {}
    for theirs in data["sources"]:
        firsts.setdefault(theirs.get("split"), theirs)
    from_0 = data["split"].startswith("of each file: ")
    return (
        bool(found)
        and first_image_id % ONE_IN == 0
        and all(from_0 or firsts[theirs.get("split")] is theirs for theirs in found)
    )


def _what(dataset: Dataset, model: Model, subject: Subject) -> dict[str, Any]:
    """What was measured with what, for evaluation.json."""
    return {
        "format": _FORMAT,
        "format_version": 1,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "sources": [to_builtins(recorded_source(source)) for source in dataset.sources],
        },
        "model": {
            "name": model.name,
            "encoder_sha256": model.encoder_sha256,
            "decoder_sha256": model.decoder_sha256,
            "bytes": dict(subject.network_bytes),
        },
        "unseen": subject.unseen,
        "images": {
            "measured": len(subject.measured),
            "held_out": len(subject.parts.held_out),
            "measured_sha256": subject.measured.fingerprint,
            "fitted": len(subject.fitted),
            "training": len(subject.parts.training),
            "rule": f"{subject.parts.rule}; PCA and classifiers are fitted to at most "
            f"{FITTED_IMAGES:,} training images, evenly spread",
        },
        "versions": {
            "emnist-latents": __version__,
            "python": platform.python_version(),
            **versions_of(_VERSIONS_OF),
            **_codec_versions(),
        },
    }


def _codec_versions() -> dict[str, str]:
    import imagecodecs
    from PIL import features

    with_pillow = {name: features.version(name) for name in ("jpg", "webp", "avif", "zlib")}
    return {
        **{f"pillow's {name}": str(found) for name, found in with_pillow.items()},
        "imagecodecs's jpegxl": imagecodecs.jpegxl_version(),
    }


def evaluate(subject: Subject, *, quiet: bool) -> dict[str, Any]:
    """The measurements of evaluation.json: in total, and for each split.

    total, splits: points, and what follows from them. left_out: codecs that are not among the
    points, and why. classifiers: null where there are no labels.
    """
    pca = fit_pca(subject.fitted.pixels)
    codecs = [
        *latent_codecs(subject.latents, subject.quantizations, subject.file_format),
        *pca_codecs(pca, subject.fitted.pixels, subject.characters),
        *image_codecs(),
    ]
    groups = by_split(subject.measured)
    points: dict[str, list[Point]] = {name: [] for name in (TOTAL, *groups)}
    left_out = []
    for codec in tqdm(codecs, desc="measuring", unit=" codecs", disable=quiet or None):
        parts = {split: measured(codec, images) for split, images in groups.items()}
        if reason := _lossy_after_all(codec, parts.values()):
            left_out.append({"codec": codec.name, "setting": codec.setting, "reason": reason})
            continue
        points[TOTAL].append(point(codec, list(parts.values())))
        for split, part in parts.items():
            points[split].append(point(codec, [part]))
    model_bytes = sum(subject.network_bytes.values())
    compared = {name: compared_points(found, model_bytes) for name, found in points.items()}
    return {
        "total": compared.pop(TOTAL),
        "splits": compared,
        "left_out": left_out,
        "classifiers": classified(
            _features(subject, pca), subject.fitted, subject.measured, quiet=quiet
        ),
    }


def _lossy_after_all(codec: Codec, parts: Iterable[Measured]) -> str | None:
    """Why a codec that says it is lossless is none; None where it is, or never said so."""
    lossy = sum(int((part.quality.squared_errors > 0).sum()) for part in parts)
    if codec.lossless and lossy:
        return f"{lossy:,} images came back otherwise than they were, so it is not lossless here"
    return None


def compared_points(points: Sequence[Point], model_bytes: int) -> dict[str, Any]:
    """The points of one group, and what follows from them, as JSON values."""
    return {
        "points": [_rounded(found) for found in points],
        "equal_psnr": [row._asdict() for row in equal_psnr(points)],
        "equal_bytes": [row._asdict() for row in equal_bytes(points)],
        "break_even": [row._asdict() for row in break_even(points, model_bytes)],
        "bd_rate": [row._asdict() for row in bd_rates(points)],
    }


def _rounded(found: Point) -> dict[str, Any]:
    shorter = {"bytes_per_image": round(found.bytes_per_image, 4), "bpp": round(found.bpp, 6)}
    return {**found._asdict(), **shorter}


def _features(subject: Subject, pca: "PCA") -> dict[str, Features]:
    """What the classifiers see of images uint8 (n, 784), by name: float32 (n, size)."""
    encode = subject.latents.encode
    quantization = subject.quantizations[MAX_BITS]
    components = min(_PCA_CLASSIFIED, len(pca.components_))
    return {
        "latents float32": encode,
        f"latents int8, {MAX_BITS} bits": lambda pixels: quantization.dequantize(
            quantization.quantize(encode(pixels))
        ),
        f"PCA, {components} components": pca_coder(pca, components).encode,
        "pixels": lambda pixels: pixels.astype(np.float32),
    }


def _publish(attempt: Attempt, evaluation: dict[str, Any], *, overwrite: bool) -> None:
    """Writes what people and other programs read, and evaluation.json last."""
    groups = named_groups(evaluation)
    pictures = {name: rate_distortion_svg(curves(group)) for name, group in groups.items()}
    documents = {
        TABLE: markdown(evaluation).encode(),
        REPORT: report_html(evaluation, pictures).encode(),
        f"{PICTURE}.svg": pictures[TOTAL].encode(),
        f"{PICTURE}.png": rate_distortion_png(curves(evaluation["total"])),
    }
    for name, result in compressai_results(evaluation).items():
        documents[f"{RESULTS}/{name}.json"] = _json(result)
    evaluation["files"] = [
        {"path": name, **facts_of(content)._asdict()} for name, content in documents.items()
    ]
    evaluation["run_id"] = attempt.run_id
    seal(attempt, EVALUATION_KIND, {}, documents, _json(evaluation), replace=overwrite)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _show(output: str, evaluation: Mapping[str, Any]) -> None:
    say(*terminal_table(evaluation), "")
    for name in (TABLE, f"{PICTURE}.svg", f"{PICTURE}.png", RESULTS, REPORT, EVALUATION):
        say(child(output, name))
    if not evaluation["unseen"]:
        tell(f"note: {PERHAPS_SEEN}")
