"""Beam transforms that turn files of images into Parquet files of latents.

batches, rejects = pipeline | ReadImagesFrom("train-images-idx3-ubyte")
files = (
    batches
    | beam.ParDo(NormalizeImages())
    | beam.ParDo(ReshapeImages())
    | Encode(EncoderHandler())
    | WriteLatents(folder, characters={}, metadata={})
)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transforms.decode import Decode, DecodedBatch, DecoderHandler, ReadLatents, WriteImages
    from transforms.encode import Encode, EncoderHandler
    from transforms.errors import InputError, JobError, RunError
    from transforms.images import ImageBatch, Reject, Segment, Shard, ShardKey, Stretch
    from transforms.inputs.files import stretches_of
    from transforms.latents import LatentBatch
    from transforms.preprocess import NormalizeImages, ReshapeImages
    from transforms.quality import ImageQuality, Quality
    from transforms.quantize import Quantization
    from transforms.read_images import ReadImages, ReadImagesFrom
    from transforms.read_latents import LatentShard, StoredBatch
    from transforms.shard_files import FinishedShard, ShardFile
    from transforms.sizes import Sizes
    from transforms.write_latents import ByteCounts, StoreLatents, WriteLatents

__all__ = [
    "ByteCounts",
    "Decode",
    "DecodedBatch",
    "DecoderHandler",
    "Encode",
    "EncoderHandler",
    "FinishedShard",
    "ImageBatch",
    "ImageQuality",
    "InputError",
    "JobError",
    "LatentBatch",
    "LatentShard",
    "NormalizeImages",
    "Quality",
    "Quantization",
    "ReadImages",
    "ReadImagesFrom",
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
    "Stretch",
    "WriteImages",
    "WriteLatents",
    "stretches_of",
]

# Where the names are; those that need no Beam first, so that it is not imported for them.
_MODULES = (
    "errors",
    "images",
    "inputs.files",
    "latents",
    "quantize",
    "shard_files",
    "sizes",
    "preprocess",
    "quality",
    "read_images",
    "write_latents",
    "encode",
    "read_latents",
    "decode",
)

if not TYPE_CHECKING:  # What has no type would hide a wrong name.

    def __getattr__(name: str) -> Any:
        """A public name, imported when it is first asked for: many need Beam, and some do not."""
        for module in _MODULES if name in __all__ else ():
            found = getattr(import_module(f"{__name__}.{module}"), name, None)
            if found is not None:
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
