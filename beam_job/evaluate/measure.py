"""Measuring rate and distortion of a model and of the codecs on held-out images."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec.structs import replace
from tqdm import tqdm

from beam_job import __version__
from beam_job.datasets.partition import Images, Partition, by_split, load_images, partition
from beam_job.evaluate.classifiers import Features, classify
from beam_job.evaluate.command import EVALUATION_KIND, EXTRA
from beam_job.evaluate.comparisons import OURS, bd_rates, break_even, compare
from beam_job.evaluate.evaluation import (
    Evaluation,
    ImageCounts,
    LatentEntropy,
    LeftOut,
    MeasuredDataset,
    MeasuredModel,
)
from beam_job.evaluate.report import documents
from beam_job.evaluate.unseen import is_unseen
from beam_job.outputs.attempt import Attempt, abandon, begin
from beam_job.outputs.model_record import latents_metadata, model_record
from beam_job.outputs.redaction import recorded_source
from beam_job.outputs.run_directory import ListedFile
from beam_job.outputs.seal import seal
from beam_job.outputs.versions import versions_of
from beam_job.reports.codecs import (
    Codec,
    Measurement,
    Point,
    image_codecs,
    measure_codec,
    rate_and_distortion,
)
from beam_job.reports.quality import QualityReport, group_quality, report_quality
from beam_job.reports.vector_codecs import (
    LATENTS,
    FileFormat,
    VectorCoder,
    fit_pca,
    latent_codecs,
    pca_codecs,
    pca_coder,
)
from transforms.inputs.dataset import Dataset
from transforms.json_documents import encode
from transforms.latents import LatentFormat
from transforms.models.arrays import decoded_pixels, latents_of
from transforms.models.choice import TENSORFLOW, Engine, load_decoder, load_encoder
from transforms.models.directory import Model
from transforms.models.network import Network
from transforms.quantize import Quantization
from transforms.settings import MAX_BITS, MIN_BITS
from transforms.storage.files import facts_of, file_facts

if TYPE_CHECKING:
    from sklearn.decomposition import PCA

FITTED_IMAGES = 100_000
"""How many training images PCA and the classifiers are fitted to at most."""

_VERSIONS_OF = ("pillow", "numpy", "pyarrow", "scikit-learn", "tensorflow", "matplotlib", *EXTRA)
_PCA_CLASSIFIED = 32


@dataclass(frozen=True)
class Subject:
    """What is measured, and on what.

    fitted: the images that PCA and classifiers are fitted to; measured: held-out images; both
    evenly spread over `parts`. latents: the model's, stored in files of `file_format`.
    """

    dataset: Dataset
    model: Model
    parts: Partition
    fitted: Images
    measured: Images
    latents: VectorCoder
    quantizations: Mapping[int, Quantization]
    file_format: FileFormat


def evaluate(
    dataset: Dataset, model: Model, output: str, max_images: int, *, overwrite: bool, quiet: bool
) -> Evaluation:
    """Measures a model and the codecs on held-out images of a dataset, and writes the evaluation.

    max_images: how many held-out images are measured at most.
    """
    encoder = load_encoder(model, Engine())
    decode = load_decoder(model, TENSORFLOW).compute
    latents = VectorCoder(
        lambda pixels: latents_of(encoder.compute, pixels),
        lambda values: decoded_pixels(decode, values),
    )
    attempt = begin(output, "--output")
    try:
        parts = partition(load_images(dataset))
        subject = Subject(
            dataset,
            model,
            parts,
            spread_evenly(parts.training, FITTED_IMAGES),
            spread_evenly(parts.held_out, max_images),
            latents,
            _quantizations(model),
            file_format_of(dataset, model, encoder),
        )
        return _publish(attempt, measure(subject, attempt.run_id, quiet=quiet), replaced=overwrite)
    finally:
        abandon(attempt)


def _quantizations(model: Model) -> dict[int, Quantization]:
    known = {bits: model.quantization(bits) for bits in range(MIN_BITS, MAX_BITS + 1)}
    return {bits: quantization for bits, quantization in known.items() if quantization}


def file_format_of(dataset: Dataset, model: Model, encoder: Network) -> FileFormat:
    """The files that a run of `compress` on this dataset would write."""

    def file_format(latent_dtype: str, quantization: Quantization | None) -> LatentFormat:
        record = model_record(model, Engine(), encoder, latent_dtype, quantization)
        return LatentFormat(dataset.characters, latents_metadata(dataset.name, record))

    return file_format


def spread_evenly(images: Images, most: int) -> Images:
    """At most so many of the images, evenly spread."""
    if len(images) <= most:
        return images
    return images.take(np.linspace(0, len(images) - 1, most).round().astype(int))


def measure(subject: Subject, run_id: str, *, quiet: bool) -> Evaluation:
    """Measures every codec, the entropy and the classifiers."""
    dataset, model = subject.dataset, subject.model
    pca = fit_pca(subject.fitted.pixels)
    codecs = [
        *latent_codecs(subject.latents, subject.quantizations, subject.file_format),
        *pca_codecs(pca, subject.fitted.pixels, dataset.characters),
        *image_codecs(),
    ]
    groups = by_split(subject.measured)
    points: list[Point] = []
    left_out: list[LeftOut] = []
    quality: dict[str, QualityReport] = {}
    for codec in tqdm(codecs, desc="measuring", unit=" codecs", disable=quiet or None):
        parts = {split: measure_codec(codec, images) for split, images in groups.items()}
        if reason := _reason_to_leave_out(codec, parts):
            left_out.append(LeftOut(codec.name, codec.setting, reason))
            continue
        points.append(rate_and_distortion(codec, list(parts.values())))
        if codec.name in OURS:
            quality[codec.setting] = _report_quality(parts, groups, dataset.characters)
    features = _features(subject, pca)
    classifiers = classify(features, subject.fitted, subject.measured, quiet=quiet)
    network_bytes = {
        "encoder": file_facts(model.encoder).bytes,
        "decoder": file_facts(str(model.decoder)).bytes,
    }
    return Evaluation(
        run_id=run_id,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        dataset=MeasuredDataset(
            dataset.name, dataset.fingerprint, list(map(recorded_source, dataset.sources))
        ),
        model=MeasuredModel(model.name, model.encoder_sha256, model.decoder_sha256, network_bytes),
        unseen=is_unseen(msgspec.to_builtins(model.card), dataset, subject.parts),
        images=_image_counts(subject),
        versions=_versions(),
        points=points,
        left_out=left_out,
        quality=quality,
        entropy=_entropies(subject, points),
        comparisons=compare(points),
        break_even=break_even(points, sum(network_bytes.values())),
        bd_rates=bd_rates(points),
        classifiers=classifiers,
    )


def _reason_to_leave_out(codec: Codec, parts: Mapping[str, Measurement]) -> str | None:
    """Why a codec does not keep its promise to be lossless; None where it does, or made none."""
    lossy = sum(int((part.quality.squared_errors > 0).sum()) for part in parts.values())
    if codec.lossless and lossy:
        return f"{lossy:,} images are not as they were, so it is not lossless here"
    return None


def _report_quality(
    parts: Mapping[str, Measurement], groups: Mapping[str, Images], characters: Mapping[int, str]
) -> QualityReport:
    found = {}
    for split, images in groups.items():
        found.update(group_quality(images.splits, images.labels, parts[split].quality))
    return report_quality(found, characters)


def _image_counts(subject: Subject) -> ImageCounts:
    return ImageCounts(
        measured=len(subject.measured),
        held_out=len(subject.parts.held_out),
        measured_sha256=subject.measured.fingerprint,
        fitted=len(subject.fitted),
        training=len(subject.parts.training),
        rule=f"{subject.parts.rule}; PCA and classifiers are fitted to at most "
        f"{FITTED_IMAGES:,} training images, evenly spread",
    )


def _versions() -> dict[str, str]:
    import imagecodecs
    from PIL import features

    with_pillow = {name: features.version(name) for name in ("jpg", "webp", "avif", "zlib")}
    return {
        "emnist-latents": __version__,
        "python": platform.python_version(),
        **versions_of(_VERSIONS_OF),
        **{f"pillow's {name}": str(found) for name, found in with_pillow.items()},
        "imagecodecs's jpegxl": imagecodecs.jpegxl_version(),
    }


def _entropies(subject: Subject, points: list[Point]) -> list[LatentEntropy]:
    """The entropy of the latents of all measured images, by the bits in which they are stored."""
    latents = subject.latents.encode(subject.measured.pixels)
    stored = {
        point.setting: 8 * (point.bytes - (point.overhead_bytes or 0)) / point.images
        for point in points
        if point.codec == LATENTS
    }
    found = []
    for bits, quantization in sorted(subject.quantizations.items(), reverse=True):
        dimensions = [entropy(numbers) for numbers in quantization.quantize(latents).T]
        rounded = [round(value, 4) for value in dimensions]
        in_file = round(stored[f"{bits} bits"], 4)
        found.append(LatentEntropy(bits, rounded, round(sum(dimensions), 4), in_file))
    return found


def entropy(numbers: np.ndarray) -> float:
    """The entropy of whole numbers uint8 (n,) in bits, from how often each of them occurs."""
    counts = np.bincount(numbers)
    shares = counts[counts > 0] / len(numbers)
    return float(-(shares * np.log2(shares)).sum())


def _features(subject: Subject, pca: "PCA") -> dict[str, Features]:
    """What the classifiers see of images uint8 (n, 784), by name: float32 (n, size)."""
    encode_pixels = subject.latents.encode
    quantization = subject.quantizations[MAX_BITS]
    components = min(_PCA_CLASSIFIED, len(pca.components_))
    return {
        "latents float32": encode_pixels,
        f"latents int8, {MAX_BITS} bits": lambda pixels: quantization.dequantize(
            quantization.quantize(encode_pixels(pixels))
        ),
        f"PCA, {components} components": pca_coder(pca, components).encode,
        "pixels": lambda pixels: pixels.astype(np.float32),
    }


def _publish(attempt: Attempt, evaluation: Evaluation, *, replaced: bool) -> Evaluation:
    """Writes what people and other programs read, and evaluation.json last."""
    written = documents(evaluation)
    files = [ListedFile(name, *facts_of(content)) for name, content in written.items()]
    evaluation = replace(evaluation, files=files)
    seal(attempt, EVALUATION_KIND, {}, written, encode(evaluation), replace=replaced)
    return evaluation
