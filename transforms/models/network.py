"""A network ready to compute, whatever engine it is that computes it."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Compute = Callable[[np.ndarray], np.ndarray]
"""float32 (n, *input_shape) to float32 (n, *output_shape), for any n of at least 1."""


@dataclass(frozen=True)
class Network:
    """An encoder or a decoder, loaded. Shapes are those of one image, without the batch.

    output_step: the difference between two neighbouring values that the network can give, where it
    computes in whole numbers; 0 where it computes in floats.
    """

    compute: Compute
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    output_step: float = 0.0


def usable_cores() -> int:
    """The cores that this process may run on, all of which an engine is to use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
