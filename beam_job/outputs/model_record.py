"""What a run and its files say of the model that made their latents."""

from typing import Any

import msgspec
import numpy as np

from beam_job.outputs.redaction import without_credentials
from transforms.json_documents import is_count
from transforms.models.choice import INT8, Engine
from transforms.models.directory import Model
from transforms.models.network import Network
from transforms.quantize import Quantization

STORED_DTYPES = {"float32": "float32", "float16": "float16", "int8": "uint8"}
"""The type of the values in the files: int8 latents are numbers from 0 up, so uint8."""

MODEL_FACTS = {
    "name": str,
    "sha256": str,
    "decoder_sha256": (str, None),
    "precision": str,
    "latent_size": is_count,
    "latent_dtype": lambda dtype: isinstance(dtype, str) and dtype in STORED_DTYPES,
    "latent_bytes": is_count,
    "quantization": (dict, None),
}
"""The shape of what model_facts gives, as far as it is read again."""


def model_facts(
    model: Model,
    engine: Engine,
    encoder: Network,
    latent_dtype: str,
    quantization: Quantization | None,
) -> dict[str, Any]:
    """The model of a run, as its manifest has it. encoder: as the engine has loaded it."""
    (latent_size,) = encoder.output_shape
    return {
        "name": without_credentials(model.name),
        "sha256": model.encoder_sha256,
        "decoder_sha256": model.decoder_sha256,
        "parameters": encoder.parameters,
        "input": list(encoder.input_shape),
        "engine": engine.name,
        "precision": engine.precision,
        "int8_sha256": model.encoder_int8_sha256 if engine.precision == INT8 else None,
        "latent_size": latent_size,
        "latent_dtype": latent_dtype,
        "latent_bytes": latent_size * np.dtype(STORED_DTYPES[latent_dtype]).itemsize,
        "quantization": msgspec.to_builtins(quantization),
    }


def latents_metadata(dataset: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What each Parquet file of a run says of itself; facts: those of model_facts."""
    value = "latent" if facts["quantization"] is None else "offset + scale * latent"
    encoder = "encoder in int8" if facts["precision"] == INT8 else "encoder"
    return {
        "dataset": dataset,
        "model": facts,
        "encoding": f"value = {encoder}(pixels / 255), pixels upright, (28, 28, 1), from 0 to 255",
        "decoding": f"pixels = 255 * decoder(value), value = {value} (scale and offset in "
        "model.quantization, one of each a dimension), with the decoder of model.decoder_sha256"
        if facts["decoder_sha256"]
        else "none: the model is an encoder alone",
    }
