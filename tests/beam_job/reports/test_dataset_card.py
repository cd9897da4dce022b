"""README.md of a run; tests/test_readers.py loads runs by it."""

from typing import Any

import msgspec
import pytest
import yaml

from beam_job.reports.dataset_card import dataset_card, split_names
from transforms.latents import ModelRecord
from transforms.sizes import Sizes

MODEL = ModelRecord(
    name="mine",
    sha256="",
    decoder_sha256=None,
    precision="float32",
    latent_size=7,
    latent_dtype="float32",
    latent_bytes=28,
    quantization=None,
)


def card(
    rows_of: dict[str, int], *, dataset: str = "d", parquet: str = "small", **model: Any
) -> str:
    sizes = {
        split: Sizes(images_written=rows, uint8_bytes=784 * rows, latent_bytes=28 * rows)
        for split, rows in rows_of.items()
    }
    return dataset_card(dataset, msgspec.structs.replace(MODEL, **model), sizes, parquet).decode()


def front_matter(text: str) -> Any:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_front_matter_names_files_rows_and_types():
    described = front_matter(card({"train": 3, "a set-2.b": 4, "no rows": 0}))
    assert described["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "latents/split=train/*.parquet"},
                {"split": "a_set_2_b", "path": "latents/split=a set-2.b/*.parquet"},
            ],
        }
    ]
    assert described["dataset_info"] == {
        "features": [
            {"name": "image_id", "dtype": "int64"},
            {"name": "label", "dtype": "uint16"},
            {"name": "character", "dtype": "string"},
            {"name": "latent", "sequence": "float32", "length": 7},
        ],
        "splits": [
            {"name": "train", "num_examples": 3, "num_bytes": 84},
            {"name": "a_set_2_b", "num_examples": 4, "num_bytes": 112},
        ],
    }


def test_names_of_splits_are_such_as_datasets_takes_and_differ():
    assert split_names(["all", "full", "a b", "a-b", "a_b", "\u00e9t\u00e9"]) == {
        "all": "full",
        "full": "full_",
        "a b": "a_b",
        "a-b": "a_b_",
        "a_b": "a_b__",
        "\u00e9t\u00e9": "\u00e9t\u00e9",
    }


@pytest.mark.parametrize(
    ("dtype", "parquet", "said"),
    [
        ("float32", "small", "BYTE_STREAM_SPLIT"),
        ("float16", "small", "do not read float16"),
        ("float32", "compatible", "fastparquet reads them too"),
        ("int8", "small", "fastparquet reads them too"),
    ],
)
def test_it_says_which_readers_cannot_read_the_files(dtype: str, parquet: str, said: str):
    text = card({"train": 1}, latent_dtype=dtype, parquet=parquet)
    assert said in text
    stored = {"int8": "uint8"}.get(dtype, dtype)
    assert front_matter(text)["dataset_info"]["features"][3]["sequence"] == stored


def test_names_from_data_stay_within_their_line_and_their_backticks():
    text = card({"train": 1}, dataset="x`\n---\n<script>\x1b", name="\udcff`")
    assert "# Latents of `x'\\n---\\n<script>\\x1b`\n" in text
    assert "by the model `\\udcff'` to" in text
