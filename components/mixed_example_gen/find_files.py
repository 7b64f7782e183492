"""Finds the files of records under the paths a user names, and tells when they change."""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from branchline.components.files.artifact_paths import beam_path
from branchline.components.files.check_access import check_access, refused
from branchline.components.mixed_example_gen.open_file import COMPRESSIONS, compression_of
from branchline.components.mixed_example_gen.read_pictures import is_picture
from branchline.schemas import BranchlineError, RecipeError
from branchline.schemas.errors import reject

_progress = logging.getLogger("branchline.progress")
OWN_RECORDS = "recipe"  # the fingerprint of what a recipe writes by itself, out of nothing
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".avro": "avro",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
}
_ABSENT = "__HIVE_DEFAULT_PARTITION__"
_JSON_LIST = re.compile(r'\s*\[\s*(["\]]|$)')  # and no pattern such as [ab].csv
_PATTERN_SIGNS = re.compile(r"[*?\[]")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")  # as TensorFlow and Beam number the parts of a file


class Listed(NamedTuple):
    """What a listing tells of a file: nothing more is asked of each.

    Attributes:
        below: What follows in its path on the one that was named.
        size: In bytes.
        changed: When, in seconds since 1970; a bucket tells whole ones.
    """

    below: str
    size: int
    changed: float


class RecordFile(NamedTuple):
    """A file of records and how to parse it.

    Attributes:
        path: Where it is.
        format: One of the values of FORMATS.
        partitions: (name, value) of each folder `name=value` it is in, below the path named.
    """

    path: str
    format: str
    partitions: tuple[tuple[str, str], ...] = ()


def file_format(path: str) -> str | None:
    """Tells a file's format by its name: "jsonl", "csv", or None.

    >>> file_format("a/b.jsonl.gz"), file_format("b.tfrecord-00001-of-00002"), file_format("b.txt")
    ('jsonl', 'tfrecord', None)
    """
    compression = compression_of(path)
    plain = _SHARD.sub("", path[: len(path) - len(compression)])
    dot = plain.rfind(".")
    kind = FORMATS.get(plain[dot:].lower()) if dot > plain.rfind("/") else None
    # Parquet is read from its end, and compresses by itself.
    return None if compression and kind == "parquet" else kind


def read_paths(text: str) -> list[str]:
    """Reads a pipeline's parameter `data`: a path, a JSON list of paths, or "" for none.

    Raises:
        RecipeError: It begins like a JSON list, but is none of paths.

    >>> read_paths("s3://b/records"), read_paths('["a.csv", "minio://b/c"]'), read_paths("")
    (['s3://b/records'], ['a.csv', 's3://b/c'], [])
    """
    paths = [text.strip()] if text.strip() else []
    if _JSON_LIST.match(text):
        try:
            paths = json.loads(text)
        except json.JSONDecodeError:
            paths = []
        if not paths or not all(isinstance(path, str) and path for path in paths):
            reject("the pipeline parameter data", text, "a path, or a JSON list of paths")
    return [beam_path(path) for path in paths]


def find_files(paths: list[str]) -> tuple[list[RecordFile], list[str]]:
    """Lists the record files at `paths`, which may be files, directories or patterns.

    Markers and metadata below a path (names that begin with "_" or ".", `.crc`) are passed over;
    a path named itself is taken whatever its name. So is a path that is itself a symbolic link; a
    link below a path is followed only to a file within the path, and passed over with a warning
    where it leads out, as is a link to a folder.

    Returns:
        The files in order of their paths, and the paths in directories that are no such files.

    Raises:
        BranchlineError: A path does not exist, is not of a known format, or holds no record file.
    """
    files, others, _ = list_records(paths)
    return files, others


def list_records(paths: list[str]) -> tuple[list[RecordFile], list[str], dict[str, Listed]]:
    """Does what `find_files` does, and gives path → what was listed of each file of records.

    And of each picture, which a record may name: a changed one makes other examples.
    """
    files: dict[str, RecordFile] = {}
    others: set[str] = set()
    listed: dict[str, Listed] = {}
    for path in paths:
        found = match(path)
        if not found:
            raise BranchlineError(f"{path}: there is no such file or directory of records")
        records = {each: it for each, it in found.items() if not _is_marker(it.below)}
        known = [
            RecordFile(each, kind, _partitions(it.below))
            for each, it in records.items()
            if (kind := file_format(each))
        ]
        if not known:
            raise BranchlineError(
                f"{path}: got no file of records, expected {', '.join(FORMATS)} (all but .parquet "
                f"also with {', '.join(COMPRESSIONS)})"
            )
        for file in known:  # a file found twice has the fields of the longer way to it
            other = files.get(file.path, file)
            files[file.path] = max(file, other, key=lambda each: len(each.partitions))
            listed[file.path] = found[file.path]
        pictures = {each: it for each, it in records.items() if is_picture(each)}
        listed.update(pictures)
        others.update(each for each in records if each not in pictures and not file_format(each))
    return sorted(files.values()), sorted(others), listed


