"""Images a second of `train`, with bfloat16 and with float32, as a ratio.

    EMNIST_DATA=... python -m benchmarks.training_speed

Both train the same network on the same images, in turns, so that what else the machine does weighs
on both. The ratio is the median over the rounds.
"""

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np

from beam_job.train.fit import BFLOAT16, FLOAT32, Settings, build_learner
from beam_job.train.learner import Learner
from benchmarks.digits import add_data_flag, load_images

ROUNDS, STEPS, BATCH = 5, 30, 256
SETTINGS = Settings(
    epochs=1,
    batch_size=BATCH,
    learning_rate=0.01,
    seed=0,
    latent_noise=0.04,
    compactness=0.01,
    augmentation=1.0,
)


def main() -> None:
    """Trains both in turns, and prints a table."""
    parser = argparse.ArgumentParser(description="Images a second of training.")
    add_data_flag(parser)
    images = load_images(parser.parse_args().data).reshape(-1, 784)
    learners = {
        dtype: build_learner(replace(SETTINGS, compute_dtype=dtype), steps=10_000)
        for dtype in (FLOAT32, BFLOAT16)
    }
    for learner in learners.values():
        images_a_second(learner, images)  # The first call traces the graph.
    rates: dict[str, list[float]] = {dtype: [] for dtype in learners}
    for _ in range(ROUNDS):
        for dtype, learner in learners.items():
            rates[dtype].append(images_a_second(learner, images))
    print("| numbers | images a second |")
    print("|---|---:|")
    for dtype, found in rates.items():
        print(f"| {dtype} | {statistics.median(found):.0f} |")
    ratios = [small / wide for small, wide in zip(rates[BFLOAT16], rates[FLOAT32], strict=True)]
    print(f"\nratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def images_a_second(learner: Learner, images: np.ndarray) -> float:
    """Of some steps of training."""
    start = time.perf_counter()
    for step in range(STEPS):
        learner.train_on_batch(images[step * BATCH : (step + 1) * BATCH])
    return STEPS * BATCH / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
