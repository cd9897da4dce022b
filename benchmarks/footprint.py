"""What a shard costs beside its images: bytes of graph and manifest, requests to a store.

`python -m benchmarks.footprint` writes FOOTPRINT.json (needs moto, an S3 server on this machine).
Bytes and requests are counted.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from beam_job.cli import parse
from beam_job.compress.complete import Run
from beam_job.compress.options import CompressOptions
from beam_job.outputs.attempt import Attempt, JobDataset
from beam_job.outputs.model_record import model_record
from beam_job.outputs.run_directory import MANIFEST, versions
from beam_job.runners.beam_flags import BeamFlags
from benchmarks.growth import fitted_line
from transforms.images import Segment, ShardKey, Stretch
from transforms.inputs.dataset import Dataset, ImageFile, cut_stretches
from transforms.inputs.readers.raw import RawLayout
from transforms.models.choice import NCNN, Engine, load_encoder
from transforms.models.directory import find_model
from transforms.settings import SHARD_SIZE
from transforms.storage.files import child

FOOTPRINT = Path(__file__).with_name("FOOTPRINT.json")
_GRAPH_SHARDS = (100, 1_000, 10_000)
_SAMPLE_SHARD_SIZES = (1_500, 15)


def main() -> None:
    """Measures, and writes what was found."""
    from benchmarks.store_requests import requests_a_file

    found = {
        "graph_bytes": {kind: graph_bytes(make, _GRAPH_SHARDS) for kind, make in DATASETS.items()},
        "manifest_bytes_a_file": manifest_bytes_a_file(),
        "requests_a_file": requests_a_file(),
    }
    text = json.dumps(found, indent=2) + "\n"
    print(text)
    FOOTPRINT.write_text(text, encoding="utf-8")


def staged_images(shards: int) -> Dataset:
    """A staged dataset in a bucket, a file a shard."""
    names = [ShardKey("train", number, shards, SHARD_SIZE).name for number in range(shards)]
    return _dataset(
        Segment(
            f"gs://a-bucket/data/balanced/images/{name}.parquet",
            "parquet",
            SHARD_SIZE,
            first_row=0,
            first_image_id=number * SHARD_SIZE,
            sha256=sha256(name.encode()).hexdigest(),
        )
        for number, name in enumerate(names)
    )


def raw_images(shards: int) -> Dataset:
    """One raw file in a bucket, with labels in no order."""
    rows = shards * SHARD_SIZE
    labels = np.random.default_rng(0).integers(0, 47, rows, np.uint8).tobytes()
    return _dataset(
        [
            Segment(
                "gs://a-bucket/images.npy", "raw", rows, 0, 0, False, RawLayout(128, rows), labels
            )
        ]
    )


DATASETS: Mapping[str, Callable[[int], Dataset]] = {
    "staged": staged_images,
    "raw with labels": raw_images,
}
"""What the graph is measured with, by name."""


def _dataset(segments: Iterable[Segment]) -> Dataset:
    files = tuple(ImageFile("train", segment) for segment in segments)
    return Dataset("balanced", files, {}, (), fingerprint="0" * 64)


def graph_bytes(make: Callable[[int], Dataset], counts: Iterable[int]) -> dict[str, int]:
    """The size of the graph as it goes to a runner, by number of shards."""
    return {str(shards): _graph_bytes(make(shards)) for shards in counts}


def _graph_bytes(dataset: Dataset) -> int:
    from beam_job.compress.pipeline import build_pipeline

    options = parse(["compress", "--dataset=balanced", "--output=gs://a-bucket/out"]).options
    assert isinstance(options, CompressOptions)  # noqa: S101  # So mypy knows what was parsed.
    stretches = cut_stretches(dataset, SHARD_SIZE)
    planned = _planned(options, dataset, stretches)
    pipeline = build_pipeline(planned, stretches, BeamFlags().options)
    return len(pipeline.to_runner_api().SerializeToString())


def _planned(options: CompressOptions, dataset: Dataset, stretches: list[Stretch]) -> Run:
    model, engine = find_model(None), Engine(NCNN)
    return Run(
        created="",
        attempt=Attempt(options.output, "0123456789ab"),
        dataset=JobDataset(
            dataset.name, dataset.fingerprint, dataset.rows, dataset.sources, dataset.characters
        ),
        shards={key.split: key.of for stretch in stretches for (key, _) in stretch.shards},
        model=model_record(model, engine, load_encoder(model, engine), "float32", None),
        flags=vars(options),
        versions=versions(),
        batch_size=options.batch_size,
        compatible=False,
        max_rejects=0,
        overwrite=False,
        decoder_engine=None,
        model_path=None,
    )


def manifest_bytes_a_file() -> int:
    """How much a further file adds to a manifest."""
    from beam_job.__main__ import run

    sizes: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for shard_size in _SAMPLE_SHARD_SIZES:
            output = child(folder, str(shard_size))
            flags = [f"--data_dir={folder}/data", f"--shard_size={shard_size}", "--quiet"]
            run(["compress", "--dataset=sample", f"--output={output}", *flags])
            content = Path(output, MANIFEST).read_bytes()
            sizes[len(json.loads(content)["files"])] = len(content)
    return round(fitted_line(sizes).slope)


if __name__ == "__main__":
    main()
