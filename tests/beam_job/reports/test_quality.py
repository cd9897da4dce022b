import numpy as np
import pytest

from beam_job.reports.quality import (
    Group,
    QualityReport,
    class_rows,
    in_decibels,
    quality_rows,
    report_quality,
)
from transforms.images import NO_LABEL
from transforms.json_documents import decode, encode
from transforms.quality import ImageQuality

LEVEL = 784
"""The squared error of an image that is one grey level off everywhere: 48.13 dB."""


def quality(errors: dict[int, int], ssim: float = 0.5) -> ImageQuality:
    """By image_id, in multiples of LEVEL."""
    ids = np.array(list(errors), np.int64)
    return ImageQuality(ids, np.array(list(errors.values())) * LEVEL, np.full(len(ids), ssim))


GROUPS = {
    Group("test", 1): quality({0: 100, 1: 0}, 0.25),
    Group("extra", NO_LABEL): quality({0: 7}),
    Group("train", 0): quality({0: 1, 3: 3}, 0.75),
    Group("train", 1): quality({1: 2, 2: 2}),
}


@pytest.fixture
def report():
    return report_quality(GROUPS, {0: "a"})


def dB(*errors: float) -> float:  # noqa: N802
    return 10 * np.log10(255**2 / np.mean(errors))


def test_images_are_measured_by_split_by_class_and_in_total(report):
    assert list(report.splits) == ["train", "test", "extra"]
    assert list(report.classes) == ["a", "1"]
    for part, errors, ssims in [
        (report.splits["train"], [1, 3, 2, 2], [0.75, 0.75, 0.5, 0.5]),
        (report.splits["test"], [100, 0], [0.25, 0.25]),
        (report.splits["extra"], [7], [0.5]),
        (report.classes["a"], [1, 3], [0.75, 0.75]),
        (report.classes["1"], [100, 0, 2, 2], [0.25, 0.25, 0.5, 0.5]),
        (report.total, [1, 3, 2, 2, 100, 0, 7], [0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0.5]),
    ]:
        assert part.images == len(errors)
        assert part.mse == pytest.approx(np.mean(errors))
        assert part.psnr == pytest.approx(dB(*errors), abs=1e-4)
        assert part.ssim == pytest.approx(np.mean(ssims), abs=1e-4)


def test_a_label_that_may_mean_another_thing_in_another_split_is_a_class_of_its_own():
    groups = {Group("test", 2): quality({0: 1}), Group("all", 2): quality({0: 9})}
    classes = report_quality(groups, {}).classes
    assert list(classes) == ["test 2", "all 2"]
    assert classes["all 2"].psnr == pytest.approx(dB(9), abs=1e-4)


def test_the_worst_are_named_from_the_worst_on(report):
    named = [(one.split, one.image_id, one.character) for one in report.worst]
    assert named == [
        ("test", 0, None),
        ("extra", 0, None),
        ("train", 3, "a"),
        ("train", 1, None),
        ("train", 2, None),
        ("train", 0, "a"),
        ("test", 1, None),
    ]
    assert [one.psnr for one in report.worst[:2]] == [28.13, 39.68]
    assert report.worst[0].ssim == 0.25
    assert report.worst[-1].psnr is None


def test_no_more_than_twenty_are_named():
    many = {
        Group("train", label): quality({10 * n + label: 10 * n + label for n in range(30)})
        for label in range(10)
    }
    worst = report_quality(many, {}).worst
    assert [one.image_id for one in worst] == list(range(299, 279, -1))


def test_the_report_does_not_depend_on_the_order_of_its_groups(report):
    turned = report_quality(dict(reversed(GROUPS.items())), {0: "a"})
    assert encode(turned) == encode(report)


def test_the_report_can_be_read_again(report):
    assert decode(encode(report), QualityReport) == report


def test_digits_capitals_and_lower_case_are_measured_together():
    errors = {10: 1, 11: 3, 36: 9, 37: 0}
    parts = {Group("test", label): quality({label: error}) for label, error in errors.items()}
    groups = report_quality(parts, {10: "A", 11: "B", 36: "a"}).groups
    assert {name: (found.images, found.mse) for name, found in groups.items()} == {
        "capitals": (2, 2),
        "lower case": (1, 9),
    }


def test_the_table_has_a_line_for_each_split_and_the_total(report):
    header, *lines = quality_rows(report)
    assert header == ["", "images", "PSNR", "SSIM", "1% worst below", "median", "1% best above"]
    assert [line[:4] for line in lines] == [
        ["train", "4", f"{dB(2):.2f} dB", "0.6250"],
        ["test", "2", f"{dB(50):.2f} dB", "0.2500"],
        ["extra", "1", f"{dB(7):.2f} dB", "0.5000"],
        ["total", "7", f"{dB(115 / 7):.2f} dB", "0.5000"],
    ]
    assert lines[0][4:] == ["43.36 dB", "45.12 dB", "48.13 dB"]  # Errors of 3, 2 and 1.
    assert lines[1][4] == "28.13 dB"
    assert lines[1][6] == "exact"


def test_one_split_alone_needs_no_total():
    one = report_quality({Group("all", NO_LABEL): quality({0: 1, 1: 1})}, {})
    assert [line[0] for line in quality_rows(one)] == ["", "all"]
    assert one.classes == {}
    assert class_rows(one.classes) == [["class", "images", "PSNR", "SSIM"]]


def test_thousands_are_set_apart():
    many = report_quality({Group("all", 3): quality(dict.fromkeys(range(1234), 1), 1.0)}, {})
    assert quality_rows(many)[1][:4] == ["all", "1,234", "48.13 dB", "1.0000"]
    assert class_rows(many.classes)[1] == ["3", "1,234", "48.13 dB", "1.0000"]


def test_the_worst_class_comes_first_and_exact_ones_last():
    errors = {0: 5, 1: 0, 2: 9, 3: 0}
    groups = {Group("all", label): quality({label: error}) for label, error in errors.items()}
    lines = class_rows(report_quality(groups, {2: "c"}).classes)
    assert [line[0] for line in lines[1:]] == ["c", "0", "1", "3"]
    assert [line[2] for line in lines[1:]] == [f"{dB(9):.2f} dB", f"{dB(5):.2f} dB"] + ["exact"] * 2


def test_labels_that_share_a_character_are_measured_together():
    groups = {Group("all", 0): quality({0: 1}), Group("all", 1): quality({1: 3})}
    classes = report_quality(groups, {0: "x", 1: "x"}).classes
    assert classes["x"].images == 2
    assert classes["x"].mse == pytest.approx(2)


def test_decibels_as_text():
    assert in_decibels(None) == "exact"
    assert in_decibels(22.625) == "22.62 dB"
    assert in_decibels(8) == "8.00 dB"
