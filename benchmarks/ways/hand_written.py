"""What a good engineer writes by hand: one tf.function on uint8 batches, no Beam.

`python -m benchmarks.ways.hand_written IMAGES.npy OUT_FOLDER`
"""

import sys

import numpy as np

from benchmarks.ways.encoder import LATENT_SIZE, compiled, load_encoder, write_latents

BATCH_SIZE = 1024


def main(source: str, target: str) -> None:
    """Encodes a .npy of uint8 images (n, 28, 28)."""
    images = np.load(source, mmap_mode="r")
    encode = compiled(load_encoder())
    latents = np.empty((len(images), LATENT_SIZE), np.float32)
    for start in range(0, len(images), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        latents[batch] = encode(images[batch])
    write_latents(latents, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
