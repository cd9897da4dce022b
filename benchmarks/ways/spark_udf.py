"""Spark's batch inference as documented: predict_batch_udf, with a model a Python worker.

`python -m benchmarks.ways.spark_udf IMAGES_FOLDER OUT_FOLDER`
"""

import os
import sys
from collections.abc import Callable

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, FloatType

BATCH_SIZE = 1024


def make_predict() -> Callable[[np.ndarray], np.ndarray]:
    """Loads the model; a Python worker calls it once."""
    from benchmarks.ways.encoder import compiled, load_encoder

    encode = compiled(load_encoder())

    def predict(images: np.ndarray) -> np.ndarray:
        return encode(np.frombuffer(b"".join(images), np.uint8).reshape(-1, 28, 28))

    return predict


def main(source: str, target: str) -> None:
    """Encodes Parquet of image_id and image, its 784 bytes.

    A column of bytes took less CPU and memory than one of arrays of numbers, the documentation's
    other kind; one thread of TensorFlow a worker, in place of one a core, was no faster.
    """
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = SparkSession.builder.master("local[*]")
    # Whole batches, or the last of each 10,000 records, Spark's default, is a small one.
    settings.config("spark.sql.execution.arrow.maxRecordsPerBatch", 8 * BATCH_SIZE)
    spark = settings.config("spark.ui.enabled", "false").getOrCreate()
    encode = predict_batch_udf(
        make_predict, return_type=ArrayType(FloatType()), batch_size=BATCH_SIZE
    )
    images = spark.read.parquet(source)
    images.select("image_id", encode("image").alias("latent")).write.parquet(target)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
