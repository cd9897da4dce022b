"""Local files without Beam, as Beam has them; and what is not local by Beam's file systems."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.value_provider import RuntimeValueProvider
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.memory_files import FILES
from transforms.errors import RunError
from transforms.file_errors import is_file_system_error, told_unless
from transforms.files import (
    exists,
    file_bytes,
    file_facts,
    file_system,
    is_local,
    join_path,
    list_files,
    make_parent,
    move,
    move_all,
    read_bytes,
    remove,
    remove_all,
    split_path,
    temporary_folder,
    write_bytes,
)

NAMES = ["a", "b.gz", "a[1]", "a1", "]", "^", "!", "-", ".hidden", "sub/a", "sub/sub/b.gz", "a\\"]


@pytest.fixture(params=["local", "mem"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder on this machine, and one that only Beam knows."""
    yield str(tmp_path / "folder") if request.param == "local" else "mem://folder"
    FILES.clear()


def test_a_file_is_written_listed_moved_and_removed(folder: str):
    first, second = join_path(folder, "a", "first.gz"), join_path(folder, "b/second")
    facts = write_bytes(first, b"some")
    assert (read_bytes(first), file_bytes(first), file_facts(first)) == (b"some", 4, facts)
    assert list_files(f"{folder}/**") == list_files(f"{folder}/?/*.gz") == [first]
    assert (list_files(first), list_files(second), list_files(f"{folder}/*")) == ([first], [], [])
    assert split_path(first) == (join_path(folder, "a"), "first.gz")
    write_bytes(second, b"other")
    move(first, second, facts)
    move(first, second, facts)
    assert (exists(first), read_bytes(second)) == (False, b"some")
    write_bytes(first, b"again")
    assert list_files(f"{folder}/**") == [first, second]
    with pytest.raises(RunError, match="is gone"):
        move(join_path(folder, "c"), second, facts._replace(bytes=5))
    remove(first)
    assert list_files(f"{folder}/**") == [second]
    remove(folder)
    remove(folder)
    assert list_files(f"{folder}/**") == []
    with pytest.raises(OSError, match="first"):
        read_bytes(first)


def test_files_are_moved_and_removed_together(folder: str):
    names = ("a", "b", "c")
    moves = [
        (join_path(folder, "from", name), join_path(folder, "to", name), facts)
        for name in names
        for facts in [write_bytes(join_path(folder, "from", name), name.encode())]
    ]
    move_all(join_path(folder, "from"), moves[1:])
    assert list_files(f"{folder}/from/**") == [moves[0][0]]
    move_all(join_path(folder, "from"), moves)  # Again, as a runner may: two have been moved.
    assert list_files(f"{folder}/from/**") == []
    assert [read_bytes(destination) for _, destination, _ in moves] == [b"a", b"b", b"c"]
    remove_all([destination for _, destination, _ in moves[:2]])
    remove_all([])
    assert list_files(f"{folder}/**") == [moves[2][1]]
    with pytest.raises(RunError, match="is gone"):
        move_all(join_path(folder, "from"), moves)


def test_a_file_that_cannot_be_written_leaves_nothing(folder: str):
    with pytest.raises(TypeError):
        write_bytes(join_path(folder, "a"), "no bytes")  # type: ignore[arg-type]
    assert list_files(f"{folder}/**") in ([], [join_path(folder, "a")])
    assert not exists(join_path(folder, "a"))


def test_a_path_with_a_scheme_goes_to_beam():
    assert [is_local(path) for path in ("a", "/a", "a:b", "C:/a", "a/b://c")] == [True] * 5
    assert not any(map(is_local, ("mem://a", "gs://a", "file:///a", " s3://a")))
    assert file_system("mem://a").scheme() == "mem"
    with pytest.raises(ValueError, match="file:///a"):
        file_system("file:///a")
    assert is_file_system_error(BeamIOError("none"))
    assert not is_file_system_error(OSError("none"))


@pytest.mark.parametrize("path", ["a", "a/", "/a/b", "a/../b", "./a", "/"])
def test_local_paths_are_taken_apart_as_beam_does(path: str):
    assert split_path(path) == FileSystems.split(path)
    assert join_path(path, "b", "c") == FileSystems.join(path, "b", "c")
    assert join_path(path, "/b") == FileSystems.join(path, "/b")


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path):
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError):
        make_parent(f"{tmp_path}/a/b")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "link").symlink_to("a")
    (folder / "broken").symlink_to("nothing")
    (folder / "linked").symlink_to("sub")
    return folder


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")  # Of Beam's.
@settings(deadline=None)
@given(st.lists(st.sampled_from("ab1.*?[]!^-/\\us"), max_size=8).map("".join))
@example("**")
@example("sub")
@example("sub/")
@example("s*/**")
@example("[!]")
@example("[!]a]")
@example("[]a]")
@example("[^a]")
@example("[b-a]")
@example("a[[]1]")
@example("[a\\]")
@example("li*")
@example("linked/*")
@example("linke?/*")
def test_a_glob_matches_the_files_that_it_matches_for_beam(files: Path, pattern: str):
    try:
        (found,) = FileSystems.match([f"{files}/{pattern}"])
        expected = sorted(metadata.path for metadata in found.metadata_list)
    except BeamIOError:
        expected = []
    assert list_files(f"{files}/{pattern}") == expected


def test_a_glob_without_a_folder_is_of_this_folder(files: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(files)
    assert list_files("a*") == ["a", "a1", "a[1]"]
    assert list_files("a") == ["a"]
    assert list_files("su*/*") == ["sub/a"]
    assert list_files("./a?") == ["./a1", "./a\\"]
    assert list_files("**/b.gz") == ["sub/sub/b.gz"]


def test_file_systems_have_options_where_nobody_gave_any(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    monkeypatch.setattr(RuntimeValueProvider, "runtime_options", None)
    exists("mem://folder/file")
    assert FileSystems.get_filesystem("mem://folder").pipeline_options is not None


def test_file_systems_keep_the_options_of_the_job(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    of_the_job = PipelineOptions(["--runner=FnApiRunner"])
    monkeypatch.setattr(RuntimeValueProvider, "runtime_options", of_the_job)
    exists("mem://folder/file")
    assert FileSystems.get_filesystem("mem://folder").pipeline_options is of_the_job


def test_what_cannot_be_written_here_is_told_with_the_way_out(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    path = str(tmp_path / "file/folder/below")
    line = f"{path} cannot be written (Not a directory): give a folder that can be written, and "
    with pytest.raises(RunError, match=re.escape(f"{line}run it again")):
        write_bytes(path, b"some")
    facts = write_bytes(str(tmp_path / "other"), b"some")
    with pytest.raises(RunError, match=re.escape(line)):
        move(str(tmp_path / "other"), path, facts)
    with pytest.raises(RunError, match="below cannot be removed"):
        remove(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


@pytest.mark.parametrize(
    ("number", "way_out"),
    [(errno.ENOSPC, "make room there"), (errno.ENOENT, "see what removed its folder")],
)
def test_the_way_out_goes_by_what_is_wrong(number, way_out):
    with pytest.raises(RunError, match=f": {way_out}, and run it again"):  # noqa: SIM117
        with told_unless("written", "some/file"):
            raise OSError(number, os.strerror(number))


def test_a_temporary_folder_is_gone_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
    with pytest.raises(RunError, match=f"{tmp_path} cannot be written"), temporary_folder():
        Path("/dev/full").write_bytes(b"some")
    assert list(tmp_path.iterdir()) == []
