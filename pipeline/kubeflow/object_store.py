"""Lets TFX read and write s3://, minio:// and gs:// by Apache Beam's file systems.

TFX's own file systems are TensorFlow's, which knows neither s3:// nor minio:// and leaves an empty
object "<directory>/" for every directory that it makes in a store.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from tfx.dsl.io.filesystem import Filesystem, NotFoundError
from tfx.dsl.io.filesystem_registry import DEFAULT_FILESYSTEM_REGISTRY, FilesystemRegistry

from branchline.components.artifact_paths import beam_path

_BEFORE_TENSORFLOW = 5  # whose own file system registers itself for s3:// and gs:// with 10


@dataclass(frozen=True)
class Stat:
    """Size in bytes and time of the last change in nanoseconds, named as TensorFlow does."""

    length: int
    mtime_nsec: int
    is_directory: bool


class ObjectStoreFilesystem(Filesystem):
    """Files are objects; a directory is there as long as an object lies under it."""

    SUPPORTED_SCHEMES = ["s3://", "minio://", "gs://"]
    beam_options = PipelineOptions([])

    @staticmethod
    def open(name: Any, mode: str = "r") -> Any:
        """Opens an object to be read ("r") or written anew ("w"), as text or as bytes ("b").

        Raises:
            NotFoundError: It is to be read and does not exist.
            ValueError: Any other mode; objects cannot be appended to or changed.
        """
        name, kind = _text(name), mode.replace("b", "").replace("t", "")
        if kind not in ("r", "w"):
            raise ValueError(f"{name}: an object is opened with r, rb, w or wb, got mode {mode!r}")
        if kind == "r" and not _is_file(name):
            raise NotFoundError(f"{name} does not exist")
        # Without the type Beam would take .gz apart.
        as_it_is = CompressionTypes.UNCOMPRESSED
        raw: Any = (
            FileSystems.open(beam_path(name), compression_type=as_it_is)
            if kind == "r"
            else _Writer(beam_path(name))
        )
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding="utf-8")

    @staticmethod
    def copy(src: Any, dst: Any, overwrite: bool = False) -> None:
        """Copies an object within the store.

        Raises:
            NotFoundError: `src` does not exist.
            OSError: `dst` exists and is not to be overwritten.
        """
        _check_pair(src, dst, overwrite)
        FileSystems.copy([beam_path(_text(src))], [beam_path(_text(dst))])

    @staticmethod
    def exists(path: Any) -> bool:
        """Whether there is such an object, or any object under it."""
        return _is_file(_text(path)) or ObjectStoreFilesystem.isdir(path)

    @staticmethod
    def glob(pattern: Any) -> list[Any]:
        """Objects and directories that match; `*` stands for no slash, as in a directory."""
        pattern = _text(pattern)
        root = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
        wanted = _compile(pattern)
        found = set()
        for entry in _list(root):
            parts = entry.path.removeprefix(root).strip("/").split("/")
            paths = ("/".join([root, *parts[:depth]]) for depth in range(1, len(parts) + 1))
            found.update(path for path in paths if wanted.fullmatch(path))
        return sorted(found)

    @staticmethod
    def isdir(path: Any) -> bool:
        """Whether an object lies under it."""
        return bool(_list(_text(path), limit=1))

    @staticmethod
    def listdir(path: Any) -> list[Any]:
        """Names of the objects and directories in a directory.

        Raises:
            NotFoundError: Nothing lies under it.
        """
        for _, dirs, files in ObjectStoreFilesystem.walk(path):
            return sorted({*dirs, *files})
        raise NotFoundError(f"{_text(path)} is no directory")

    @staticmethod
    def makedirs(path: Any) -> None:
        """Does nothing: a store needs no directories."""

    @staticmethod
    def mkdir(path: Any) -> None:
        """Does nothing: a store needs no directories."""

    @staticmethod
    def remove(path: Any) -> None:
        """Deletes an object.

        Raises:
            NotFoundError: It does not exist.
        """
        path = _text(path)
        if not _is_file(path):
            raise NotFoundError(f"{path} does not exist")
        FileSystems.delete([beam_path(path)])

    @staticmethod
    def rename(src: Any, dst: Any, overwrite: bool = False) -> None:
        """Copies an object, then deletes it where it was.

        Raises:
            NotFoundError: `src` does not exist.
            OSError: `dst` exists and is not to be overwritten.
        """
        ObjectStoreFilesystem.copy(src, dst, overwrite)
        ObjectStoreFilesystem.remove(src)

    @staticmethod
    def rmtree(path: Any) -> None:
        """Deletes all that lies under a directory.

        Raises:
            NotFoundError: Nothing does.
        """
        path = _text(path)
        if not ObjectStoreFilesystem.isdir(path):
            raise NotFoundError(f"{path} is no directory")
        FileSystems.delete([beam_path(path).rstrip("/") + "/"])

    @staticmethod
    def stat(path: Any) -> Stat:
        """Size and time of an object; of a directory neither.

        Raises:
            NotFoundError: There is neither an object nor a directory of that name.
        """
        path = _text(path)
        if _is_file(path):
            filesystem: Any = FileSystems.get_filesystem(beam_path(path))
            entry = filesystem.metadata(beam_path(path))
            updated = entry.last_updated_in_seconds or 0
            return Stat(entry.size_in_bytes, int(updated * 1e9), is_directory=False)
        if ObjectStoreFilesystem.isdir(path):
            return Stat(0, 0, is_directory=True)
        raise NotFoundError(f"{path} does not exist")

    @staticmethod
    def walk(
        top: Any, topdown: bool = True, onerror: Callable[..., None] | None = None
    ) -> Iterator[tuple[Any, list[Any], list[Any]]]:
        """Directory, names of its directories, names of its objects, of each directory."""
        top = _text(top).rstrip("/")
        tree: dict[str, tuple[set[str], set[str]]] = {}
        for entry in _list(top):
            folder = top
            *folders, name = entry.path.removeprefix(top + "/").split("/")
            for each in folders:
                tree.setdefault(folder, (set(), set()))[0].add(each)
                folder = f"{folder}/{each}"
            files = tree.setdefault(folder, (set(), set()))[1]
            if name:  # none in the marker of a directory
                files.add(name)
        if not tree and onerror:
            onerror(NotFoundError(f"{top} is no directory"))
        for folder in sorted(tree, key=lambda name: name.split("/"), reverse=not topdown):
            dirs, files = tree[folder]
            yield folder, sorted(dirs), sorted(files)


class _WithoutGoogle(ObjectStoreFilesystem):
    """Leaves gs:// to TensorFlow, which has it built in."""

    SUPPORTED_SCHEMES = ["s3://", "minio://"]


