"""Ray Data's batch inference as documented: map_batches with a class that loads the model once.

`python -m benchmarks.ways.ray_data IMAGES_FOLDER OUT_FOLDER`
"""

import sys

import numpy as np
import ray.data

BATCH_SIZE = 1024


class Encoder:
    """What an actor keeps."""

    def __init__(self) -> None:
        from benchmarks.ways.encoder import compiled, load_encoder  # Here, so only actors load it.

        self._encode = compiled(load_encoder())

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = np.frombuffer(b"".join(batch["image"]), np.uint8).reshape(-1, 28, 28)
        return {"image_id": batch["image_id"], "latent": self._encode(images)}


def main(source: str, target: str) -> None:
    """Encodes Parquet of image_id and image, its 784 bytes.

    One actor, with TensorFlow's threads on all cores: an actor a core, of one thread each, took 1.2
    times the CPU. It asks for one core, since with all of them no core is left to read with.
    """
    images = ray.data.read_parquet(source)
    one_actor = ray.data.ActorPoolStrategy(size=1)
    latents = images.map_batches(Encoder, batch_size=BATCH_SIZE, compute=one_actor, num_cpus=1)
    latents.write_parquet(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
