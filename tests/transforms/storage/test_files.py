"""Files by their paths, on this machine and in a store: the same promises for both."""

import errno
import fcntl
import glob
import os
import re
import resource
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from transforms.errors import ChangedError, FileSystemError, InputError, RunError
from transforms.storage.files import (
    child,
    discard,
    exists,
    file_facts,
    find_files,
    is_local,
    join_path,
    list_folder,
    list_names,
    open_binary,
    publish_all,
    read_bytes,
    read_range,
    read_versioned,
    remove,
    split_path,
    swap,
    temporary_folder,
    withdraw,
    write_bytes,
)
from transforms.storage.local import local_errors

NAMES = [
    *("a", "b.gz", "a[1]", "a1", "]", "^", "!", "-", ".hidden", "sub/a", "sub/sub/b.gz", "a\\]"),
    *("50%.npy", "x#y", "a b", "split=a/part.parquet", ".git/a", "sub/.b"),
]


def paths(pattern: str) -> list[str]:
    return [file.path for file in find_files(pattern)]


def below(folder: str) -> list[str]:
    return [file.path for file in list_folder(folder)]


def test_a_file_is_written_found_read_and_removed(folder: str):
    first, second = join_path(folder, "a", "first.gz"), child(folder, "b/second")
    assert (exists(first), below(folder), list_names(folder)) == (False, [], [])
    facts = write_bytes(first, b"some")
    assert facts == (4, sha256(b"some").hexdigest()) == file_facts(first)
    assert (read_bytes(first), exists(first)) == (b"some", True)
    assert below(folder) == paths(first) == paths(f"{folder}/?/*.gz") == [first]
    assert (paths(second), paths(f"{folder}/*")) == ([], [])
    assert split_path(first) == (join_path(folder, "a"), "first.gz")
    write_bytes(second, b"other")
    write_bytes(first, b"again")
    assert (read_bytes(first), below(folder)) == (b"again", [first, second])
    assert list_names(folder) == ["a", "b"]
    remove(first)
    remove(first)
    assert below(folder) == [second]
    remove(folder)
    remove(folder)
    assert below(folder) == []
    with pytest.raises(FileNotFoundError, match="first"):
        read_bytes(first)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_a_file_may_have_is_read_back(folder: str, name: str):
    path = child(folder, name)
    write_bytes(path, name.encode())
    assert below(folder) == [path]
    assert (exists(path), read_bytes(path)) == (True, name.encode())
    found = list_folder(folder)[0]
    assert (found.bytes, read_range(found, 0, 1)) == (len(name), name.encode()[:1])


def test_a_file_is_read_to_a_limit(folder: str):
    path = child(folder, "a")
    write_bytes(path, b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(FileSystemError, match="a: has more than 4 bytes"):
        read_bytes(path, 4)


def test_a_large_file_is_read_where_one_looks(folder: str):
    content = os.urandom(9 << 20)
    path = child(folder, "large")
    write_bytes(path, content)
    with open_binary(path, list_folder(folder)[0]) as file:
        assert file.read(5) == content[:5]
        file.seek(-7, os.SEEK_END)
        assert file.read() == content[-7:]
        file.seek(1 << 20)
        assert file.read(6 << 20) == content[1 << 20 : 7 << 20]
    with open_binary(path) as file:
        assert file.read() == content


@pytest.mark.parametrize("size", [10, 9 << 20])
def test_what_was_found_is_read_or_has_changed(folder: str, size: int):
    path = child(folder, "a")
    write_bytes(path, b"x" * size)
    (found,) = find_files(path)
    write_bytes(path, b"y" * (size + 1))
    with pytest.raises(ChangedError):
        read_range(found, 0, 5)
    with pytest.raises(ChangedError):
        open_binary(path, found).read()
    remove(path)
    with pytest.raises(FileNotFoundError):
        read_range(found, 0, 5)
    with pytest.raises(FileNotFoundError):
        open_binary(path)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process grows beyond a size, as where a quota is used up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path: Path):
    path = str(tmp_path / "a")
    with files_of_at_most(10), pytest.raises(RunError, match="a cannot be written"):
        write_bytes(path, b"x" * 11)
    assert list(tmp_path.iterdir()) == []
    write_bytes(path, b"some")
    with files_of_at_most(10), pytest.raises(RunError, match="a cannot be written"):
        write_bytes(path, b"x" * 11)
    assert ([file.name for file in tmp_path.iterdir()], read_bytes(path)) == (["a"], b"some")


