"""What docs/scaling.md takes for given: prices from public lists, and what was not measured here.

Change a value and run `python -m benchmarks.scaling`; a test fails until that is done.
"""

from typing import NamedTuple


class Assumption(NamedTuple):
    """A number that was not measured here. unit: for people. source: who says so."""

    value: float
    unit: str
    source: str


_DATAFLOW = "list price in us-central1: cloud.google.com/dataflow/pricing, 2025"
_EC2 = "c5.2xlarge in us-east-1, example prices of EC2 Auto Scaling's user guide, 2025"
_STORE = "GCS Standard: cloud.google.com/storage/pricing-examples, 2025; S3's requests cost as much"
_NOT_MEASURED = "taken; no cloud was at hand to measure it"

DATAFLOW_CORE = Assumption(0.056, "USD a vCPU-hour, Dataflow batch", _DATAFLOW)
DATAFLOW_MEMORY = Assumption(0.003557, "USD a GB-hour of memory, Dataflow", _DATAFLOW)
DATAFLOW_DISK = Assumption(0.000054, "USD a GB-hour of disk, Dataflow", _DATAFLOW)
MEMORY_A_CORE = Assumption(3.75, "GB of memory a vCPU", "n1-standard, Dataflow's default")
DISK_A_CORE = Assumption(6.25, "GB of disk a vCPU", "Dataflow's 25 GB, on machines of 4 vCPUs")
EC2_CORE = Assumption(0.34 / 8, "USD a vCPU-hour, EC2 on demand", _EC2)
EC2_SPOT_CORE = Assumption(0.18 / 8, "USD a vCPU-hour, EC2 spot", _EC2)
STORE_MONTH = Assumption(0.020, "USD a GB-month in an object store", _STORE)
STORE_WRITES = Assumption(0.005, "USD for 1,000 writes, copies or listings", _STORE)
STORE_READS = Assumption(0.0004, "USD for 1,000 reads", _STORE)

REQUEST_SECONDS = Assumption(0.05, "s a request to an object store", _NOT_MEASURED)
STREAM_BYTES = Assumption(100e6, "bytes a second of one stream from a store", _NOT_MEASURED)
START_SECONDS = Assumption(180, "s until a machine in a cloud computes", _NOT_MEASURED)
SPEED_SPREAD = Assumption(0.1, "standard deviation of the speeds of workers", _NOT_MEASURED)
SLOW_SHARE = Assumption(0.02, "share of workers that are slow", _NOT_MEASURED)
SLOW_SPEED = Assumption(0.5, "speed of a slow worker", _NOT_MEASURED)

GRAPH_LIMIT = Assumption(
    10e6, "bytes of a Dataflow job's graph at most", "cloud.google.com/dataflow/docs/request-quotas"
)
MACHINES_LIMIT = Assumption(
    4000, "machines of a Dataflow job at most", "cloud.google.com/dataflow/quotas"
)


def every() -> list[Assumption]:
    """All of them, in the order above."""
    return [value for value in globals().values() if isinstance(value, Assumption)]


def dataflow_core_hour() -> float:
    """USD for a vCPU of Dataflow with its memory and its disk for an hour."""
    return (
        DATAFLOW_CORE.value
        + MEMORY_A_CORE.value * DATAFLOW_MEMORY.value
        + DISK_A_CORE.value * DATAFLOW_DISK.value
    )
