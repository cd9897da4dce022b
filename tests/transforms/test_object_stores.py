"""What is said of an object store that can't be used; the real ones are in tests/cluster."""

from importlib.util import find_spec
from threading import Event

import pytest

from transforms import object_stores
from transforms.object_stores import StoreError, check_store

HANGS = Event()


def asked(monkeypatch: pytest.MonkeyPatch, ask) -> None:
    """Lets s3:// be asked by a function, with or without what it needs."""
    store = object_stores._STORES["s3"]._replace(package="sys", ask=ask)
    monkeypatch.setitem(object_stores._STORES, "s3", store)


def test_a_store_is_asked_for_the_fixed_part_of_a_path(monkeypatch: pytest.MonkeyPatch):
    questions: list[tuple[str, str]] = []
    asked(monkeypatch, lambda _, bucket, prefix: questions.append((bucket, prefix)))
    for path in ("s3://b", "s3://b/", " S3://b/a/c", "s3://b/a/x-?.npy", "s3://b/a[1]", "s3://b/*"):
        check_store(path)
    prefixes = ["", "", "a/c", "a/x-", "a", ""]
    assert questions == [("b", prefix) for prefix in prefixes]


@pytest.mark.parametrize("path", ["a", "/a/b", "C:/a", "mem://a", "hdfs://host/a", "nosuch://a"])
def test_other_file_systems_are_not_asked(path: str):
    check_store(path)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "there is no bucket b: make it, or correct the name"),
        (401, "its store refuses the credentials (why): give others by AWS_ACCESS_KEY_ID"),
        (403, "its store refuses the credentials (why): give others by AWS_ACCESS_KEY_ID"),
        (500, "its store fails (why): run it again when the store answers"),
        (400, "its store cannot be used (why): correct the path, or --s3_endpoint_url"),
        (None, "its store cannot be used (why): correct the path, or --s3_endpoint_url"),
    ],
)
def test_an_answer_that_is_no_listing(
    status: int | None, said: str, monkeypatch: pytest.MonkeyPatch
):
    def ask(*_: object) -> None:
        raise object_stores._refusal(status, ValueError("why"))

    asked(monkeypatch, ask)
    with pytest.raises(StoreError) as raised:
        check_store("s3://b/a")
    assert str(raised.value).startswith(said)


def test_an_error_that_nobody_thought_of(monkeypatch: pytest.MonkeyPatch):
    asked(monkeypatch, lambda *_: {}["why"])
    with pytest.raises(StoreError, match=r"cannot be used \('why'\): correct the path"):
        check_store("s3://b/a")


def test_a_store_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    asked(monkeypatch, lambda *_: HANGS.wait())
    with pytest.raises(StoreError, match=r"does not answer \(nothing in 0.1 s\): correct --s3_end"):
        check_store("s3://b/a", seconds=0.1)
    HANGS.set()


def test_a_path_without_a_bucket(monkeypatch: pytest.MonkeyPatch):
    asked(monkeypatch, lambda *_: None)
    with pytest.raises(StoreError, match="names no bucket: give s3://BUCKET/"):
        check_store("s3:///a")


@pytest.mark.parametrize(
    ("path", "package", "extra"), [("s3://b/a", "boto3", "aws"), ("gs://b/a", "google.auth", "gcp")]
)
def test_what_is_not_installed_is_named(path: str, package: str, extra: str):
    if _is_there(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(StoreError, match=rf"pip install 'emnist-latents\[{extra}\]'"):
        check_store(path)


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