def test_who_reads_never_sees_half_a_file(folder: str):
    path, contents = child(folder, "a"), {b"x" * 100_000, b"y" * 200_000}
    write_bytes(path, b"x" * 100_000)
    done = threading.Event()

    def write() -> None:
        for _ in range(20):
            for content in contents:
                write_bytes(path, content)
        done.set()

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        while not done.is_set() and not writing.done():
            assert read_bytes(path) in contents
        writing.result()
    assert len(below(folder)) == 1


def test_a_path_with_a_scheme_is_of_a_store():
    assert [is_local(path) for path in ("a", "/a", "a:b", "C:/a", "a/b://c")] == [True] * 5
    assert not any(map(is_local, ("mem://a", "gs://a", "file:///a", " s3://a")))
    assert join_path("s3://a/", "b", "c") == "s3://a/b/c"
    assert child("gs://a/b", "c/d") == "gs://a/b/c/d"
    assert split_path("s3://a/b/c") == ("s3://a/b", "c")


@pytest.mark.parametrize("path", ["hdfs://host/a", "mem://a/b", "file:///a/b", "http://a/b"])
@pytest.mark.parametrize(
    "ask",
    [
        exists,
        find_files,
        list_folder,
        list_names,
        open_binary,
        read_bytes,
        file_facts,
        read_versioned,
        remove,
        lambda path: find_files(f"{path}/*.npy"),
        lambda path: write_bytes(path, b""),
        lambda path: swap(path, b"", None),
    ],
)
def test_a_scheme_that_has_no_store_is_refused_by_name(path: str, ask: Callable[[str], Any]):
    with pytest.raises(FileSystemError, match=f"{path}.*: there is no such file system: give a"):
        ask(path)


def test_a_scheme_may_be_in_capitals(s3: Any):
    s3.write("folder/a1", b"some")
    assert read_bytes("S3://bucket/folder/a1") == b"some"
    assert paths(" S3://bucket/folder/a?") == ["s3://bucket/folder/a1"]


def test_a_name_that_cannot_be_read_is_named(s3: Any):
    s3.write("folder/a//b", b"some")
    with pytest.raises(FileSystemError, match=r"folder: .*a//b"):
        list_folder("s3://bucket/folder")


# Globs.


@pytest.fixture(scope="module")
def tree_of_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"some")
    return folder


def in_a_shell(folder: Path, pattern: str) -> list[str]:
    """What a shell's glob matches, files alone; Python's own is one."""
    found = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207
    return sorted({name for name in found if (folder / name).is_file()})


GLOBS = st.lists(st.sampled_from("ab1.*?[]!^-/\\us"), min_size=1, max_size=8).map("".join)


