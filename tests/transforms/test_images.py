import io

import numpy as np
from PIL import Image

from transforms.images import ImageBatch, Reject, ShardKey, upright

IMAGES = np.random.default_rng(1).integers(0, 256, (60, 28, 28), np.uint8)


def png(image: np.ndarray, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind)
    return content.getvalue()


def test_what_is_taken_of_a_batch_accounts_for_all_its_rows():
    reject = Reject("all", 4, "f", 4, "is neither PNG nor JPEG")
    pixels = IMAGES[:4].reshape(-1, 784)
    labels = np.arange(4, dtype=np.int16)
    batch = ImageBatch(ShardKey("all", 0, 1, 5), 5, np.arange(4), labels, pixels, "0", (reject,))
    taken = batch.take(batch.labels % 2 == 1)
    assert (taken.rows, taken.sha256, taken.rejects) == (5, "0", (reject,))
    assert (taken.image_ids.tolist(), taken.labels.tolist()) == ([1, 3], [1, 3])
    np.testing.assert_array_equal(taken.pixels, pixels[[1, 3]])


def test_upright_turns_what_nist_stores_column_by_column():
    stored = IMAGES.transpose(0, 2, 1).reshape(-1, 784)
    np.testing.assert_array_equal(upright(stored), IMAGES.reshape(-1, 784))
