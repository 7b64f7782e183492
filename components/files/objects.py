"""Lists, reads, writes and deletes the objects of s3://, minio:// and gs:// by Apache Beam."""

import functools
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from branchline.components.files.artifact_paths import beam_path
from branchline.components.files.check_access import ACCESS
from branchline.schemas import BranchlineError

_options = PipelineOptions([])


class StoredFile(NamedTuple):
    """A file: its path, size in bytes, and when it was last changed, in seconds since 1970."""

    path: str
    size: int
    changed: float


def set_options(beam_args: Sequence[str]) -> None:
    """Sets Beam's options for its file systems, in this process.

    Without any, Beam does not open s3:// outside a Beam pipeline: "Must provide one of client or
    options".
    """
    global _options
    _options = PipelineOptions(list(beam_args))
    _client_of.cache_clear()
    FileSystems.set_options(_options)


def client(uri: str) -> Any:
    """Beam's own client of the store, which its file systems make anew for every call."""
    access = tuple(os.environ.get(name) for name in ACCESS)
    return _client_of(beam_path(uri).partition("://")[0], access)


def listed(uri: str) -> Iterator[StoredFile]:
    """Every object under a directory, named by the scheme that `uri` has."""
    uri = uri.rstrip("/")
    root = beam_path(uri)
    for found, (size, changed) in client(uri).list_files(root + "/", with_metadata=True):
        yield StoredFile(uri + found.removeprefix(root), size, changed)


def read(uri: str) -> Any:
    """Opens an object to read its bytes."""
    return client(uri).open(beam_path(uri), "r")


class Writer(io.BufferedIOBase):
    """Writes an object's bytes; makes it with the first, because Beam cannot write empty ones.

    Beam uploads to s3:// in parts, and a store does not accept an upload of none.
    """

    def __init__(self, uri: str):
        self._path = beam_path(uri)
        self._raw: Any = None

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True

    def write(self, buffer: Any) -> int:
        """Adds bytes; returns how many."""
        if len(buffer):
            if self._raw is None:
                self._raw = client(self._path).open(self._path, "w")
            self._raw.write(buffer)
        return len(buffer)

    def close(self) -> None:
        """Completes the object."""
        if self.closed:
            return
        if self._raw is not None:
            self._raw.close()
        elif self._path.startswith("s3://"):
            bucket, _, key = self._path.removeprefix("s3://").partition("/")
            client(self._path).client.client.put_object(Bucket=bucket, Key=key, Body=b"")
        else:
            client(self._path).open(self._path, "w").close()
        super().close()


def delete_directory(uri: str) -> None:
    """Deletes every object under `uri`."""
    FileSystems.delete([beam_path(uri).rstrip("/") + "/"])


def delete_markers(uri: str) -> list[str]:
    """Deletes the empty objects that stand for directories under `uri`; tells which.

    Each alone, by the client: `FileSystems.delete(["s3://bucket/directory/"])` deletes everything
    in the directory.
    """
    found = [
        beam_path(each.path) for each in listed(uri) if each.path.endswith("/") and not each.size
    ]
    for marker in found:
        client(marker).delete(marker)
    return found


@functools.cache
def _client_of(scheme: str, access: tuple[str | None, ...]) -> Any:
    if scheme == "gs":
        from apache_beam.io.gcp.gcsio import GcsIO

        return GcsIO(pipeline_options=_options)
    if scheme != "s3":
        raise BranchlineError(f"{scheme}:// is of no known store: expected s3, minio or gs")
    from apache_beam.io.aws.s3io import S3IO

    return S3IO(options=_options)
