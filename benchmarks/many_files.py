"""Time and memory of a run of very many files: publishing, reading back, verifying, overwriting.

    python -m benchmarks.many_files --files=1000000

A shard is one image, so files are small and as many as a run of 16 billion images has. Their
latents are all the same. Each step is a process of its own, and starts from the files on the disk.
"""

import argparse
import multiprocessing
import os
import resource
import struct
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path

import numpy as np

from beam_job.compress.complete import Run, complete
from beam_job.outputs.attempt import Attempt, JobDataset, begin
from beam_job.outputs.model_record import latents_metadata, model_record
from beam_job.outputs.run_directory import complete_run, versions
from beam_job.verify.read_back import read_back
from transforms.images import NO_LABEL, PIXELS, ShardKey
from transforms.inputs.dataset import shard_keys
from transforms.latents import (
    LATENTS_FOLDER,
    LatentBatch,
    LatentsMetadata,
    latent_table,
    parquet_bytes,
)
from transforms.models.choice import NCNN, Engine, load_encoder
from transforms.models.directory import find_model
from transforms.shard_files import ShardFile
from transforms.sizes import Sizes

_FIRST_ID = 1 << 28
"""From here on an image_id takes as many bytes in each file."""
_KILOBYTES = 1024


def main() -> None:
    """Runs the steps and prints a table."""
    parser = argparse.ArgumentParser(description="Time and memory of a run of very many files.")
    parser.add_argument("--files", type=int, default=100_000)
    files = parser.parse_args().files
    print(f"| {files:,} files | seconds | MB at most |")
    print("|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for step in (nothing, publish, read, verify, overwrite, verify):
            receiver, sender = multiprocessing.Pipe(duplex=False)
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=_measured, args=(step, folder, files, sender))
            process.start()
            sender.close()
            seconds, kilobytes = receiver.recv()
            process.join()
            print(f"| {step.__name__} | {seconds:.0f} | {kilobytes / _KILOBYTES:.0f} |", flush=True)


def _measured(
    step: "Callable[[str, int], float]",
    folder: str,
    files: int,
    sender: "multiprocessing.connection.Connection",
) -> None:
    seconds = step(folder, files)
    sender.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def nothing(_folder: str, _files: int) -> float:
    """What a process takes that has imported all."""
    load_encoder(find_model(None), Engine(NCNN))
    return 0


def publish(folder: str, files: int) -> float:
    """Seals a run."""
    return _complete(folder, files, overwrite=False)


def overwrite(folder: str, files: int) -> float:
    """Seals another run in its place."""
    return _complete(folder, files, overwrite=True)


def read(folder: str, files: int) -> float:
    """Reads what there is, and where."""
    started = time.monotonic()
    run = complete_run(folder)
    if run.images != files or sum(1 for _ in run.shard_files()) != files:
        raise RuntimeError("not all files are in the list")
    return time.monotonic() - started


def verify(folder: str, files: int) -> float:
    """Compares all files with the manifest."""
    started = time.monotonic()
    verified = read_back(complete_run(folder))
    if verified.problems or verified.images != {"all": files}:
        raise RuntimeError(str(verified.problems[:3]))
    return time.monotonic() - started


def _complete(folder: str, files: int, *, overwrite: bool) -> float:
    model, engine = find_model(None), Engine(NCNN)
    facts = model_record(model, engine, load_encoder(model, engine), "float32", None)
    attempt = begin(folder, "--output")
    written = list(_written(attempt, files, parquet_of(latents_metadata("stand-in", facts))))
    run = Run(
        attempt=attempt,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        dataset=JobDataset("stand-in", None, {"all": files}, (), {}),
        shards={"all": files},
        model=facts,
        flags={"overwrite": overwrite, "parquet": "small", "shard_size": 1, "dataset": None},
        versions=versions(),
        batch_size=1,
        compatible=False,
        max_rejects=0,
        overwrite=overwrite,
        decoder_engine=None,
        model_path=None,
    )
    latent_bytes, size = files * facts.latent_bytes, sum(file.bytes for file in written)
    sizes = Sizes(files, 0, files, files, files * PIXELS, files * PIXELS * 4, latent_bytes, size)
    started = time.monotonic()
    complete(run, iter(written), {"all": sizes}, [], [])
    return time.monotonic() - started


def _written(
    attempt: Attempt, files: int, content_of: Callable[[int], bytes]
) -> Iterator[ShardFile]:
    top = Path(attempt.folder)
    (top / LATENTS_FOLDER / "split=all").mkdir(parents=True)
    images_sha256 = sha256(b"").hexdigest()
    for number, (_, key) in enumerate(shard_keys("all", files, 1)):
        image_id = _FIRST_ID + number
        content = content_of(image_id)
        path = f"{LATENTS_FOLDER}/{key.name}.{uuid.uuid4().hex[:12]}.parquet"
        descriptor = os.open(top / path, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, content)
        os.close(descriptor)
        ends = (image_id, image_id)
        facts = (len(content), sha256(content).hexdigest())
        yield ShardFile(path, "all", 1, *facts, *ends, images_sha256)


def parquet_of(metadata: LatentsMetadata) -> Callable[[int], bytes]:
    """Makes files of one latent by image_id, from one that pyarrow has written."""
    key, labels = ShardKey("all", 0, 1, 1), np.full(1, NO_LABEL, np.int16)
    latents = np.ones((1, 32), np.float32)
    batch = LatentBatch(key, 1, np.array([_FIRST_ID]), labels, latents)
    template = parquet_bytes(latent_table(batch, {}), metadata)
    old = _as_stored(_FIRST_ID)

    def content(image_id: int) -> bytes:
        changed = template
        for before, after in zip(old, _as_stored(image_id), strict=True):
            changed = changed.replace(before, after)
        return changed

    return content


def _as_stored(image_id: int) -> tuple[bytes, bytes]:
    """An image_id as it is in a page (zigzag, 7 bits a byte) and in statistics."""
    groups = [2 * image_id >> shift & 127 for shift in range(0, 35, 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]]), struct.pack("<q", image_id)


if __name__ == "__main__":
    main()
