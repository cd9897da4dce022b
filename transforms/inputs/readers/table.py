"""What reads a segment, by its format."""

from typing import cast

from transforms.inputs.readers import parquet, pictures, raw
from transforms.inputs.readers.rows import Reader

READERS = cast(
    dict[str, Reader], {raw.RAW: raw, parquet.PARQUET: parquet, pictures.PICTURES: pictures}
)
