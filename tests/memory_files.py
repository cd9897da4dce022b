"""mem://, an object store in this process that Beam knows: no folders, and nothing local."""

import io
import posixpath

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

FILES: dict[str, bytes] = {}
"""What there is, by path."""


class _Written(io.BytesIO):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            FILES[self._path] = self.getvalue()
        super().close()


class MemoryFileSystem(FileSystem):
    def __init__(self, pipeline_options):
        super().__init__(pipeline_options)
        self.pipeline_options = pipeline_options

    @classmethod
    def scheme(cls):
        return "mem"

    def join(self, basepath, *paths):
        return posixpath.join(basepath, *paths)

    def split(self, path):
        folder, _, name = path.rpartition("/")
        return folder, name

    def mkdirs(self, path):
        pass

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for path in list(FILES):
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def create(self, path, mime_type="", compression_type="auto"):  # noqa: ARG002
        assert compression_type == "uncompressed"
        return _Written(path)

    def open(self, path, mime_type="", compression_type="auto"):  # noqa: ARG002
        assert compression_type == "uncompressed"
        if path not in FILES:
            raise BeamIOError(f"no {path}")
        return io.BytesIO(FILES[path])

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        for source, destination in zip(source_file_names, destination_file_names, strict=True):
            FILES[destination] = FILES.pop(source)

    def exists(self, path):
        return path in FILES

    def size(self, path):
        return len(FILES[path])

    def last_updated(self, path):
        assert path in FILES
        return 0.0

    def checksum(self, path):
        raise NotImplementedError

    def metadata(self, path):
        return FileMetadata(path, len(FILES[path]))

    def delete(self, paths):
        for path in paths:
            del FILES[path]
