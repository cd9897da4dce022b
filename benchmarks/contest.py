"""Who takes part in the benchmark, and how each is started."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from benchmarks.inputs import NPY, PARQUET

_ROOT = Path(__file__).parent.parent
_OWN_PACKAGES = (
    "apache-beam",
    "tensorflow",
    "keras",
    "ncnn",
    "ai-edge-litert",
    "numpy",
    "pyarrow",
)


class Way(NamedTuple):
    """One way to get the latents of all images.

    title: its name in the picture. environment: a rival's, one of benchmarks/environments; None for
    the job, whose environment has what its users install and not what its developers do (Beam
    imports pandas where it finds it). flags: the job's. reads: what is written for it. precision:
    what it computes in.
    """

    name: str
    title: str
    explanation: str
    environment: str | None = None
    flags: tuple[str, ...] = ()
    reads: str = NPY
    precision: str = "float32"


HAND_WRITTEN = Way(
    "hand_written",
    "a tf.function in a loop",
    "one tf.function on uint8 batches of 1,024, in a loop written by hand.",
    "tensorflow",
)
RIVALS = (
    HAND_WRITTEN,
    Way(
        "keras_predict",
        "Keras predict",
        "the notebook's way: a float32 copy of everything, then Keras predict.",
        "tensorflow",
    ),
    Way(
        "beam_documented",
        "Beam RunInference",
        "Beam's RunInference with TFModelHandlerNumpy as documented, an element being an image; "
        "the same tf.function as its inference_fn.",
        "beam",
    ),
    Way(
        "ray_data",
        "Ray Data map_batches",
        "Ray Data's map_batches with a class as documented, the same tf.function.",
        "ray",
        reads=PARQUET,
    ),
    Way(
        "spark_udf",
        "Spark predict_batch_udf",
        "Spark's predict_batch_udf as documented, the same tf.function.",
        "spark",
        reads=PARQUET,
    ),
)
JOB_NCNN = Way(
    "job-ncnn",
    "this job, ncnn",
    "this project, `--engine=ncnn`, its default where ncnn is installed.",
    flags=("--engine=ncnn",),
)
JOB_INT8 = Way(
    "job-litert-int8",
    "this job, LiteRT int8",
    "this project, `--engine=litert --precision=int8`.",
    flags=("--engine=litert", "--precision=int8"),
    precision="int8",
)
JOBS = (
    Way(
        "job-tensorflow",
        "this job, TensorFlow",
        "this project, `--engine=tensorflow`.",
        flags=("--engine=tensorflow",),
    ),
    JOB_NCNN,
    JOB_INT8,
)
WAYS = {way.name: way for way in (*RIVALS, *JOBS)}
GROWING = (JOB_NCNN, JOB_INT8)


class Contest(NamedTuple):
    """How to start the ways.

    one_environment: whether the rivals run in this Python too.
    """

    one_environment: bool

    def command(self, way: Way, images: Path, output: Path) -> list[str]:
        """A way's command, from the folder with the images to the folder for its latents."""
        python, source = self.python(way.environment), str(images / way.reads)
        if way.environment is not None:
            return [python, "-m", f"benchmarks.ways.{way.name}", source, str(output)]
        job = [python, "-m", "beam_job", "compress", f"--input={source}", f"--output={output}"]
        return [*job, "--quiet", *way.flags]

    def python(self, environment: str | None) -> str:
        """The interpreter of an environment."""
        if self.one_environment:
            return sys.executable
        return str(_ROOT / f".venv-bench-{environment or 'job'}/bin/python")

    def missing(self, ways: Sequence[Way]) -> list[str]:
        """The interpreters that are not there."""
        needed = dict.fromkeys(self.python(way.environment) for way in ways)
        return [python for python in needed if not Path(python).exists()]

    def versions(self, ways: Sequence[Way]) -> dict[str, str]:
        """What is installed in each environment, of what it asks for."""
        found = {}
        for environment in dict.fromkeys(way.environment for way in ways):
            listed = subprocess.run(
                [self.python(environment), "-m", "pip", "list", "--format=json"],
                capture_output=True,
                check=True,
            )
            versions = {one["name"].lower(): one["version"] for one in json.loads(listed.stdout)}
            names = [name for name in _packages(environment) if name in versions]
            found[environment or "job"] = ", ".join(f"{name} {versions[name]}" for name in names)
        return found


def _packages(environment: str | None) -> Sequence[str]:
    if environment is None:
        return _OWN_PACKAGES
    lines = (_ROOT / f"benchmarks/environments/{environment}.txt").read_text("utf-8").splitlines()
    return [Requirement(line).name for line in lines if not line.startswith("#")]
