"""The stores that tests are given by name."""

from tests.cluster.stores import gcs, s3

__all__ = ["gcs", "s3"]
