"""What a run does, counted: what takes time is elements, encoder calls, shuffled bytes, copies.

A change that makes an element an image again, shuffles images, or copies a batch once more, fails
here, whatever the machine.
"""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from apache_beam.metrics import monitoring_infos

from beam_job.__main__ import run
from beam_job.runners import pipelines
from tests.test_imports import SCRIPT
from transforms import encode
from transforms.inputs.dataset import cut_shards
from transforms.inputs.files import files_dataset
from transforms.inputs.read import read_shard
from transforms.models.choice import Engine
from transforms.preprocess import NormalizeImages, ReshapeImages

IMAGES, SHARD_SIZE, BATCH_SIZE = 2500, 1000, 300
SHARDS = 3
BATCHES = 4 + 4 + 2
SAMPLED = 500
# With each, the copies that the library makes itself of a NumPy array.
ENGINES = [(Engine("tensorflow"), 1), (Engine("ncnn"), 0), (Engine("litert", "int8"), 0)]


class Counted:
    """What the runner and the encoder counted in one run."""

    def __init__(self, pipeline, result, calls: list[int]) -> None:
        self.calls = calls
        self.elements: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        for info in result.monitoring_infos():
            name = info.labels.get("PCOLLECTION")
            if info.urn == monitoring_infos.ELEMENT_COUNT_URN:
                self.elements[name] = monitoring_infos.extract_counter_value(info)
            elif info.urn == monitoring_infos.SAMPLED_BYTE_SIZE_URN:
                sampled, total, _, _ = monitoring_infos.extract_distribution(info)
                self.bytes[name] = total * self.elements_of(name, sampled) // max(1, sampled)
        self.components = pipeline.to_runner_api().components

    def elements_of(self, name: str, sampled: int) -> int:
        return max(sampled, self.elements.get(name, 0))

    def after(self, step: str) -> int:
        """The elements that a step of the graph gave."""
        (outputs,) = [
            transform.outputs.values()
            for transform in self.components.transforms.values()
            if transform.unique_name == step
        ]
        return max(self.elements[name] for name in outputs)

    def shuffled(self) -> int:
        """The bytes that go from one stage to another: into a grouping, or to a side input."""
        crossing = set()
        for transform in self.components.transforms.values():
            inputs = dict(transform.inputs)
            if transform.spec.urn == "beam:transform:group_by_key:v1":
                crossing |= set(inputs.values())
            elif transform.spec.urn == "beam:transform:pardo:v1":
                # The main input comes first; all others are side inputs.
                crossing |= set(list(inputs.values())[1:])
        return sum(self.bytes.get(name, 0) for name in crossing)


@pytest.fixture(scope="module")
def images_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28), np.uint8))
    return path


@pytest.fixture(scope="module")
def counted(images_file, tmp_path_factory) -> Counted:
    calls: list[int] = []
    found = {}
    load_encoder = encode.load_encoder

    def load_counting(model, engine):
        network = load_encoder(model, engine)

        def compute(batch):
            calls.append(len(batch))
            return network.compute(batch)

        return type(network)(compute, network.input_shape, network.output_shape, network.parameters)

    def run_and_keep(pipeline):
        found["pipeline"], found["result"] = pipeline, pipeline.run()
        found["result"].wait_until_finish()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "load_encoder", load_counting)
        patch.setattr(pipelines, "run_to_end", run_and_keep)
        output = tmp_path_factory.mktemp("run") / "out"
        flags = [f"--input={images_file}", f"--output={output}", "--quiet"]
        sizes = [f"--shard_size={SHARD_SIZE}", f"--batch_size={BATCH_SIZE}"]
        assert run(["compress", *flags, *sizes]) == 0
    return Counted(found["pipeline"], found["result"], calls)


def test_the_encoder_is_called_once_a_batch(counted):
    assert sorted(counted.calls) == sorted([300, 300, 300, 100] * 2 + [300, 200])


def test_an_element_is_a_batch_or_a_file_and_never_an_image(counted):
    for step in ("NormalizeImages", "ReshapeImages", "StoreLatents"):
        assert counted.after(step) == BATCHES
    assert max(counted.elements.values()) == BATCHES
    assert counted.after("Counts") == SHARDS


def test_only_shards_counts_and_the_reports_sample_are_shuffled(counted):
    sample = SAMPLED * 1.3 * (784 + 128 + 20)
    assert 0 < counted.shuffled() < sample + 3000 * SHARDS
    assert counted.shuffled() < IMAGES * 784 / 2


@pytest.mark.parametrize(("engine", "copies"), ENGINES)
def test_a_batch_is_copied_once(images_file, engine, copies):
    """As float32 pixels; what is read is looked at in place, and reshaping is a view."""
    (shard,) = cut_shards(files_dataset(str(images_file), None, "auto"), IMAGES)
    handler = encode.EncoderHandler(engine=engine)
    network = handler.load_model()
    normalize, reshape = NormalizeImages(), ReshapeImages()

    def encoded():
        ((batch, _),) = read_shard(shard, IMAGES)
        (batch,) = normalize.process(batch)
        (batch,) = reshape.process(batch)
        return handler.result(batch, network)

    encoded()  # What is made once is none of a batch's.
    tracemalloc.start()
    try:
        latents = encoded().latents
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    pixels, normalized = IMAGES * 784, IMAGES * 784 * 4
    most = pixels + (1 + copies) * normalized + 3 * latents.nbytes
    assert pixels + normalized < peak < most


@pytest.mark.parametrize("flags", [["--engine=ncnn"], ["--precision=int8"]], ids=str)
def test_a_light_engine_imports_no_tensorflow(images_file, tmp_path, flags):
    # Beam itself takes pandas where it is installed; the report takes Matplotlib.
    refused = SCRIPT.replace('"apache_beam", ', "").replace('"matplotlib", "pandas", ', "")
    assert {"tensorflow", "keras"} <= set(refused.split('"'))
    assert "apache_beam" not in refused
    code = refused + "from beam_job.__main__ import run\nassert run(sys.argv[1:]) == 0"
    argv = ["compress", f"--input={images_file}", f"--output={tmp_path}/out", *flags, "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
