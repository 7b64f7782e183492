"""Puts what is in the files of pictures into records that hold the files' paths."""

import os
import posixpath
from collections.abc import Iterable, Iterator

from branchline.components.files import storage
from branchline.components.mixed_example_gen.limits import LONGEST_RECORD
from branchline.components.mixed_example_gen.read_record import NotARecord, Parsed, Record, Value

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp")


def is_picture(path: str) -> bool:
    """Whether a file's name is one of a picture: it is then no file of records to be told about."""
    return path.lower().endswith(ENDINGS)


def with_pictures(records: Iterable[Parsed], path: str, keys: frozenset[str]) -> Iterator[Parsed]:
    """Yields the records, pictures in place of their paths.

    Args:
        records: Of one file.
        path: Of that file; pictures lie in its folder or below.
        keys: Those under which paths are.
    """
    folder = path.rpartition("/")[0]
    for parsed in records:
        try:
            yield (
                parsed if parsed.record is None else _replaced(parsed, parsed.record, folder, keys)
            )
        except NotARecord as error:
            yield parsed._replace(record=None, reason=error.reason, detail=error.detail)


def _replaced(parsed: Parsed, record: Record, folder: str, keys: frozenset[str]) -> Parsed:
    read: Record = {
        key: [_read(key, each, folder) for each in record[key]] for key in keys & {*record}
    }
    return parsed._replace(record=record | read) if read else parsed


def _read(key: str, value: Value, folder: str) -> bytes:
    if not isinstance(value, str | bytes):
        raise NotARecord("wrong_type", f"{key}: got {value}, expected the path of a picture")
    try:
        given = value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError as error:
        raise NotARecord("invalid_utf8", f"{key}: the path is not UTF-8") from error
    below = posixpath.normpath(given)
    if "://" in given or "\0" in given or posixpath.isabs(below) or below.split("/")[0] == "..":
        raise _missing(key, given, "leads out of the folder of the record's file")
    path = posixpath.join(folder, below)
    if "://" not in path:
        real, root = os.path.realpath(path), os.path.realpath(folder or ".")
        if os.path.commonpath([real, root]) != root:
            raise _missing(
                key, given, "is a link that leads out of the folder of the record's file"
            )
    if not storage.exists(path):
        raise _missing(key, given, "is no file in the folder of the record's file")
    if "://" not in path and os.path.getsize(path) > LONGEST_RECORD:
        told = f"{key}: the picture {given} has more than {LONGEST_RECORD} bytes, the most"
        raise NotARecord("record_too_large", told)
    content = storage.read_bytes(path)
    if not content:
        raise _missing(key, given, "is an empty file")
    return content


def _missing(key: str, given: str, what: str) -> NotARecord:
    return NotARecord("picture_missing", f"{key}: {given} {what}")
