"""LiteRT: TensorFlow's light engine, here for encoders quantized to int8."""

from threading import Lock
from typing import Any

import numpy as np

from transforms.errors import InputError, first_line
from transforms.models.network import Compute, Network, usable_cores
from transforms.quiet import stderr_held_back

_PROBES = 32
_ROUNDING = 1e-5
"""Between values that are the same multiple of a step, in float32."""
_MULTIPLE = 1e-2
"""How far from a whole number of steps a value may be, for rounding."""


def network(name: str, content: bytes, parameters: int) -> Network:
    """A network from a .tflite file that takes and gives float32.

    name: of the model, for errors. parameters: those of the network that it was made of. Raises
    InputError where the content is none that LiteRT can load.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        with stderr_held_back():
            interpreter = Interpreter(model_content=content, num_threads=usable_cores())
            interpreter.allocate_tensors()
        (takes,) = interpreter.get_input_details()
        (gives,) = interpreter.get_output_details()
        compute = compute_function(interpreter)
        compute(np.zeros((2, *takes["shape"][1:]), np.float32))  # Some damage shows only here.
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"--model={name}: its int8 encoder cannot be loaded ({first_line(error)}): train it "
            "again"
        ) from error
    shape = tuple(map(int, takes["shape"][1:]))
    output_shape = tuple(map(int, gives["shape"][1:]))
    return Network(compute, shape, output_shape, parameters, _output_step(compute, shape))


def _output_step(compute: Compute, shape: tuple[int, ...]) -> float:
    """What one step of the network's last whole numbers is worth; 0 where it ends in floats.

    All that it gives are multiples of it, so the least difference of many values is one. (LiteRT
    has no public way to ask for the scale of a tensor within the network.)
    """
    noise = np.random.default_rng(0).random((_PROBES, *shape), np.float32)
    values = np.unique(compute(noise)).astype(np.float64)
    differences = np.diff(values)
    differences = differences[differences > _ROUNDING]
    if not len(differences):
        return 0.0
    span = float(values[-1] - values[0])
    step = span / round(span / float(differences.min()))  # Without the rounding of a single one.
    steps = values / step
    return step if np.allclose(steps, np.rint(steps), atol=_MULTIPLE) else 0.0


def compute_function(interpreter: Any) -> Compute:
    """What runs an interpreter's network, of one input and one output, on any number of images."""
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    # Beam's worker threads share a model, and an interpreter bears one at a time; with all its own
    # threads at work, a second one would have no core to run on.
    lock = Lock()

    def compute(batch: np.ndarray) -> np.ndarray:
        with lock:
            return one_at_a_time(batch)

    def one_at_a_time(batch: np.ndarray) -> np.ndarray:
        if interpreter.get_input_details()[0]["shape"][0] != len(batch):
            interpreter.resize_tensor_input(takes["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(takes["index"], batch)
        interpreter.invoke()
        values: np.ndarray = interpreter.get_tensor(gives["index"])
        return values

    return compute
