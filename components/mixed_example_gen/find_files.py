"""Finds the files of records under the paths a user names, and tells when they change."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from branchline.components.files.artifact_paths import beam_path
from branchline.components.files.check_access import check_access, refused
from branchline.schemas import BranchlineError, RecipeError
from branchline.schemas.errors import reject

OWN_RECORDS = "recipe"  # the fingerprint of what a recipe writes by itself, out of nothing
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv"}
_JSON_LIST = re.compile(r'\s*\[\s*(["\]]|$)')  # and no pattern such as [ab].csv
_PATTERN_SIGNS = re.compile(r"[*?\[]")
_COMPRESSIONS = (".gz", ".bz2")


class RecordFile(NamedTuple):
    """A file of records and how to parse it."""

    path: str
    format: str


def file_format(path: str) -> str | None:
    """Tells a file's format by its name: "jsonl", "csv", or None.

    >>> file_format("a/b.jsonl.gz"), file_format("notes.txt")
    ('jsonl', None)
    """
    for compression in _COMPRESSIONS:
        path = path.removesuffix(compression)
    dot = path.rfind(".")
    return FORMATS.get(path[dot:].lower()) if dot > path.rfind("/") else None


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

    Returns:
        The files in order of their paths, and the paths in directories that are no such files.

    Raises:
        BranchlineError: A path does not exist, is not of a known format, or holds no record file.
    """
    files: list[RecordFile] = []
    others: list[str] = []
    for path in paths:
        found = _match(path)
        known = [RecordFile(each, kind) for each in found if (kind := file_format(each))]
        if not found:
            raise BranchlineError(f"{path}: there is no such file or directory of records")
        if not known:
            kinds = ", ".join(FORMATS)
            raise BranchlineError(f"{path}: got no file of records, expected {kinds} (or .gz)")
        files += known
        others += [each for each in found if not file_format(each)]
    return sorted(set(files)), sorted(set(others))


def _match(path: str) -> list[str]:
    check_access(_PATTERN_SIGNS.split(path)[0])
    try:
        return _match_paths(path)
    except (BeamIOError, ValueError) as error:
        raise refused(path, error) from error


def _match_paths(path: str) -> list[str]:
    base = path.rstrip("/")
    bucket = "://" in base and base.count("/") == 2  # is no object that Beam could ask about
    there = bucket or FileSystems.exists(base)  # then a pattern's signs are part of its name
    pattern = literal(base) if there else base
    alone = [] if bucket or path != base else [pattern]
    results = FileSystems.match([*alone, f"{pattern}/**"])
    found = {each.path for result in results for each in result.metadata_list}
    found = {each for each in found if not each.endswith("/")}  # stands for a directory in a bucket
    below = {each for each in found if each.startswith(f"{base}/")}
    named = base if there or below else _PATTERN_SIGNS.split(base)[0].rpartition("/")[0]
    return sorted(each for each in below or found if not _hidden(each[len(named) :]))


def literal(path: str) -> str:
    """A pattern that matches `path` alone, whatever signs of a pattern are in it."""
    return _PATTERN_SIGNS.sub(r"[\g<0>]", path)


def _hidden(relative: str) -> bool:
    return any(part.startswith(".") for part in relative.split("/"))


def fingerprint(paths: Iterable[str]) -> str:
    """Identifies files' contents: hash of every path, size, and what the file system tells.

    Local files are told apart by time of change; where a file system keeps checksums, by those.
    """
    digest = hashlib.sha256()
    for path in paths:
        found = FileSystems.match([literal(path)])[0].metadata_list[0]
        try:
            state = FileSystems.checksum(path)
        except Exception:  # noqa: BLE001 - what a file system cannot tell differs between them
            state = ""
        changed = found.last_updated_in_seconds
        digest.update(f"{path}\0{found.size_in_bytes}\0{state}\0{changed}\0".encode())
    return digest.hexdigest()


def fingerprint_of(
    input_base: str, data_inputs: Iterable[str] = (), folder: str | Path = ""
) -> str:
    """Identifies what `read_paths` finds in `input_base`; for "", what a recipe's function reads.

    Of the function itself the recipe's code tells.

    Args:
        input_base: As MixedExampleGen's.
        data_inputs: The recipe's.
        folder: What they are relative to.

    Raises:
        BranchlineError: As `find_files`.
        RecipeError: One of `data_inputs` leads to no file.
    """
    paths = read_paths(input_base)
    if paths:
        return fingerprint(file.path for file in find_files(paths)[0])
    inputs: set[str] = set()
    for path in data_inputs:
        whole = beam_path(path) if "://" in path else os.path.join(folder, path)
        found = _match(whole)
        if not found:
            raise RecipeError(f"Recipe.data_inputs: {whole}: there is no such file")
        inputs.update(found)
    return fingerprint(sorted(inputs)) if inputs else OWN_RECORDS
