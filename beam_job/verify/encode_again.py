"""Encoding images of a run again, to compare them with their latents."""

import tempfile

import numpy as np

from beam_job.datasets.catalog import counts_in_words
from beam_job.datasets.selection import ImageOptions
from beam_job.datasets.staging import open_dataset, with_packed_staged
from beam_job.outputs.run_directory import (
    CompleteRun,
)
from beam_job.outputs.run_model import model_of_run
from beam_job.progress import Progress, tick
from beam_job.verify.options import VerifyOptions
from beam_job.verify.read_back import Problem, Verified
from transforms.errors import InputError
from transforms.images import (
    NO_LABEL,
    ImageBatch,
    Shard,
    one_in,
)
from transforms.inputs.dataset import cut_shards
from transforms.inputs.read import read_shard
from transforms.models.arrays import latents_of
from transforms.models.choice import choose_engine, load_encoder
from transforms.models.network import Network
from transforms.quantize import Quantization, stored_values
from transforms.read_latents import InStep, LatentColumns, latent_batches
from transforms.shard_files import ShardFile
from transforms.storage.files import (
    child,
)

_TOLERANCE = 1e-4
"""How far apart the float32 latents of two engines may be, as a share of the largest (or of 1)."""

_READ_IMAGES = 1024


def compare_again(
    compressed: CompleteRun, options: VerifyOptions, against: ImageOptions, verified: Verified
) -> None:
    """Encodes images again and compares them with the run's latents.

    Raises InputError where the images, or the model, are not those of the run.
    """
    model = model_of_run(compressed, options.model, decodes=False)
    engine = choose_engine(model, None, compressed.manifest.model.precision)
    network = load_encoder(model, engine)
    every = -(-compressed.images // options.max_images)
    with tempfile.TemporaryDirectory(prefix="emnist-verify-") as folder:
        dataset = with_packed_staged(open_dataset(against), folder)
        if dataset.rows != compressed.staged:
            raise InputError(
                f"--against holds {counts_in_words(dataset.rows)}, and the run in "
                f"{compressed.folder} was made of {counts_in_words(compressed.staged)}: give the "
                "images that it was made of"
            )
        shards = {shard.key: shard for shard in cut_shards(dataset, compressed.shard_size)}
        with Progress(min(compressed.images, options.max_images), quiet=options.quiet) as progress:
            for key, file in compressed.shard_files():
                compared, problem = _compare_shard(compressed, shards[key], file, network, every)
                verified.compared += compared
                if problem is not None:
                    verified.problems.append(Problem(file.path, problem))
                tick(progress.path, compared)


def _compare_shard(
    compressed: CompleteRun, shard: Shard, file: ShardFile, network: Network, every: int
) -> tuple[int, str | None]:
    """How many images of a shard were encoded again, and what is wrong with their latents."""
    path = child(compressed.folder, file.path)
    stored = InStep(latent_batches(path, file.sha256, compressed.manifest.model, _READ_IMAGES))
    compared = 0
    for whole, _ in read_shard(shard, _READ_IMAGES):
        batch = whole.take(np.flatnonzero(one_in(whole.image_ids, every)))
        if not len(batch):
            continue
        found = stored.of(batch.image_ids)
        image_ids = np.concatenate([batch.image_ids[:0], *(part.image_ids for part in found)])
        missing = ~np.isin(batch.image_ids, image_ids)
        if missing.any():
            return compared, f"lacks image_id {batch.image_ids[missing][0]}"
        rows = LatentColumns(*map(np.concatenate, zip(*found, strict=True)))
        encoded = latents_of(network.compute, batch.pixels)
        problem = _difference(batch, rows, encoded, compressed, network.output_step)
        if problem is not None:
            return compared, problem
        compared += len(batch)
    return compared, None


def _difference(
    batch: ImageBatch,
    stored: LatentColumns,
    encoded: np.ndarray,
    compressed: CompleteRun,
    output_step: float,
) -> str | None:
    """What differs between images encoded again and what is stored of them; None for nothing."""
    relabelled = (
        (stored.labels != batch.labels) & (stored.labels != NO_LABEL) & (batch.labels != NO_LABEL)
    )
    if relabelled.any():
        return f"has another label for image_id {batch.image_ids[relabelled][0]}"
    model = compressed.manifest.model
    far = _far_apart(stored.latents, encoded, model.stored_dtype, model.quantization, output_step)
    if not far.any():
        return None
    return f"has other latents than the encoder gives for image_id {batch.image_ids[far][0]}"


def _far_apart(
    stored: np.ndarray,
    encoded: np.ndarray,
    dtype: str,
    quantization: Quantization | None,
    output_step: float = 0.0,
) -> np.ndarray:
    """Which rows differ by more than another engine, or another rounding, makes them: bool (n,).

    output_step: as Network has it. Other kernels, on another processor or by another version, round
    the sums of an encoder in int8 otherwise, which moves a value by one step.
    """
    expected = stored_values(encoded, dtype, quantization)
    difference = np.abs(stored.astype(np.float64) - expected.astype(np.float64))
    if quantization is not None:
        steps = np.ceil(output_step / np.asarray(quantization.scale, np.float64))
        return np.asarray((difference > steps + 1).any(axis=1))  # 1: on the edge of two levels.
    allowed = _TOLERANCE * np.maximum(1.0, np.abs(encoded).max(axis=1, keepdims=True)) + output_step
    if dtype == "float16":
        allowed = allowed + np.spacing(np.abs(expected)).astype(np.float64)
    return np.asarray((difference > allowed).any(axis=1))
