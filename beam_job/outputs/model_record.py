"""What a run and its files record of the model that made their latents."""

import numpy as np

from beam_job.outputs.redaction import without_credentials
from transforms.latents import STORED_DTYPES, LatentsMetadata, ModelRecord
from transforms.models.choice import INT8, Engine
from transforms.models.directory import Model
from transforms.models.network import Network
from transforms.quantize import Quantization


def model_record(
    model: Model,
    engine: Engine,
    encoder: Network,
    latent_dtype: str,
    quantization: Quantization | None,
) -> ModelRecord:
    """The record of a model. encoder: as an engine has loaded it."""
    (latent_size,) = encoder.output_shape
    return ModelRecord(
        name=without_credentials(model.name),
        sha256=model.encoder_sha256,
        decoder_sha256=model.decoder_sha256,
        parameters=encoder.parameters,
        input=tuple(encoder.input_shape),
        engine=engine.name,
        precision=engine.precision,
        int8_sha256=model.encoder_int8_sha256 if engine.precision == INT8 else None,
        latent_size=latent_size,
        latent_dtype=latent_dtype,
        latent_bytes=latent_size * np.dtype(STORED_DTYPES[latent_dtype]).itemsize,
        quantization=quantization,
    )


def latents_metadata(dataset: str, model: ModelRecord) -> LatentsMetadata:
    """What each file of a run says of itself. dataset: its name."""
    value = "latent" if model.quantization is None else "offset + scale * latent"
    encoder = "encoder in int8" if model.precision == INT8 else "encoder"
    decoding = (
        f"pixels = 255 * decoder(value), value = {value} (scale and offset in "
        "model.quantization, one of each a dimension), with the decoder of model.decoder_sha256"
    )
    return LatentsMetadata(
        dataset,
        model,
        f"value = {encoder}(pixels / 255), pixels upright, (28, 28, 1), from 0 to 255",
        decoding if model.decoder_sha256 else "none: the model is an encoder alone",
    )
