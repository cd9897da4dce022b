import argparse

from benchmarks.cluster import _Job, _lines


def test_the_table_has_medians_and_their_ratio():
    flags = argparse.Namespace(images=1000, repeats=3)
    local = {"tensorflow": [10.0, 9.0, 11.0]}
    jobs = [_Job(12.5, 8.0, 4000), _Job(12.0, 9.0, 4100), _Job(13.0, 7.0, 3900)]
    lines = _lines(flags, local, {"tensorflow": jobs})
    assert lines[-1] == (
        "| tensorflow | 10.0 (9.0 to 11.0) | 12.5 (12.0 to 13.0) | 0.80 | 8.0 | 4.1 |"
    )
