"""What the store is asked for, counted anew."""

import json

from benchmarks.footprint import FOOTPRINT
from benchmarks.store_requests import requests_a_file


def test_a_file_takes_the_requests_that_the_footprint_says():
    found = requests_a_file()
    assert found == json.loads(FOOTPRINT.read_text("utf-8"))["requests_a_file"]
    # A file is there when its upload is; then it is copied into the run.
    assert (found["write"].get("COPY"), found["publish"]["COPY"]) == (None, 1)
