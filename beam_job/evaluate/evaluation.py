"""evaluation.json: what an evaluation measured, on what, and what follows from it."""

import msgspec

from beam_job.evaluate.classifiers import Classification
from beam_job.evaluate.comparisons import BdRate, BreakEven, Comparison
from beam_job.outputs.run_directory import ListedFile
from beam_job.reports.codecs import Point
from beam_job.reports.quality import QualityReport
from transforms.inputs.dataset import Source


class MeasuredDataset(msgspec.Struct, frozen=True):
    """The dataset whose held-out images are measured. fingerprint: None where it is not known."""

    name: str
    fingerprint: str | None
    sources: list[Source]


class MeasuredModel(msgspec.Struct, frozen=True):
    """The model that is measured. bytes: of the files of its encoder and decoder."""

    name: str
    encoder_sha256: str
    decoder_sha256: str | None
    bytes: dict[str, int]


class ImageCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many images were used for what.

    measured_sha256: over the pixels, in order. fitted: what PCA and the classifiers are fitted to.
    rule: how images are held out, in words.
    """

    measured: int
    held_out: int
    measured_sha256: str
    fitted: int
    training: int
    rule: str


class LeftOut(msgspec.Struct, frozen=True):
    """A codec that is not among the points, and why."""

    codec: str
    setting: str
    reason: str


class LatentEntropy(msgspec.Struct, frozen=True):
    """The entropy of latents in whole numbers.

    bits: in which they are stored. bits_per_image: the sum over the dimensions. stored_bits: what
    the latents take in the Parquet file, per image, without the other columns.
    """

    bits: int
    bits_per_dimension: list[float]
    bits_per_image: float
    stored_bits_per_image: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """evaluation.json.

    unseen: whether the model's card shows that it was not trained on the measured images. quality:
    by the type or the bits in which latents are stored. classifiers: by split; empty where there
    are no labels.
    """

    format: str = "emnist-latents evaluation"
    format_version: int = 2
    run_id: str
    created: str
    dataset: MeasuredDataset
    model: MeasuredModel
    unseen: bool
    images: ImageCounts
    versions: dict[str, str]
    points: list[Point]
    left_out: list[LeftOut]
    quality: dict[str, QualityReport]
    entropy: list[LatentEntropy]
    comparisons: list[Comparison]
    break_even: list[BreakEven]
    bd_rates: list[BdRate]
    classifiers: dict[str, Classification]
    files: list[ListedFile] = []