def register(
    beam_args: Sequence[str] = (),
    google: bool = False,
    registry: FilesystemRegistry = DEFAULT_FILESYSTEM_REGISTRY,
) -> None:
    """Makes it the file system of TFX for s3:// and minio://.

    Args:
        beam_args: Beam's own, of which its file systems read some, such as --s3_endpoint_url.
            They are set here for the process: without any, Beam does not open s3:// outside a
            Beam pipeline.
        google: Whether it also takes gs:// from TensorFlow's file system.
        registry: Where it is registered.
    """
    ObjectStoreFilesystem.beam_options = PipelineOptions(list(beam_args))
    FileSystems.set_options(ObjectStoreFilesystem.beam_options)
    filesystem = ObjectStoreFilesystem if google else _WithoutGoogle
    registry.register(filesystem, priority=_BEFORE_TENSORFLOW)


def delete_markers(uri: str) -> list[str]:
    """Deletes the empty objects that stand for directories under `uri`; tells which.

    Each alone, by Beam's client of the store: `FileSystems.delete(["s3://bucket/directory/"])`
    deletes everything in the directory.
    """
    found = [
        beam_path(entry.path)
        for entry in _list(uri)
        if entry.path.endswith("/") and not entry.size_in_bytes
    ]
    if found:
        client = _client(found[0])
        for marker in found:
            client.delete(marker)
    return found


class _Writer(io.BufferedIOBase):
    """Makes the object with the first byte, because Beam cannot write empty ones to s3://.

    It uploads in parts, and a store does not accept an upload of none.
    """

    def __init__(self, path: str):
        self._path = path
        self._raw: Any = None

    def writable(self) -> bool:
        return True

    def write(self, buffer: Any) -> int:
        if not len(buffer):
            return 0
        if self._raw is None:
            self._raw = FileSystems.create(
                self._path, compression_type=CompressionTypes.UNCOMPRESSED
            )
        self._raw.write(buffer)
        return len(buffer)

    def close(self) -> None:
        if self.closed:
            return
        if self._raw is not None:
            self._raw.close()
        elif self._path.startswith("s3://"):
            bucket, _, key = self._path.removeprefix("s3://").partition("/")
            _client(self._path).client.client.put_object(Bucket=bucket, Key=key, Body=b"")
        else:
            FileSystems.create(self._path).close()
        super().close()


def _client(uri: str) -> Any:
    """Beam's own client of the store."""
    options = ObjectStoreFilesystem.beam_options
    if uri.startswith("gs://"):
        from apache_beam.io.gcp.gcsio import GcsIO

        return GcsIO(pipeline_options=options)
    from apache_beam.io.aws.s3io import S3IO

    return S3IO(options=options)


def _text(path: Any) -> str:
    return path.decode() if isinstance(path, bytes) else str(path)


def _is_file(path: str) -> bool:
    return not path.endswith("/") and FileSystems.exists(beam_path(path))


def _list(path: str, limit: int | None = None) -> list[FileMetadata]:
    """All objects under a directory, by names of the scheme that `path` has."""
    path = path.rstrip("/")
    root = beam_path(path)
    pattern = re.sub(r"[\[*?]", "?", root)  # Beam has no way to take them literally
    limits = [limit if pattern == root else None]
    [matched] = FileSystems.match([pattern + "/**"], limits=limits)
    return [
        FileMetadata(
            path + entry.path.removeprefix(root),
            entry.size_in_bytes,
            entry.last_updated_in_seconds,
        )
        for entry in matched.metadata_list
        if entry.path.startswith(root + "/")
    ]


def _compile(pattern: str) -> re.Pattern[str]:
    """Python's glob as a regular expression: `*` and `?` match no slash."""
    parts = re.split(r"(\*|\?|\[[^\]]+\])", pattern)
    special = {"*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(
            special.get(part, part.replace("[!", "[^") if part.startswith("[") else re.escape(part))
            for part in parts
        )
    )


def _check_pair(src: Any, dst: Any, overwrite: bool) -> None:
    if not _is_file(_text(src)):
        raise NotFoundError(f"{_text(src)} does not exist")
    if not overwrite and _is_file(_text(dst)):
        raise OSError(f"{_text(dst)} exists, and is not to be overwritten")