def _is_marker(below: str) -> bool:
    """Whether Spark, Hive, Delta or a desktop left a file beside records.

    >>> [_is_marker(path) for path in ("/_SUCCESS", "/_delta_log/0.json", "/.a.crc", "/a.csv", "")]
    [True, True, True, False, False]
    """
    parts = below.split("/")
    return any(part.startswith(("_", ".")) for part in parts) or below.endswith(".crc")


def _partitions(below: str) -> tuple[tuple[str, str], ...]:
    """Reads the folders that name a field's value, as Hive writes them.

    >>> _partitions("/kind=meter/at=12%3A30/none=__HIVE_DEFAULT_PARTITION__/a.csv")
    (('kind', 'meter'), ('at', '12:30'))
    """
    pairs = (folder.partition("=") for folder in below.split("/")[:-1])
    named = ((_unquoted(name), _unquoted(value)) for name, sign, value in pairs if name and sign)
    return tuple(pair for pair in named if pair[1] not in ("", _ABSENT))


def _unquoted(text: str) -> str:
    return unquote(text, errors="backslashreplace")


def match_records(path: str) -> list[str]:
    """The paths of the files of records at a path, by their names; none if there is none."""
    found = match(path).items()
    return [each for each, it in found if not _is_marker(it.below) and file_format(each)]


def match(path: str) -> dict[str, Listed]:
    """The files at a path, which may be a file, a directory or a pattern."""
    check_access(_PATTERN_SIGNS.split(path)[0])
    try:
        return _match_paths(path)
    except (BeamIOError, ValueError) as error:
        raise refused(path, error) from error


def _match_paths(path: str) -> dict[str, Listed]:
    base = path.rstrip("/")
    bucket = "://" in base and base.count("/") == 2  # is no object that Beam could ask about
    there = bucket or FileSystems.exists(base)  # then a pattern's signs are part of its name
    pattern = literal(base) if there else base
    alone = [] if bucket or path != base else [pattern]
    results = FileSystems.match([*alone, f"{pattern}/**"])
    listed = {each.path: each for result in results for each in result.metadata_list}
    found = {each for each in listed if not each.endswith("/")}  # a directory in a bucket
    below = {each for each in found if each.startswith(f"{base}/")}
    named = base if there or below else _PATTERN_SIGNS.split(base)[0].rpartition("/")[0]
    files = below or found
    if "://" not in named:
        files = {each for each in files if _is_within(each, named or ".")}
        for folder, inner, _ in os.walk(base):  # Beam follows no link to a folder
            for link in (os.path.join(folder, name) for name in inner):
                if os.path.islink(link):
                    _progress.warning("%s is a link to a folder and was passed over", link)
    return {each: _listed(each[len(named) :], listed[each]) for each in sorted(files)}


def _listed(below: str, file: FileMetadata) -> Listed:
    return Listed(below, file.size_in_bytes, file.last_updated_in_seconds)


def _is_within(path: str, folder: str) -> bool:
    """Whether a path is an ordinary file that lies below `folder` once links are followed."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    if not os.path.isfile(real):  # a pipe would never end
        told = "is no ordinary file"
    elif real != root and os.path.commonpath([real, root]) != root:
        told = f"is a link that leads out of {folder}"
    else:
        return True
    _progress.warning("%s %s and was passed over", path, told)
    return False


def literal(path: str) -> str:
    """A pattern that matches `path` alone, whatever signs of a pattern are in it."""
    return _PATTERN_SIGNS.sub(r"[\g<0>]", path)


def _hidden(relative: str) -> bool:
    return any(part.startswith(".") for part in relative.split("/"))


def fingerprint(files: dict[str, Listed]) -> str:
    """Identifies files' contents by their paths, sizes and times of change."""
    digest = hashlib.sha256()
    for path, file in sorted(files.items()):
        digest.update(f"{path}\0{file.size} {file.changed}\0".encode(errors="backslashreplace"))
    return digest.hexdigest()


def fingerprint_of(
    paths: list[str], data_inputs: Iterable[str] = (), folder: str | Path = ""
) -> str:
    """Identifies the files of records at `paths`; without any, what a recipe's function reads.

    Of the function itself the recipe's code tells. Where a file in a bucket is of this very second,
    the next one is waited for: what is written then gets another time, as a bucket tells seconds.

    Args:
        paths: As `find_files` takes them.
        data_inputs: The recipe's.
        folder: What they are relative to.

    Raises:
        BranchlineError: As `find_files`.
        RecipeError: One of `data_inputs` leads to no file.
    """
    found = _list_inputs(paths, data_inputs, folder)
    if any("://" in path and int(file.changed) == int(time.time()) for path, file in found.items()):
        time.sleep(1)
        found = _list_inputs(paths, data_inputs, folder)
    return fingerprint(found) if found else OWN_RECORDS


def _list_inputs(
    paths: list[str], data_inputs: Iterable[str], folder: str | Path
) -> dict[str, Listed]:
    if paths:
        return list_records(paths)[2]
    inputs: dict[str, Listed] = {}
    for path in data_inputs:
        whole = beam_path(path) if "://" in path else os.path.join(folder, path)
        found = {each: it for each, it in match(whole).items() if not _hidden(it.below)}
        if not found:
            raise RecipeError(f"Recipe.data_inputs: {whole}: there is no such file")
        inputs.update(found)
    return inputs
