"""A short campaign of store_faults.py, and that the proxy does what it says; FnApiRunner."""

import pytest
import requests
import urllib3

from tests.cluster.faulty_store import SHARE, Fault, Plan, faulty
from tests.cluster.store_faults import campaign, half_written, table
from tests.cluster.stores import BUCKET, Store


def test_commands_on_stores_that_fail():
    """Each fault once, now and then and for good, but the one that takes minutes."""
    faults = [fault for fault in Fault if fault is not Fault.SILENCE]
    outcomes = list(campaign(seed=1, times=1, at_once=4, faults=faults))
    assert len(outcomes) == 2 * len(faults)
    assert [outcome for outcome in outcomes if outcome.problem is not None] == [], table(outcomes)
    assert all(outcome.befallen for outcome in outcomes if outcome.case.for_good)


@pytest.mark.parametrize(
    ("fault", "answer", "is_done"),
    [
        (Fault.ERROR_500, 500, False),
        (Fault.ERROR_503, 503, False),
        (Fault.NO_ANSWER, None, True),
        (Fault.HALF_UPLOAD, None, False),
        (Fault.DELAY, 200, True),
    ],
)
def test_what_befalls_a_request(s3: Store, fault: Fault, answer: int | None, *, is_done: bool):
    name = f"proxy/{fault.name}"
    with faulty(s3.address, Plan(fault, seed=0, starts_at=2)) as address:
        url = f"{address}/{BUCKET}/{name}"
        assert requests.put(f"{url}-before", b"content", timeout=30).status_code == 200
        try:
            status = requests.put(url, b"content", timeout=30).status_code
        except requests.ConnectionError:
            status = None
    assert status == answer
    assert s3.names("proxy") >= {f"{fault.name}-before"}
    assert (fault.name in s3.names("proxy")) == is_done
    s3.remove("proxy")


def test_an_answer_that_is_cut(s3: Store):
    s3.write("proxy/file", b"content")
    signed = {"Bucket": BUCKET, "Key": "proxy/file"}
    url = s3.client.generate_presigned_url("get_object", Params=signed)
    with (
        faulty(s3.address, Plan(Fault.HALF_ANSWER, seed=0, starts_at=1)) as address,
        requests.get(url.replace(s3.address, address), stream=True, timeout=30) as answer,
    ):
        assert answer.headers["Content-Length"] == "7"
        assert answer.raw.read(3) == b"con"
        with pytest.raises(urllib3.exceptions.ProtocolError):
            answer.raw.read(4)
    s3.remove("proxy")


def test_now_and_then_is_a_share_that_a_seed_decides():
    plans = [Plan(Fault.ERROR_500, seed) for seed in (1, 1, 2)]
    hits = [[plan.next("") is not None for _ in range(2000)] for plan in plans]
    assert hits[0] == hits[1] != hits[2]
    assert abs(sum(hits[0]) / 2000 - SHARE) < 0.03


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({}, None),
        ({"a.parquet": b"whole", "dataset.json": b"{}"}, None),
        ({"_incomplete-1/a.parquet": b"who"}, "_incomplete-1/a.parquet"),
        ({"a.parquet": b"who"}, "a.parquet"),
        ({"_incomplete-1/a.0123456789ab.parquet": b"whole", "dataset.json": b""}, None),
        ({"_incomplete-1/a.0123456789ab.parquet": b"who"}, "_incomplete-1/a.0123456789ab.parquet"),
        ({"_incomplete-1/notes/a.json": b'[["path'}, "_incomplete-1/notes/a.json"),
    ],
)
def test_half_of_a_file_is_found(left: dict[str, bytes], said: str | None):
    reference = {"a.parquet": b"whole", "dataset.json": b"{}"}
    assert half_written(left, reference) == said
