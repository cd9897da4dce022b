"""Beam transforms that turn shards of images into Parquet files of latents.

batches, rejects = shards | ReadImages(batch_size=1024)
files = (
    batches
    | beam.ParDo(NormalizeImages())
    | beam.ParDo(ReshapeImages())
    | Encode(KerasEncoderHandler())
    | WriteLatents(folder, characters={}, metadata={})
)
"""

from transforms.encode import Encode, KerasEncoderHandler
from transforms.errors import InputError, JobError, RunError
from transforms.images import ImageBatch, ReadImages, Reject, Segment, Shard, ShardKey
from transforms.latents import LatentBatch, LatentFile, WriteLatents
from transforms.preprocess import NormalizeImages, ReshapeImages
from transforms.sizes import ByteCounts, Sizes

__all__ = [
    "ByteCounts",
    "Encode",
    "ImageBatch",
    "InputError",
    "JobError",
    "KerasEncoderHandler",
    "LatentBatch",
    "LatentFile",
    "NormalizeImages",
    "ReadImages",
    "Reject",
    "ReshapeImages",
    "RunError",
    "Segment",
    "Shard",
    "ShardKey",
    "Sizes",
    "WriteLatents",
]
