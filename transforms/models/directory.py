"""The model directory: encoder, decoder, and the card that says what they are."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any

import msgspec

from transforms.errors import InputError, first_line
from transforms.json_documents import MAX_JSON_BYTES, Count, Header, check_version, decode
from transforms.models.keras_file import MAX_NETWORK_BYTES
from transforms.quantize import Quantization
from transforms.storage.files import exists, join_path, read_bytes

ENCODER_FILE = "encoder.keras"
ENCODER_INT8_FILE = "encoder-int8.tflite"
DECODER_FILE = "decoder.keras"
CARD_FILE = "model.json"
CARD_FORMAT = "emnist-latents model"
CARD_VERSION = 1
"""The newest version of CARD_FORMAT, and the one that is written."""

PRETRAINED = "pretrained"
"""The name of the model that comes with the package."""


class NetworkFile(msgspec.Struct, frozen=True):
    """A file of a model, in bytes and SHA-256 in hex."""

    sha256: str
    bytes: Count = 0


class Parameters(msgspec.Struct, frozen=True):
    """The number of weights of each network."""

    encoder: Count = 0
    decoder: Count = 0


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a model directory says of itself, in CARD_FILE.

    data, settings, initial_model, best_epoch, history: how it was trained. quality, classes: what
    held-out images lose, by how latents are stored, and by class. latent: its values. quantization:
    by bits. Raises ValueError where a network is missing.
    """

    format: str = CARD_FORMAT
    format_version: Count = CARD_VERSION
    run_id: str = ""
    latent_size: Count = 0
    parameters: Parameters = Parameters()
    data: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    initial_model: dict[str, Any] | None = None
    best_epoch: Count = 0
    quality: dict[str, Any] = {}
    classes: dict[str, Any] = {}
    latent: dict[str, Any] = {}
    quantization: dict[int, Quantization]
    warnings: list[str] = []
    history: list[Any] = []
    versions: dict[str, str] = {}
    files: dict[str, NetworkFile]

    def __post_init__(self) -> None:
        if missing := {ENCODER_FILE, DECODER_FILE} - set(self.files):
            raise ValueError(f"it names no {min(missing)}")
        if ENCODER_INT8_FILE in self.files and not self.latent_size:
            raise ValueError("it has no latent_size")


@dataclass(frozen=True)
class Model:
    """A model as it is named and found; its networks are not loaded yet.

    name: as the user gave it. encoder, decoder: paths of `.keras` files and the SHA-256 that they
    have to have; the decoder is None where `name` is a lone encoder. card: what CARD_FILE holds.
    encoder_int8: the encoder in int8, for LiteRT; None where none was made.
    """

    name: str
    encoder: str
    encoder_sha256: str
    decoder: str | None = None
    decoder_sha256: str | None = None
    card: ModelCard | None = None
    encoder_int8: str | None = None
    encoder_int8_sha256: str | None = None

    def quantization(self, bits: int) -> Quantization | None:
        """How this model's latents go into so many bits; None where it was never calibrated."""
        return None if self.card is None else self.card.quantization.get(bits)


def find_model(name: str | None) -> Model:
    """The model of a name: a model directory, a lone `.keras` encoder, or None for PRETRAINED.

    Raises InputError where it is missing, is not what its card says, or has a newer format.
    """
    if name is not None and exists(join_path(name, CARD_FILE)):
        return _model_directory(name, name)
    if name is None or name == PRETRAINED:
        return _model_directory(PRETRAINED, str(files("transforms").joinpath(PRETRAINED)))
    try:
        return Model(name, name, sha256(read_bytes(name, MAX_NETWORK_BYTES)).hexdigest())
    except OSError as error:
        raise InputError(
            f"--model={name} is neither a folder with a {CARD_FILE}, which train writes last, nor "
            f"a .keras file ({error}): give one that is"
        ) from error


def _model_directory(name: str, folder: str) -> Model:
    path = join_path(folder, CARD_FILE)
    try:
        content = read_bytes(path, MAX_JSON_BYTES)
        header = decode(content, Header)
        if header.format != CARD_FORMAT:
            raise ValueError(f"its format is {header.format!r}")
        check_version(header, CARD_VERSION, f"--model={name}: its {CARD_FILE}")
        card = decode(content, ModelCard)
    except (ValueError, OSError) as error:
        raise InputError(
            f"--model={name}: its {CARD_FILE} is not what train writes ({type(error).__name__}: "
            f"{first_line(error)}): train it again"
        ) from error
    # Models that were trained before there were int8 encoders have none.
    networks = (ENCODER_FILE, DECODER_FILE, ENCODER_INT8_FILE)
    stated = {file: card.files[file].sha256 for file in networks if file in card.files}
    paths = {file: join_path(folder, file) for file in stated}
    for file, expected in stated.items():
        check_content(name, file, file_content(name, paths[file]), expected)
    return Model(
        name,
        paths[ENCODER_FILE],
        stated[ENCODER_FILE],
        paths[DECODER_FILE],
        stated[DECODER_FILE],
        card,
        paths.get(ENCODER_INT8_FILE),
        stated.get(ENCODER_INT8_FILE),
    )


def check_content(name: str, file: str, content: bytes, expected_sha256: str) -> None:
    """Raises InputError unless a file of a model has the SHA-256 that it should have."""
    if sha256(content).hexdigest() != expected_sha256:
        raise InputError(
            f"--model={name}: {file} is not the one that {CARD_FILE} names (its SHA-256 is "
            "another): it was altered; train it again"
        )


def file_content(name: str, path: str) -> bytes:
    """The content of a file of a model; raises InputError where it cannot be read."""
    try:
        return read_bytes(path, MAX_NETWORK_BYTES)
    except OSError as error:
        raise InputError(
            f"--model={name}: {path} cannot be read ({error}): put it back, or train it again"
        ) from error
