"""Reading images from S3: how much is read, by how many requests, and what has changed."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cluster.stores import BUCKET, Store
from tests.transforms.inputs.test_read import BytesRead
from transforms.errors import InputError
from transforms.inputs.files import stretches_of
from transforms.inputs.read import read_stretch

IMAGES = np.random.default_rng(0).integers(0, 256, (6000, 784), np.uint8)


@pytest.fixture(autouse=True)
def _used(s3: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets this process use the store."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)


def put(s3: Store, name: str, row_group: int) -> str:
    """The images as Parquet, or as .npy where there are no row groups."""
    content = io.BytesIO()
    if row_group:
        image = pa.array([image.tobytes() for image in IMAGES], pa.binary(784))
        pq.write_table(pa.table({"image": image}), content, row_group_size=row_group)
    else:
        np.save(content, IMAGES)
    s3.client.put_object(Bucket=BUCKET, Key=name, Body=content.getvalue())
    return s3.url(name)


@pytest.mark.parametrize("row_group", [0, 1000, 6000])
@pytest.mark.parametrize("shard_size", [200, 6000])
def test_little_is_read_twice_and_by_few_requests(s3, monkeypatch, row_group, shard_size):
    path = put(s3, f"in-{row_group}", row_group)
    counted = BytesRead(monkeypatch)
    stretches = stretches_of(path, shard_size)
    looked = counted.reads
    assert looked <= (6 if row_group else 2)  # With the first images, to look at.
    pixels = [batch.pixels for stretch in stretches for batch, _ in read_stretch(stretch, 1024)]
    np.testing.assert_array_equal(np.concatenate(pixels), IMAGES)
    (head,) = [s3.client.head_object(Bucket=BUCKET, Key=f"in-{row_group}")]
    assert counted.bytes <= 1.05 * head["ContentLength"] + (2 << 20)
    assert counted.reads - looked <= 2 * len(stretches)


@pytest.mark.parametrize("row_group", [0, 1000])
def test_an_object_that_is_written_to_is_told(s3, row_group):
    path = put(s3, "changing", row_group)
    stretches = stretches_of(path, 1000)
    content = s3.client.get_object(Bucket=BUCKET, Key="changing")["Body"].read()
    s3.client.put_object(Bucket=BUCKET, Key="changing", Body=content + b"x")
    for stretch in stretches:
        with pytest.raises(InputError, match="changing: was written to while the job read it"):
            list(read_stretch(stretch, 1024))
    s3.client.delete_object(Bucket=BUCKET, Key="changing")
    with pytest.raises(InputError, match="changing: gone or damaged since the job was planned"):
        list(read_stretch(stretches[0], 1024))
