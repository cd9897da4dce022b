"""report.html of a run, which can be drawn from its files at any time after the seal."""

import io
import uuid
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_job.outputs.attempt import folder_of, sealed_id
from beam_job.outputs.run_directory import REPORT, RUN, SIZES, CompleteRun, ListedFile, complete_run
from beam_job.reports.page import report_html
from beam_job.reports.pictures import ComparedImages
from beam_job.reports.preview import make_preview
from beam_job.reports.sizes import RunSizes
from transforms.errors import InputError
from transforms.images import IMAGE_COLUMN, IMAGE_ID_COLUMN, LABEL_COLUMN, PIXELS, Sample
from transforms.json_documents import MAX_JSON_BYTES, decode
from transforms.latents import LATENT_COLUMN, ModelRecord
from transforms.models.arrays import decoded_pixels
from transforms.models.choice import load_decoder
from transforms.models.directory import Model, find_model
from transforms.quality import image_quality
from transforms.quantize import Quantization
from transforms.read_latents import values_of
from transforms.storage.files import child, facts_of, publish_all, read_bytes, remove, write_bytes

SAMPLE = "sample.parquet"
"""Some images of a run next to their latents, from which its report is drawn."""
_SPLIT_COLUMN = "split"


def sample_table_bytes(samples: Sequence[tuple[str, Sample]], model: ModelRecord) -> bytes:
    """The Parquet file of samples, each with its split."""
    dtype = np.dtype(model.stored_dtype)
    values = pa.list_(pa.field("element", pa.from_numpy_dtype(dtype)), model.latent_size)
    parts = []
    for split, sample in samples:
        latents = np.frombuffer(sample.latents, dtype)
        pixels = pa.py_buffer(sample.pixels)
        count = len(sample.image_ids)
        columns = {
            _SPLIT_COLUMN: pa.array([split] * count, pa.string()),
            IMAGE_ID_COLUMN: pa.array(sample.image_ids, pa.int64()),
            LABEL_COLUMN: pa.array(sample.labels, pa.int32()),
            IMAGE_COLUMN: pa.Array.from_buffers(pa.binary(PIXELS), count, [None, pixels]),
            LATENT_COLUMN: pa.FixedSizeListArray.from_arrays(pa.array(latents), type=values),
        }
        parts.append(pa.table(columns))
    order = [(_SPLIT_COLUMN, "ascending"), (IMAGE_ID_COLUMN, "ascending")]
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(parts).sort_by(order), sink, compression="zstd")
    return sink.getvalue()


def draw_report(output: str, run_id: str, model_path: str | None, engine: str | None) -> None:
    """Writes report.html next to the run; nothing where another run has replaced it.

    model_path, engine: what decodes the sample, as find_model and load_decoder have them.
    """
    run = complete_run(output)
    sizes = decode(listed_content(run, SIZES), RunSizes)
    manifest, record = run.manifest, run.manifest.model
    preview = None
    has_sample = any(file.path == SAMPLE for file in manifest.documents)
    if record.decoder_sha256 is not None and has_sample:
        model = replace(find_model(model_path), decoder_sha256=record.decoder_sha256)
        compared = _compared(listed_content(run, SAMPLE), model, engine, record.quantization)
        bytes_per_image = sizes.total.parquet_bytes / max(1, sizes.total.images)
        preview = make_preview(compared, manifest.characters, bytes_per_image)
    page = report_html(manifest, sizes, preview)
    if sealed_id(output, RUN) == run_id:
        _replace(output, page.encode())


def listed_content(run: CompleteRun, name: str) -> bytes:
    """The content of a document of a run; raises InputError unless it is as listed."""
    path = child(run.folder, name)
    content = read_bytes(path, MAX_JSON_BYTES)
    if ListedFile(name, *facts_of(content)) not in run.manifest.documents:
        raise InputError(
            f"{path} is not as the manifest lists it: it was altered; run compress again"
        )
    return content


def _replace(output: str, page: bytes) -> None:
    """Writes report.html by way of a folder, so that a killed command leaves no half of it."""
    folder = folder_of(output, uuid.uuid4().hex[:12])
    try:
        write_bytes(child(folder, REPORT), page)
        publish_all([(child(folder, REPORT), child(output, REPORT))])
    finally:
        remove(folder)


def _compared(
    content: bytes, model: Model, engine: str | None, quantization: Quantization | None
) -> ComparedImages:
    """The images of a sample and what decoding their latents gives back."""
    table = pq.read_table(io.BytesIO(content))
    image_ids = table.column(IMAGE_ID_COLUMN).to_numpy()
    lists = table.column(LATENT_COLUMN).combine_chunks()
    stored = lists.flatten().to_numpy().reshape(len(image_ids), lists.type.list_size)
    images = b"".join(table.column(IMAGE_COLUMN).to_pylist())
    originals = np.frombuffer(images, np.uint8).reshape(-1, PIXELS)
    decode = load_decoder(model, engine).compute
    decoded = decoded_pixels(decode, values_of(stored, quantization))
    return ComparedImages(
        np.array(table.column(_SPLIT_COLUMN).to_pylist()),
        table.column(LABEL_COLUMN).to_numpy(),
        image_quality(image_ids, originals, decoded),
        originals,
        decoded,
    )
