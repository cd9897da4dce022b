from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.checks import check_same, read_latents
from benchmarks.contest import HAND_WRITTEN, JOB_INT8, JOB_NCNN

LATENTS = np.random.default_rng(0).random((4, 32), np.float32)


def write(folder: Path, image_ids: list[int], column: pa.Array) -> None:
    folder.mkdir(exist_ok=True)
    table = pa.table({"image_id": image_ids, "latent": column})
    pq.write_table(table, folder / f"{image_ids[0]}.parquet")


def test_rows_are_put_in_order_whatever_the_files_and_kinds_of_lists(tmp_path):
    swapped = LATENTS[[3, 2, 0, 1]]
    for number, rows in enumerate((swapped, swapped.tolist())):
        for start, image_ids in ((0, [3, 2]), (2, [0, 1])):
            part = rows[start : start + 2]
            column = (
                pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), 32)
                if isinstance(part, np.ndarray)
                else pa.array(part, pa.list_(pa.float32()))
            )
            write(tmp_path / str(number), image_ids, column)
        assert np.array_equal(read_latents(HAND_WRITTEN, tmp_path / str(number), 4), LATENTS)


@pytest.mark.parametrize("image_ids", [[0, 1, 2], [0, 1, 2, 2], [0, 1, 2, 4], [0, 1, 2, 3, 4]])
def test_other_rows_than_those_of_all_images_end_the_benchmark(tmp_path, image_ids):
    write(tmp_path, image_ids, pa.array([[1.0] * 32] * len(image_ids), pa.list_(pa.float32())))
    with pytest.raises(SystemExit, match="hand_written wrote"):
        read_latents(HAND_WRITTEN, tmp_path, 4)


@pytest.mark.parametrize("wrong", [2e-4, -1.0, np.nan])
def test_other_latents_end_the_benchmark(wrong):
    latents = LATENTS.copy()
    latents[1, 2] += wrong
    with pytest.raises(SystemExit, match="job-ncnn wrote latents that differ"):
        check_same(JOB_NCNN, latents, LATENTS)


def test_int8_latents_may_differ_and_by_how_much_is_told():
    latents = LATENTS + np.float32([[0.3], [0.4], [0], [0]])
    assert check_same(JOB_INT8, latents, LATENTS) == pytest.approx(0.25)
    with pytest.raises(SystemExit):
        check_same(JOB_INT8, latents * np.float32(np.nan), LATENTS)


def test_only_images_that_both_hold_are_compared():
    assert check_same(JOB_NCNN, LATENTS[:2], LATENTS) == 0
    assert check_same(JOB_NCNN, LATENTS, LATENTS[:2]) == 0
