"""The machine's limit: how fast its cores do a large matrix product.

`python -m benchmarks.limit float32` (or int8) prints operations a second, of which a multiply-add
is two.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PRECISIONS = ("float32", "int8")
_ROOT = Path(__file__).parent.parent
_SIZE = 3072
_PRODUCTS = 5


def measured_limit(precision: str) -> float:
    """Operations a second, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.limit", precision]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stderr}\nexit status {done.returncode} from: {shlex.join(command)}")
    return float(done.stdout)


def main(precision: str) -> None:
    """Prints the rate of the fastest of several products."""
    multiply = {"float32": float32_product, "int8": int8_product}[precision]()
    multiply()  # The first prepares its memory.
    seconds = []
    for _ in range(_PRODUCTS):
        started = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - started)
    print(2 * _SIZE**3 / min(seconds))


def float32_product() -> Callable[[], None]:
    """TensorFlow's matmul; OpenBLAS and LiteRT are no faster."""
    import tensorflow as tf

    matrix = tf.random.uniform((_SIZE, _SIZE))

    def multiply() -> None:
        tf.matmul(matrix, matrix).numpy()  # Which waits for it.

    return multiply


def int8_product() -> Callable[[], None]:
    """A fully connected layer of LiteRT with int8 weights, inputs and outputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=_int8_layer(), num_threads=os.cpu_count())
    position = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(position, (_SIZE, _SIZE))
    interpreter.allocate_tensors()
    numbers = np.random.default_rng(0).integers(-128, 128, (_SIZE, _SIZE), np.int8)
    interpreter.set_tensor(position, numbers)

    def multiply() -> None:
        interpreter.invoke()

    return multiply


def _int8_layer() -> bytes:
    """A .tflite model of one square matrix."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    weights = tf.constant(random.standard_normal((_SIZE, _SIZE), np.float32))
    batch = tf.TensorSpec((None, _SIZE), tf.float32)
    layer = tf.function(lambda rows: tf.matmul(rows, weights)).get_concrete_function(batch)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([layer])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: [[random.random((1, _SIZE), np.float32)]]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


if __name__ == "__main__":
    main(*sys.argv[1:])
