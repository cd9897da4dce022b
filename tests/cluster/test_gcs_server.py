"""The GCS that tests use, by Google's client and by obstore: what one writes the other reads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import obstore
import pytest
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError
from obstore.store import GCSStore

from tests.cluster.gcs_server import PAGE, Server, gcs_server

LARGE = bytes(range(256)) * (3 << 14)  # 12 MiB, which obstore sends in parts.
NAMES = ["plain", "in/a folder/ü+&%41?#"]


@pytest.fixture
def server() -> Iterator[Server]:
    with gcs_server("bucket") as server:
        yield server


@pytest.fixture
def google(server: Server) -> storage.Bucket:
    return google_client(server).bucket("bucket")


@pytest.fixture
def ours(server: Server) -> GCSStore:
    return store(server, "bucket")


def google_client(server: Server) -> storage.Client:
    return storage.Client(
        "project", AnonymousCredentials(), client_options={"api_endpoint": server.address}
    )


def store(server: Server, bucket: str) -> GCSStore:
    return GCSStore(
        bucket,
        base_url=server.address,
        credential_provider=lambda: {"token": "t", "expires_at": None},
        client_options={"allow_http": True},
    )


def read(ours: GCSStore, name: str) -> bytes:
    return bytes(obstore.get(ours, name).bytes())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"\r\n--content\r\n\x00\xff", LARGE])
def test_what_obstore_writes_google_reads(
    ours: GCSStore, google: storage.Bucket, name: str, content: bytes
):
    obstore.put(ours, name, content)
    assert google.blob(name).download_as_bytes() == content
    assert [blob.name for blob in google.list_blobs()] == [name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"\r\n--content\r\n\x00\xff", LARGE])
def test_what_google_writes_obstore_reads(
    ours: GCSStore, google: storage.Bucket, name: str, content: bytes
):
    google.blob(name).upload_from_string(content)
    assert read(ours, name) == content
    (meta,) = obstore.list(ours).collect()
    assert (meta["path"], meta["size"]) == (name, len(content))


@pytest.mark.parametrize("content", [b"", LARGE])
def test_what_google_writes_as_a_stream_obstore_reads(
    ours: GCSStore, google: storage.Bucket, content: bytes
):
    with google.blob("name").open("wb", chunk_size=1 << 20) as file:
        file.write(content)
    assert read(ours, "name") == content


def test_an_object_is_made_but_once(ours: GCSStore, google: storage.Bucket):
    obstore.put(ours, "by obstore", b"first", mode="create")
    google.blob("by google").upload_from_string(b"first", if_generation_match=0)
    for name in ("by obstore", "by google"):
        with pytest.raises(AlreadyExistsError):
            obstore.put(ours, name, b"second", mode="create")
        with pytest.raises(PreconditionFailed):
            google.blob(name).upload_from_string(b"second", if_generation_match=0)
        assert read(ours, name) == google.blob(name).download_as_bytes() == b"first"


def test_of_many_that_make_an_object_one_does(ours: GCSStore):
    def makes(number: int) -> bool:
        try:
            obstore.put(ours, "name", str(number).encode(), mode="create")
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        made = [number for number, is_made in enumerate(pool.map(makes, range(64))) if is_made]
    assert [read(ours, "name").decode()] == [str(number) for number in made]


def test_an_object_is_replaced_only_as_it_was_seen(ours: GCSStore, google: storage.Bucket):
    first = obstore.put(ours, "name", b"first")
    blob = google.get_blob("name")
    assert str(blob.generation) == first["version"] == obstore.head(ours, "name")["version"]
    seen: Any = {"version": first["version"]}
    second = obstore.put(ours, "name", b"second", mode=seen)
    assert first["e_tag"] != second["e_tag"] == obstore.head(ours, "name")["e_tag"]
    with pytest.raises(PreconditionError):
        obstore.put(ours, "name", b"third", mode=seen)
    with pytest.raises(PreconditionFailed):
        google.blob("name").upload_from_string(b"third", if_generation_match=blob.generation)
    with pytest.raises(PreconditionFailed):
        google.blob("name").delete(if_generation_match=blob.generation)
    assert read(ours, "name") == b"second"
    now = google.get_blob("name").generation
    google.blob("name").upload_from_string(b"third", if_generation_match=now)
    assert read(ours, "name") == b"third"
    obstore.delete(ours, "name")
    with pytest.raises(PreconditionError):
        obstore.put(ours, "name", b"fourth", mode=seen)


def test_an_object_is_read_only_as_it_was_seen(ours: GCSStore, google: storage.Bucket):
    first = obstore.put(ours, "name", b"first")
    assert bytes(obstore.get(ours, "name", options={"if_match": first["e_tag"]}).bytes())
    google.blob("name").upload_from_string(b"first")
    with pytest.raises(PreconditionError):
        obstore.get(ours, "name", options={"if_match": first["e_tag"]})
    with pytest.raises(FileNotFoundError):
        obstore.get(ours, "name", options={"version": first["version"]})
    with pytest.raises(NotFound):
        google.blob("name", generation=int(first["version"])).download_as_bytes()


def test_copies(ours: GCSStore, google: storage.Bucket):
    obstore.put(ours, NAMES[1], b"content")
    obstore.copy(ours, NAMES[1], "by obstore")
    google.copy_blob(google.blob(NAMES[1]), google, "by google")
    google.blob("rewritten").rewrite(google.blob(NAMES[1]))
    assert google.blob("by obstore").download_as_bytes() == b"content"
    assert read(ours, "by google") == read(ours, "rewritten") == b"content"
    with pytest.raises(AlreadyExistsError):
        obstore.copy(ours, NAMES[1], "by google", overwrite=False)
    with pytest.raises(PreconditionFailed):
        google.copy_blob(google.blob(NAMES[1]), google, "by google", if_generation_match=0)


def test_a_copy_of_what_is_missing(ours: GCSStore, google: storage.Bucket):
    with pytest.raises(FileNotFoundError):
        obstore.copy(ours, "missing", "name")
    with pytest.raises(NotFound):
        google.copy_blob(google.blob("missing"), google, "name")
    assert obstore.list(ours).collect() == []


def test_ranges(ours: GCSStore, google: storage.Bucket):
    google.blob("name").upload_from_string(b"0123456789")
    assert bytes(obstore.get_range(ours, "name", start=2, end=5)) == b"234"
    assert bytes(obstore.get_range(ours, "name", start=8, length=10)) == b"89"
    parts = obstore.get_ranges(ours, "name", starts=[0, 7], ends=[2, 10])
    assert [bytes(part) for part in parts] == [b"01", b"789"]
    assert bytes(obstore.get(ours, "name", options={"range": {"suffix": 3}}).bytes()) == b"789"
    assert bytes(obstore.get(ours, "name", options={"range": {"offset": 6}}).bytes()) == b"6789"
    assert google.blob("name").download_as_bytes(start=2, end=4) == b"234"
    with google.blob("name").open("rb") as file:
        file.seek(8)
        assert file.read(10) == b"89"


def test_lists_of_more_than_a_page(server: Server, ours: GCSStore, google: storage.Bucket):
    names = [f"many/{n // 2:04}/{n:04}" for n in range(2 * PAGE + 2)]
    for name in ("man", "many-more", *names):
        obstore.put(ours, name, b"content")
    server.gcs.requests.clear()
    assert [meta["path"] for meta in obstore.list(ours, "many").collect()] == names
    assert [blob.name for blob in google.list_blobs(prefix="many/")] == names
    assert [server.gcs.requests[f"GET {api}_list"] for api in ("xml", "json")] == [3, 3]
    after = obstore.list(ours, "many", offset=names[-3]).collect()
    assert [meta["path"] for meta in after] == names[-2:]
    folders = [name.rpartition("/")[0] for name in names[::2]]
    assert obstore.list_with_delimiter(ours, "many")["common_prefixes"] == folders
    blobs = google.list_blobs(prefix="many/", delimiter="/")
    assert list(blobs) == []
    assert blobs.prefixes == {f"{folder}/" for folder in folders}


def test_what_lies_in_a_folder(ours: GCSStore, google: storage.Bucket):
    for name in ("other", "in/a", "in/b/1", "in/b/2", "in/c/d/e", "in-between"):
        google.blob(name).upload_from_string(b"content")
    found = obstore.list_with_delimiter(ours, "in")
    assert [meta["path"] for meta in found["objects"]] == ["in/a"]
    assert found["common_prefixes"] == ["in/b", "in/c"]
    blobs = google.list_blobs(prefix="in/", delimiter="/")
    assert [blob.name for blob in blobs] == ["in/a"]
    assert blobs.prefixes == {"in/b/", "in/c/"}


def test_what_is_deleted_is_gone(ours: GCSStore, google: storage.Bucket):
    for name in ("a", "b", "c"):
        obstore.put(ours, name, b"content")
    obstore.delete(ours, "a")
    google.delete_blob("b")
    with google.client.batch(raise_exception=False) as batch:
        google.delete_blob("c")
        google.delete_blob("missing")
    assert [answer.status_code for answer in batch._responses] == [204, 404]
    assert obstore.list(ours).collect() == []
    with pytest.raises(FileNotFoundError):
        obstore.delete(ours, "a")
    with pytest.raises(FileNotFoundError):
        obstore.head(ours, "a")
    with pytest.raises(NotFound):
        google.delete_blob("a")
    assert google.get_blob("a") is None


def write_half(file: Any) -> None:
    with file:
        file.write(LARGE)
        raise KeyError


def test_of_an_upload_that_is_given_up_nothing_is_left(ours: GCSStore, google: storage.Bucket):
    with pytest.raises(KeyError):
        write_half(google.blob("name").open("wb", chunk_size=1 << 18))
    with pytest.raises(KeyError):
        write_half(obstore.open_writer(ours, "name", buffer_size=1 << 20))
    assert obstore.list(ours).collect() == []


def test_a_bucket_that_is_missing(server: Server, ours: GCSStore):
    missing, client = store(server, "missing"), google_client(server)
    with pytest.raises(FileNotFoundError):
        obstore.put(missing, "name", b"content")
    with pytest.raises(FileNotFoundError):
        obstore.get(missing, "name")
    with pytest.raises(GenericError, match="NoSuchBucket"):
        obstore.list(missing).collect()
    with pytest.raises(NotFound):
        list(client.list_blobs("missing"))
    assert client.lookup_bucket("missing") is None
    client.create_bucket("missing")
    assert client.lookup_bucket("missing").name == "missing"
    obstore.put(missing, "name", b"content")
    assert obstore.list(ours).collect() == []