def globs(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test with many globs, those among them that are easily got wrong."""
    hard = ["*", "**", "**/*", "**/b.gz", "sub/**", "s*/**/*", "s**/b.gz", "[!]", "[!]a]", "[]a]"]
    hard += ["[^a]", "[b-a]", "a[[]1]", "[a\\]", "li*", "*/*", "?*", "[.]hidden", ".h*", "*/.b"]
    for pattern in [*hard, "[!a]*", "**/[!a]*", "split=*/*.parquet", "*%*", "**/.b", ".*/a"]:
        test = example(pattern)(test)
    quiet = settings(
        deadline=None,
        max_examples=60,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    return quiet(given(GLOBS)(test))


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@globs
def test_a_glob_of_this_machine_matches_as_in_a_shell(tree_of_files: Path, pattern: str):
    pattern = pattern.lstrip("/")  # Which would be of another folder than this one.
    if not glob.has_magic(pattern) or (tree_of_files / pattern).exists():
        return
    found = {os.path.normpath(path) for path in paths(f"{tree_of_files}/{pattern}")}
    assert found == {
        os.path.normpath(tree_of_files / name) for name in in_a_shell(tree_of_files, pattern)
    }


@pytest.fixture(scope="module")
def store_of_files(s3_server: Any) -> Iterator[Any]:
    for name in NAMES:
        s3_server.write(f"globs/{name}", b"some")
    yield s3_server
    s3_server.remove("globs")


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@pytest.mark.usefixtures("store_of_files")
@globs
def test_a_glob_of_a_store_matches_as_in_a_shell(tree_of_files: Path, s3: Any, pattern: str):
    if not glob.has_magic(pattern) or {"", "."} & set(pattern.split("/")):
        return  # A store knows no such folders.
    url = s3.url("globs")
    found = [path.removeprefix(f"{url}/") for path in paths(f"{url}/{pattern}")]
    assert found == in_a_shell(tree_of_files, pattern)


def test_a_glob_without_a_folder_is_of_this_folder(
    tree_of_files: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tree_of_files)
    assert paths("a?") == ["a1"]
    assert paths("a") == ["a"]
    assert paths("su*/*") == ["sub/a"]
    assert paths("./a?") == ["./a1"]
    assert paths("**/b.gz") == ["b.gz", "sub/sub/b.gz"]


def test_a_name_that_looks_like_a_glob_is_a_file_where_there_is_one(tree_of_files: Path):
    assert paths(f"{tree_of_files}/a[1]") == [f"{tree_of_files}/a[1]"]


def test_links_lead_where_they_lead(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a").write_bytes(b"some")
    (tmp_path / "link").symlink_to("sub/a")
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "linked").symlink_to("sub")
    assert paths(f"{tmp_path}/*") == [f"{tmp_path}/link"]
    assert paths(f"{tmp_path}/linke?/*") == [f"{tmp_path}/linked/a"]
    assert paths(f"{tmp_path}/linked/*") == [f"{tmp_path}/linked/a"]
    assert read_bytes(f"{tmp_path}/link") == b"some"


OPENED: list[str] = []
sys.addaudithook(lambda event, args: OPENED.append(str(args[0])) if event == "os.scandir" else None)


def test_a_glob_opens_no_folder_but_those_that_it_names(tmp_path: Path):
    for name in ("in/a.npy", "in/deep/b.npy", "other/c.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"some")
    OPENED.clear()
    assert paths(f"{tmp_path}/in/*.npy") == [f"{tmp_path}/in/a.npy"]
    assert [path for path in OPENED if path.startswith(str(tmp_path))] == [f"{tmp_path}/in"]


def test_a_file_that_can_be_read_once_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for pattern in ("pipe", "p*"):
        with pytest.raises(InputError, match="pipe is not a regular file: give a file that can be"):
            find_files(f"{tmp_path}/{pattern}")


# Compare and set.


def test_a_file_is_swapped_if_it_is_as_it_was_seen(folder: str):
    path = child(folder, "claim")
    assert read_versioned(path) is None
    swap(path, b"first", None)
    first = read_versioned(path)
    assert first is not None
    assert first.content == b"first"
    with pytest.raises(ChangedError):
        swap(path, b"other", None)
    swap(path, b"second, which is longer", first)
    with pytest.raises(ChangedError):
        swap(path, b"other", first)
    second = read_versioned(path)
    assert second is not None
    assert second.content == b"second, which is longer"
    swap(path, b"3", second)
    assert read_bytes(path) == b"3"


def test_of_many_who_swap_at_once_one_wins_each_time(folder: str):
    path, workers, rounds = child(folder, "claim"), 6, 5
    swap(path, b"-1 -1", None)
    won: list[bytes] = []

    def work(worker: int) -> None:
        for number in range(rounds):
            start.wait(timeout=60)
            seen = read_versioned(path)
            start.wait(timeout=60)
            try:
                swap(path, f"{number} {worker}".encode(), seen)
            except ChangedError:
                continue
            won.append(f"{number} {worker}".encode())

    start = threading.Barrier(workers)
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, worker) for worker in range(workers)]:
            done.result()
    assert [content.split()[0] for content in won] == [b"%d" % number for number in range(rounds)]
    assert read_bytes(path) == won[-1]


def test_a_seal_is_withdrawn_if_it_is_as_it_was_seen(folder: str):
    path, lock = child(folder, "seal"), child(folder, "claim")
    write_bytes(path, b"older")
    older = read_versioned(path)
    assert older is not None
    write_bytes(path, b"newer")
    with pytest.raises(ChangedError):
        withdraw(path, older, lock)
    assert read_bytes(path) == b"newer"
    newer = read_versioned(path)
    assert newer is not None
    withdraw(path, newer, lock)
    assert read_versioned(path) is None
    write_bytes(path, b"third")
    assert read_bytes(path) == b"third"


# Publishing and discarding.


def test_files_get_their_names_and_replace_what_had_them(folder: str):
    pairs = [(child(folder, f"from/{name}"), child(folder, f"to/x/{name}")) for name in "abc"]
    for source, _ in pairs:
        write_bytes(source, source[-1].encode())
    write_bytes(pairs[0][1], b"older")
    publish_all(pairs)
    publish_all(pairs)  # As a second execution of the step does.
    publish_all([])
    assert [read_bytes(destination) for _, destination in pairs] == [b"a", b"b", b"c"]
    remove(child(folder, "from"))
    assert below(folder) == [name for _, name in pairs]
    assert [read_bytes(destination) for _, destination in pairs] == [b"a", b"b", b"c"]


def test_a_file_that_is_gone_gets_no_name(folder: str):
    source, destination = child(folder, "from/a"), child(folder, "to/a")
    write_bytes(destination, b"older")
    with pytest.raises(FileNotFoundError) as raised:
        publish_all([(source, destination)])
    assert str(raised.value.filename).startswith(source)
    assert (below(folder), read_bytes(destination)) == ([destination], b"older")


def test_what_is_published_cannot_be_changed_by_the_first_name(folder: str):
    source, destination = child(folder, "from/a"), child(folder, "to/a")
    write_bytes(source, b"first")
    publish_all([(source, destination)])
    write_bytes(source, b"second")
    assert read_bytes(destination) == b"first"


def test_what_is_discarded_is_gone(folder: str):
    trash = child(folder, "trash")
    if is_local(folder):
        Path(trash).mkdir(parents=True)
    for name in ("a", "b/c", "b/d", "e"):
        write_bytes(child(folder, name), b"some")
    discard([child(folder, "a"), child(folder, "nothing")], trash)
    discard([child(folder, "b")], trash)
    discard([child(folder, "b")], trash)
    discard([], trash)
    left = [path for path in below(folder) if not path.startswith(trash)]
    assert left == [child(folder, "e")]


def test_who_may_discard_no_more_removes_nothing(tmp_path: Path):
    """The trash is in the folder of an attempt: who removes that has ended the right to discard."""
    write_bytes(f"{tmp_path}/a", b"some")
    with pytest.raises(FileNotFoundError):
        discard([f"{tmp_path}/a"], f"{tmp_path}/gone/trash")
    assert read_bytes(f"{tmp_path}/a") == b"some"


# What goes wrong on this machine.


def test_what_cannot_be_written_here_is_told_with_the_way_out(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    path = str(tmp_path / "file/folder/below")
    line = f"{path} cannot be written (Not a directory): give a folder that can be written, and "
    with pytest.raises(RunError, match=re.escape(f"{line}run it again")):
        write_bytes(path, b"some")
    write_bytes(str(tmp_path / "other"), b"some")
    with pytest.raises(RunError, match=re.escape(line)):
        publish_all([(str(tmp_path / "other"), path)])
    with pytest.raises(RunError, match=re.escape(line)):
        swap(path, b"some", None)
    with pytest.raises(RunError, match="below cannot be removed"):
        remove(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


@pytest.mark.parametrize(
    ("number", "way_out"),
    [(errno.ENOSPC, "make room there"), (errno.ENOENT, "see what removed its folder")],
)
def test_the_way_out_goes_by_what_is_wrong(number: int, way_out: str):
    with (
        pytest.raises(RunError, match=f": {way_out}, and run it again"),
        local_errors("written", "some/file"),
    ):
        raise OSError(number, os.strerror(number))


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = "its file system has no locks; give a folder on another one"
    with pytest.raises(RunError, match=rf"claim cannot be locked \(Operation not .*\): {said}"):
        swap(f"{tmp_path}/claim", b"some", None)


def test_a_temporary_folder_is_gone_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
    with pytest.raises(RunError, match=f"{tmp_path} cannot be written"), temporary_folder():
        Path("/dev/full").write_bytes(b"some")
    assert list(tmp_path.iterdir()) == []
