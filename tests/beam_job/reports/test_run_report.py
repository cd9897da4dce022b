from pathlib import Path

import msgspec
import pytest

from beam_job.outputs.run_directory import CompleteRun, DatasetRecord, ListedFile, Manifest
from beam_job.reports.run_report import listed_content
from transforms.errors import InputError
from transforms.latents import ModelRecord
from transforms.storage.files import facts_of


def run_with(folder: Path, **contents: bytes) -> CompleteRun:
    """A run whose manifest lists documents of these contents."""
    listed = [ListedFile(name, *facts_of(content)) for name, content in contents.items()]
    model = ModelRecord(
        name="pretrained",
        sha256="",
        decoder_sha256=None,
        precision="float32",
        latent_size=32,
        latent_dtype="float32",
        latent_bytes=128,
        quantization=None,
    )
    manifest = Manifest(
        run_id="",
        dataset=DatasetRecord("", "", {}, ()),
        model=model,
        characters={},
        flags={},
        files=tuple(msgspec.Raw(msgspec.json.encode(file)) for file in listed),
    )
    return CompleteRun(str(folder), manifest)


def test_a_report_is_drawn_only_from_files_that_are_as_listed(tmp_path):
    run = run_with(tmp_path, sizes=b"sizes")
    (tmp_path / "sizes").write_bytes(b"sizes")
    assert listed_content(run, "sizes") == b"sizes"
    (tmp_path / "sizes").write_bytes(b"sizeS")
    with pytest.raises(InputError, match="sizes is not as the manifest lists it: it was altered"):
        listed_content(run, "sizes")
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(InputError, match="other is not as the manifest lists it"):
        listed_content(run, "other")
