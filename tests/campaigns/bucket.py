"""A bucket in memory, with the methods of obstore's stores that are used, for the scheduler.

It answers as S3 does, whose ETag is the MD5 of the content, so that the same content has the same
one again; or as GCS does, where each version has a generation, and deleting what is gone fails.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from hashlib import md5
from typing import Any, NamedTuple

from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError


class _Object(NamedTuple):
    content: bytes
    generation: int


class _Found:
    """What a GET answers."""

    def __init__(self, content: bytes, meta: dict[str, Any]) -> None:
        self._content = content
        self.meta = meta

    def bytes(self) -> bytes:
        return self._content

    def stream(self) -> Iterator[bytes]:
        yield self._content


class Bucket:
    """Objects by name. point: called with each request.

    lose: how often a request is done, its answer is lost, and the library sends it again. fail:
    how often a request fails for good, done or not; rng draws both.
    """

    def __init__(self, scheme: str, point: Callable[[str, str], None], rng: random.Random) -> None:
        self.objects: dict[str, _Object] = {}
        self.lose = self.fail = 0.0
        self.faults = 0
        self.is_asked_by_execution: Callable[[], bool] = lambda: False
        self._scheme = scheme
        self._point = point
        self._rng = rng
        self._generations = 0

    def _ask(self, request: str, name: str, do: Callable[[], Any]) -> Any:
        self._point(request, name)
        if not self.is_asked_by_execution() or not (self.lose or self.fail):
            return do()
        drawn = self._rng.random()
        if drawn < self.lose:
            self.faults += 1
            first_error: Exception | None = None
            try:
                do()
            except Exception as error:  # noqa: BLE001  # Nobody hears of it.
                first_error = error
            self._point(f"{request} 2", f"{name} ({first_error or 'done, answer lost'})")
            return do()
        if drawn < self.lose + self.fail:
            self.faults += 1
            if self._rng.random() < 0.5:
                do()
            self._point("fails", name)
            raise GenericError("no answer in time")
        return do()

    def _meta(self, name: str) -> dict[str, Any]:
        content, generation = self.objects[name]
        is_s3 = self._scheme == "s3"
        tag = md5(content, usedforsecurity=False).hexdigest() if is_s3 else str(generation)
        version = None if is_s3 else str(generation)
        return {"path": name, "size": len(content), "e_tag": f'"{tag}"', "version": version}

    def _found(self, name: str) -> dict[str, Any]:
        if name not in self.objects:
            raise FileNotFoundError(f"Object at location {name} not found")
        return self._meta(name)

    def _write(self, name: str, content: bytes) -> None:
        self._generations += 1
        self.objects[name] = _Object(content, self._generations)

    def head(self, name: str) -> dict[str, Any]:
        return self._ask("HEAD", name, lambda: self._found(name))

    def get(self, name: str, *, options: Any = None) -> _Found:
        start, end = (options or {}).get("range", (0, None))
        return self._ask("GET", name, lambda: _Found(self._get(name)[start:end], self._meta(name)))

    def _get(self, name: str) -> bytes:
        self._found(name)
        return self.objects[name].content

    def put(self, name: str, content: Any, *, mode: Any, use_multipart: bool) -> None:
        assert not use_multipart

        def do() -> None:
            if mode == "create" and name in self.objects:
                raise AlreadyExistsError(name)
            if isinstance(mode, dict):
                self._check(name, mode)
            self._write(name, bytes(content))

        self._ask("PUT" if mode == "overwrite" else "PUT IF", name, do)

    def _check(self, name: str, mode: dict[str, Any]) -> None:
        ((key, wanted),) = mode.items()
        assert key == ("e_tag" if self._scheme == "s3" else "version")
        if name not in self.objects or self._meta(name)[key] != wanted:
            raise PreconditionError(name)

    def copy(self, source: str, target: str) -> None:
        self._ask("COPY", f"{source} -> {target}", lambda: self._write(target, self._get(source)))

    def delete(self, names: Sequence[str] | str) -> None:
        """Deletes one after the other; another request may come between two."""
        for name in [names] if isinstance(names, str) else names:
            self._ask("DELETE", name, lambda name=name: self._delete(name))

    def delete_if(self, name: str, version: str) -> int:
        """Deletes an object of a version; the HTTP status of the answer."""

        def do() -> int:
            if name not in self.objects:
                return 404
            if self._meta(name)["e_tag" if self._scheme == "s3" else "version"] != version:
                return 412
            self._delete(name)
            return 204

        return self._ask("DELETE IF", name, do)

    def _delete(self, name: str) -> None:
        if self.objects.pop(name, None) is None and self._scheme == "gs":
            raise FileNotFoundError(f"Object at location {name} not found")

    def list(
        self, prefix: str | None = None, *, chunk_size: int = 1000
    ) -> Iterator[list[dict[str, Any]]]:
        yield self._ask("LIST", prefix or "", lambda: self._below(prefix))[:]
        assert chunk_size

    def _below(self, prefix: str | None) -> list[dict[str, Any]]:
        start = f"{prefix}/" if prefix else ""
        return [self._meta(name) for name in sorted(self.objects) if name.startswith(start)]

    def list_with_delimiter(self, prefix: str | None = None) -> dict[str, Any]:
        def do() -> dict[str, Any]:
            start = f"{prefix}/" if prefix else ""
            below = self._below(prefix)
            folders = {
                start + meta["path"][len(start) :].partition("/")[0]
                for meta in below
                if "/" in meta["path"][len(start) :]
            }
            objects = [meta for meta in below if "/" not in meta["path"][len(start) :]]
            return {"common_prefixes": sorted(folders), "objects": objects}

        return self._ask("LIST", prefix or "", do)
