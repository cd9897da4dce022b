"""What a run and its files say of the model that made their latents."""

from typing import Any

import numpy as np

from transforms.model_directory import Model
from transforms.quantize import Quantization

STORED_DTYPES = {"float32": "float32", "float16": "float16", "int8": "uint8"}
"""The type of the values in the files: int8 latents are numbers from 0 up, so uint8."""


def model_facts(
    model: Model, encoder: Any, latent_dtype: str, quantization: Quantization | None
) -> dict[str, Any]:
    """The model of a run, as its manifest has it. encoder: the Keras encoder of the model."""
    latent_size = int(encoder.output_shape[-1])
    return {
        "name": model.name,
        "sha256": model.encoder_sha256,
        "decoder_sha256": model.decoder_sha256,
        "parameters": encoder.count_params(),
        "input": list(encoder.input_shape[1:]),
        "latent_size": latent_size,
        "latent_dtype": latent_dtype,
        "latent_bytes": latent_size * np.dtype(STORED_DTYPES[latent_dtype]).itemsize,
        "quantization": quantization and quantization.to_json(),
    }


def latents_metadata(dataset: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What each Parquet file of a run says of itself; facts: those of model_facts."""
    value = "latent" if facts["quantization"] is None else "offset + scale * latent"
    return {
        "dataset": dataset,
        "model": facts,
        "encoding": "value = encoder(pixels / 255), pixels upright, (28, 28, 1), from 0 to 255",
        "decoding": f"pixels = 255 * decoder(value), value = {value} (scale and offset in "
        "model.quantization, one of each a dimension), with the decoder of model.decoder_sha256"
        if facts["decoder_sha256"]
        else "none: the model is an encoder alone",
    }
