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

from transforms.decode import (
    Decode,
    DecodedBatch,
    KerasDecoderHandler,
    LatentShard,
    ReadLatents,
    StoredBatch,
    WriteImages,
)
from transforms.encode import Encode, KerasEncoderHandler
from transforms.errors import InputError, JobError, RunError
from transforms.images import ImageBatch, ReadImages, Reject, Segment, Shard, ShardKey
from transforms.latents import LatentBatch, WriteLatents
from transforms.preprocess import NormalizeImages, ReshapeImages
from transforms.quality import ImageQuality, Quality
from transforms.quantize import Quantization, StoreLatents
from transforms.shard_files import ShardFile
from transforms.sizes import ByteCounts, Sizes

__all__ = [
    "ByteCounts",
    "Decode",
    "DecodedBatch",
    "Encode",
    "ImageBatch",
    "ImageQuality",
    "InputError",
    "JobError",
    "KerasDecoderHandler",
    "KerasEncoderHandler",
    "LatentBatch",
    "LatentShard",
    "NormalizeImages",
    "Quality",
    "Quantization",
    "ReadImages",
    "ReadLatents",
    "Reject",
    "ReshapeImages",
    "RunError",
    "Segment",
    "Shard",
    "ShardFile",
    "ShardKey",
    "Sizes",
    "StoreLatents",
    "StoredBatch",
    "WriteImages",
    "WriteLatents",
]
