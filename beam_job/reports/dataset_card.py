"""README.md of a run: what its files hold, for people and for Hugging Face's `datasets`.

The front matter is YAML as https://huggingface.co/docs/datasets/repository_structure has it, so
that `datasets.load_dataset(RUN)` finds the splits, their rows and the types of the columns.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from transforms.latents import LATENTS_FOLDER, ModelRecord, latent_schema
from transforms.printable import printable
from transforms.settings import COMPATIBLE
from transforms.sizes import Sizes

DATASET_CARD = "README.md"

_CARD = """\
---
pretty_name: EMNIST latents
configs:
- config_name: default
  data_files:
{data_files}
dataset_info:
  features:
{features}
  splits:
{splits}
---

# Latents of `{dataset}`

Images of 28x28 grey pixels, encoded by the model `{model}` to {size} numbers each.

| split | images | pixels, uint8 | latents, values alone | latents, Parquet files |
|---|---:|---:|---:|---:|
{rows}

| column | |
|---|---|
| `image_id` | the row of the image in its split, from 0; with the split it is the key |
| `label` | the number of the class; null where it is not known |
| `character` | what the label stands for; null where it is not known |
| `latent` | {latent}{decoding} |

`sizes.json` has all byte counts. `manifest.json` names the files and the model.

## Read

```python
from datasets import load_dataset

latents = load_dataset("PATH_OF_THIS_FOLDER")
```

DuckDB, Polars, pandas, PyArrow and Spark read the files `{folder}/*/*.parquet`. {encodings}
"""
_QUANTIZED = (
    ": value = offset + scale * number, with the offset and the scale of each place in "
    "`manifest.json` (`model.quantization`)"
)
_ENCODINGS = {
    "float32": "The values are encoded as BYTE_STREAM_SPLIT, which fastparquet does not read, and "
    "Spark before 4.3 reads only with `spark.sql.parquet.enableNestedColumnVectorizedReader=false`."
    " `compress --parquet=compatible` writes files that all of them read.",
    "float16": "Spark, BigQuery and fastparquet do not read float16: "
    "`compress --latent_dtype=float32 --parquet=compatible` writes files that all of them read.",
    "int8": "fastparquet reads them too.",
}


def dataset_card(
    dataset: str, model: ModelRecord, sizes: Mapping[str, Sizes], parquet: str
) -> bytes:
    """The content of README.md. sizes: by split. parquet: one of PARQUET_KINDS.

    `datasets` gets the splits that have rows, which it cannot do without, by split_names.
    """
    filled = {split: counted for split, counted in sizes.items() if counted.images_written}
    names = split_names(filled)
    values = pa.from_numpy_dtype(np.dtype(model.stored_dtype))
    return _CARD.format(
        data_files=_lines(
            f"  - split: {names[split]}\n    path: {LATENTS_FOLDER}/split={split}/*.parquet"
            for split in filled
        ),
        features=_lines(map(_feature, latent_schema(model.latent_size, values))),
        splits=_lines(
            f"  - name: {names[split]}\n    num_bytes: {counted.latent_bytes}\n"
            f"    num_examples: {counted.images_written}"
            for split, counted in filled.items()
        ),
        dataset=_code(dataset),
        model=_code(model.name),
        size=model.latent_size,
        rows=_lines(
            f"| {split} | {counted.images_written:,} | {counted.uint8_bytes:,} B "
            f"| {counted.latent_bytes:,} B | {counted.parquet_bytes:,} B |"
            for split, counted in sizes.items()
        ),
        latent=f"{model.latent_size} values, {model.stored_dtype}",
        decoding="" if model.quantization is None else _QUANTIZED,
        folder=LATENTS_FOLDER,
        encodings=_ENCODINGS["int8" if parquet == COMPATIBLE else model.latent_dtype],
    ).encode()


def split_names(splits: Iterable[str]) -> dict[str, str]:
    """The name of each split for `datasets`, which takes letters, digits and `_`, and not `all`."""
    names: dict[str, str] = {}
    for split in splits:
        name = "full" if split.lower() == "all" else re.sub(r"\W", "_", split)
        while name in names.values():
            name += "_"
        names[split] = name
    return names


def _feature(field: pa.Field) -> str:
    if pa.types.is_fixed_size_list(field.type):
        values = np.dtype(field.type.value_type.to_pandas_dtype()).name
        return f"  - name: {field.name}\n    sequence: {values}\n    length: {field.type.list_size}"
    return f"  - name: {field.name}\n    dtype: {field.type}"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _code(text: str) -> str:
    """Text that stands between backticks: as it is, in one line, whatever it is."""
    return printable(text).replace("`", "'")
