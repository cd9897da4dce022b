from beam_job.datasets.catalog import PUBLISHED_ROWS


def test_byclass_is_the_whole_of_emnist():
    assert sum(PUBLISHED_ROWS["byclass"].values()) == 814_255
