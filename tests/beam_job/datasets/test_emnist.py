"""EMNIST's archive, made by hand in NIST's structure and served on loopback."""

import errno
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from beam_job.datasets import emnist
from beam_job.datasets.emnist import archive_path, fetch_archive
from beam_job.datasets.selection import ARCHIVE_URL
from tests.conftest import compress, latents, rows, tree
from tests.support.nist import matlab_zip
from transforms.errors import InputError

RNG = np.random.default_rng(3)
TRAIN = (RNG.integers(0, 256, (30, 28, 28), np.uint8), np.arange(30) % 26 + 1)
TEST = (RNG.integers(0, 256, (5, 28, 28), np.uint8), np.arange(5) + 22)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """NIST's zip with a small `letters`."""
    matlab_zip(tmp_path / "made.zip", {"letters": {"train": TRAIN, "test": TEST}})
    return (tmp_path / "made.zip").read_bytes()


def cached() -> list[str]:
    """What there is in the Keras cache."""
    folder = archive_path().parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_archive_is_fetched_from_where_nist_serves_it_today():
    assert ARCHIVE_URL == "https://biometrics.nist.gov/cs_links/EMNIST/matlab.zip"


def test_download_dataset_and_job(tmp_path, server, archive, plain_latents, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server.content = archive
    flags = ["--dataset=letters", f"--archive_url={server.url}", "--data_dir=data", "--quiet"]
    assert compress(*flags, "--output=out", "--shard_size=8") == 0
    table = rows(tmp_path / "out")
    assert table["split"].tolist() == ["test"] * 5 + ["train"] * 30
    assert table["label"].tolist() == [*TEST[1], *TRAIN[1]]
    assert table["character"].tolist()[:7] == ["V", "W", "X", "Y", "Z", "A", "B"]
    expected = np.concatenate([plain_latents(TEST[0]), plain_latents(TRAIN[0])])
    np.testing.assert_allclose(latents(tmp_path / "out"), expected, atol=1e-4)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["dataset"]["sources"][0]["path"] == "matlab.zip/matlab/emnist-letters.mat"
    assert not any("urllib" in str(agent).lower() for agent in server.user_agents)
    assert cached() == ["emnist_matlab.npz"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "keras", "made.zip", "out"]

    # Staged now: neither the server nor the archive is needed again.
    archive_path().unlink()
    server.content = b""
    assert compress(*flags, "--output=again", "--shard_size=8") == 0
    assert tree(tmp_path / "out/latents") == tree(tmp_path / "again/latents")


def test_whoever_has_the_archive_can_put_it_there(archive):
    archive_path().parent.mkdir(parents=True)
    archive_path().write_bytes(archive)
    assert fetch_archive("http://127.0.0.1:9/nowhere", quiet=True) == archive_path()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"content": b"<!DOCTYPE html><html>moved</html>"}, "is not NIST's matlab.zip"),
        ({"status": 404}, "404"),
        ({"status": 403}, "403"),
        ({"cut_at": 1000}, "closed after 1,000 of"),
        ({"content": b""}, "is not NIST's matlab.zip"),
    ],
)
def test_what_is_no_archive_never_reaches_the_cache(server, archive, answer, said, capfd, tmp_path):
    server.content = archive
    for name, value in answer.items():
        setattr(server, name, value)
    flags = ["--dataset=letters", f"--archive_url={server.url}", f"--data_dir={tmp_path}/data"]
    assert compress(*flags, f"--output={tmp_path}/out") == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert said in last
    assert "put matlab.zip at" in last
    assert cached() == []
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "data" / "letters").exists()


def test_a_damaged_member_is_found_before_it_takes_its_place(server, archive):
    damaged = bytearray(archive)
    damaged[len(damaged) // 2] ^= 0xFF
    server.content = bytes(damaged)
    with pytest.raises(
        InputError,
        match=r"\(Bad CRC-32 for file 'matlab/emnist-letters.mat'\): give another --archive_url",
    ):
        fetch_archive(server.url, quiet=True)
    assert cached() == []


def test_no_network_and_no_archive():
    with pytest.raises(InputError, match=r"cannot be fetched .* put matlab\.zip at"):
        fetch_archive("http://127.0.0.1:9/matlab.zip", quiet=True)
    assert cached() == []


def test_a_bad_page_that_lies_in_the_cache_is_named():
    archive_path().parent.mkdir(parents=True)
    archive_path().write_bytes(b"<html>moved</html>")
    with pytest.raises(InputError, match=r"<html>.*remove .*emnist_matlab\.npz"):
        fetch_archive("http://127.0.0.1:9/matlab.zip", quiet=True)


def test_two_runs_at_once_do_not_harm_each_other(server, archive):
    server.content = archive
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(fetch_archive, server.url, quiet=True) for _ in range(4)]
        for future in futures:
            assert future.result().read_bytes() == archive
    assert cached() == ["emnist_matlab.npz"]


def test_an_archive_is_blamed_only_when_at_fault(archive, monkeypatch, tmp_path):
    path = tmp_path / "emnist_matlab.npz"
    path.write_bytes(archive)
    monkeypatch.setattr(emnist.sys, "executable", "/bin/false")
    with (
        pytest.raises(InputError, match=r"the process that reads it failed \(.*\): remedy that"),
        emnist.emnist_splits("letters", path),
    ):
        pass
    refused = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(emnist, "_load", raising(refused))
    with (
        pytest.raises(
            InputError, match=r"\(Permission denied\): .* or put another matlab.zip there"
        ),
        emnist.emnist_splits("letters", path),
    ):
        pass


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail
