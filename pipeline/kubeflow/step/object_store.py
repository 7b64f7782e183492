"""Lets TFX read and write s3://, minio:// and gs:// by Apache Beam's file systems.

TFX's own file systems are TensorFlow's, which knows neither s3:// nor minio:// and leaves an empty
object "<directory>/" for every directory that it makes in a store.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tfx.dsl.io.filesystem import Filesystem, NotFoundError
from tfx.dsl.io.filesystem_registry import DEFAULT_FILESYSTEM_REGISTRY, FilesystemRegistry

from branchline.components.files import objects
from branchline.components.files.artifact_paths import beam_path

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
        raw: Any = objects.read(name) if kind == "r" else objects.Writer(name)
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding="utf-8")

    @staticmethod
    def copy(src: Any, dst: Any, overwrite: bool = False) -> None:
        """Copies an object within the store.

        Raises:
            NotFoundError: `src` does not exist.
            OSError: `dst` exists and is not to be overwritten.
        """
        _check_pair(src, dst, overwrite)
        objects.client(_text(src)).copy(beam_path(_text(src)), beam_path(_text(dst)))

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
        for path, *_ in objects.listed(root):
            parts = path.removeprefix(root).strip("/").split("/")
            paths = ("/".join([root, *parts[:depth]]) for depth in range(1, len(parts) + 1))
            found.update(each for each in paths if wanted.fullmatch(each))
        return sorted(found)

    @staticmethod
    def isdir(path: Any) -> bool:
        """Whether an object lies under it."""
        return next(objects.listed(_text(path)), None) is not None

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
        objects.client(path).delete(beam_path(path))

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
        objects.delete_directory(path)

    @staticmethod
    def stat(path: Any) -> Stat:
        """Size and time of an object; of a directory neither.

        Raises:
            NotFoundError: There is neither an object nor a directory of that name.
        """
        path = _text(path)
        if _is_file(path):
            client, name = objects.client(path), beam_path(path)
            changed = int(client.last_updated(name) * 1e9)
            return Stat(client.size(name), changed, is_directory=False)
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
        for path, *_ in objects.listed(top):
            folder = top
            *folders, name = path.removeprefix(top + "/").split("/")
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
        google: Whether it also takes gs:// from TensorFlow's file system.
        registry: Where it is registered.
    """
    objects.set_options(beam_args)
    filesystem = ObjectStoreFilesystem if google else _WithoutGoogle
    registry.register(filesystem, priority=_BEFORE_TENSORFLOW)


def _text(path: Any) -> str:
    return path.decode() if isinstance(path, bytes) else str(path)


def _is_file(path: str) -> bool:
    return not path.endswith("/") and objects.client(path).exists(beam_path(path))


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
