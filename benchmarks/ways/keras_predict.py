"""The notebook's way: a float32 copy of everything, then Keras predict as it comes.

`python -m benchmarks.ways.keras_predict IMAGES.npy OUT_FOLDER`
"""

import sys

import numpy as np

from benchmarks.ways.encoder import load_encoder, write_latents


def main(source: str, target: str) -> None:
    """Encodes a .npy of uint8 images (n, 28, 28)."""
    images = np.load(source).astype("float32") / 255
    latents = load_encoder().predict(images.reshape(-1, 28, 28, 1), batch_size=32, verbose=0)
    write_latents(latents, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
