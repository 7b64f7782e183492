"""Lists, reads, writes and copies files: on this machine, in s3://, minio:// and gs://.

Every path may be of any of these. Files are taken as they are: a .gz is not decompressed. What goes
wrong is a BranchlineError that names the path, within seconds also where a store lets nobody in.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from branchline.components.files import objects
from branchline.components.files.artifact_paths import beam_path
from branchline.components.files.check_access import check_access, refused
from branchline.components.files.objects import StoredFile
from branchline.schemas import BranchlineError

_CHUNK = 1 << 22  # bytes


def list_files(root: str) -> list[StoredFile]:
    """All files below a directory, by path; none if there is no such directory.

    The empty objects that stand for directories in a store are left out.
    """
    root = root.rstrip("/")
    with _told(root):
        found = objects.listed(root) if _is_remote(root) else _walk(Path(root))
        return sorted(each for each in found if not each.path.endswith("/"))


def exists(path: str) -> bool:
    """Whether there is such a file."""
    with _told(path):
        if _is_remote(path):
            return objects.client(path).exists(beam_path(path))
        return os.path.isfile(path)


def read_bytes(path: str) -> bytes:
    """Reads a file as a whole."""
    with _told(path), _open(path) as file:
        return file.read()


def read_text(path: str) -> str:
    """Reads a file of UTF-8."""
    content = read_bytes(path)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BranchlineError(f"{path}: got no text in UTF-8: {error}") from error


def read_json(path: str) -> Any:
    """Reads a file of JSON."""
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise BranchlineError(f"{path}: got no JSON: {error}") from error


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file as a whole, and its directory: what is seen of it is all or nothing."""
    if _is_remote(path):  # an object is there when it is closed
        with _told(path, "written"), objects.Writer(path) as file:
            file.write(content)
        return
    part = Path(f"{path}.part")
    with _told(path, "written"):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)


def copy_tree(source: str, target: str, paths: Iterable[str] | None = None) -> None:
    """Copies the files below a directory, and replaces what is at `target`.

    On this machine the copy gets its name when it is whole; of one that fails nothing remains.

    Args:
        source: The directory.
        target: What becomes its copy.
        paths: The files below it that are copied, as `list_files` gave them; None for all.

    Raises:
        BranchlineError: A file cannot be read or written, or there is none.
    """
    source, target = source.rstrip("/"), target.rstrip("/")
    paths = [each.path for each in list_files(source)] if paths is None else list(paths)
    if not paths:
        raise BranchlineError(f"{source}: there is no such directory, or no file in it")
    part = target if _is_remote(target) else f"{target}.part"
    delete_tree(part)
    try:
        for path in paths:
            _copy_file(path, f"{part}/{path.removeprefix(f'{source}/')}")
        if part != target:
            delete_tree(target)
            os.rename(part, target)
    except BaseException:
        delete_tree(part)
        raise


def delete_tree(path: str) -> None:
    """Deletes a directory and all files below it; a path that is not there stays so."""
    if not _is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with _told(path, "deleted"):
        for each in list(objects.listed(path)):
            objects.client(path).delete(beam_path(each.path))


def _walk(root: Path) -> Iterator[StoredFile]:
    for path in root.rglob("*"):
        if path.is_file():
            found = path.stat()
            yield StoredFile(str(path), found.st_size, found.st_mtime)


def _open(path: str) -> Any:
    return objects.read(path) if _is_remote(path) else open(path, "rb")  # noqa: SIM115


def _is_remote(path: str) -> bool:
    return "://" in path


def _copy_file(source: str, target: str) -> None:
    with _told(target, f"made a copy of {source}"), _open(source) as content:
        if _is_remote(target):
            with objects.Writer(target) as copy:
                shutil.copyfileobj(content, copy, _CHUNK)
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as copy:
            shutil.copyfileobj(content, copy, _CHUNK)


@contextmanager
def _told(path: str, what: str = "listed or read") -> Iterator[None]:
    """Makes a BranchlineError of whatever a file system raises; they all differ in that."""
    check_access(beam_path(path))
    try:
        yield
    except BranchlineError:
        raise
    except Exception as error:
        raise refused(path, error, what) from error
