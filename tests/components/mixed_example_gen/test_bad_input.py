"""What cannot be read or written at all ends the step with one clear error."""

import errno
import os
import shutil

import builders as build
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem
from tfx.types import standard_artifacts

from branchline.components import MixedExampleGen
from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen import ingest, ranges
from branchline.components.mixed_example_gen.component import Executor
from branchline.pipeline.explain import explain


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    build.write_jsonl(tmp_path / "in" / "a.jsonl", [{"a": i} for i in range(9)])
    build.write_jsonl(tmp_path / "in" / "b.jsonl", [{"a": i} for i in range(9)])
    return tmp_path / "in"


def cause_of(folder):
    """What a user is told when the step fails on a folder."""
    outputs = {
        "examples": [build.empty_artifact(standard_artifacts.Examples, folder.parent / "examples")],
        "quarantine": [build.empty_artifact(Quarantine, folder.parent / "aside")],
    }
    with pytest.raises(Exception) as error:
        Executor().Do({}, outputs, MixedExampleGen(str(folder)).exec_properties)
    failure = explain(error.value)
    assert "\n" not in failure.cause
    return failure


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    opened = FileSystems.open

    def refuse(path, *arguments, **settings):  # as root reads all, no mode of a file refuses it
        if path.endswith("b.jsonl"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(FileSystems, "open", refuse)
    cause = cause_of(folder).cause
    assert cause.startswith(f"{folder}/b.jsonl: cannot be read: ") and "Permission denied" in cause


@pytest.mark.parametrize("when", ["before-it-is-divided", "before-it-is-read", "while-it-is-read"])
def test_a_folder_that_vanishes_meanwhile_is_told_with_the_file(folder, monkeypatch, when):
    module, name = {
        "before-it-is-divided": (ranges, "opened"),
        "before-it-is-read": (ingest, "opened"),
        "while-it-is-read": (ingest, "encode_example"),
    }[when]
    function = getattr(module, name)

    def vanish(*arguments):
        shutil.rmtree(folder, ignore_errors=True)
        return function(*arguments)

    monkeypatch.setattr(module, name, vanish)
    monkeypatch.setattr(ranges, "RANGE_BYTES", 50)
    cause = cause_of(folder).cause
    assert cause.startswith(f"{folder}/") and ".jsonl: cannot be read: " in cause


def test_a_folder_that_is_gone_is_named(folder):
    shutil.rmtree(folder)
    cause = cause_of(folder).cause
    assert cause == f"{folder}: there is no such file or directory of records"


@pytest.mark.parametrize("names", [[], ["notes.txt", "_SUCCESS"]], ids=["none", "no-records"])
def test_a_folder_without_files_of_records_is_named(folder, names):
    for path in folder.iterdir():
        path.unlink()
    for name in names:
        (folder / name).write_text("x")
    cause = cause_of(folder).cause
    assert cause.startswith(f"{folder}: ") and "\n" not in cause


def test_files_without_a_record_are_named(folder):
    for path in folder.iterdir():
        path.write_text("\n")
    assert cause_of(folder).cause == f"{folder}: the files hold no record"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_a_disk_that_takes_nothing_is_told_with_what_to_do(folder, monkeypatch, number):
    def refuse(self, path, *arguments, **settings):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(LocalFileSystem, "create", refuse)
    failure = cause_of(folder)
    assert os.strerror(number) in failure.cause and str(folder.parent) in failure.cause
    assert "--output" in failure.advice
