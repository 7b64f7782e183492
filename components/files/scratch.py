"""Gives a process a folder of its own for temporary files, which goes with it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_outer: list[str] = []


@contextmanager
def own_temporary_folder() -> Iterator[str]:
    """Makes a folder in the system's one, and everything temporary go there until it is removed.

    Libraries leave files behind for the end of the interpreter to remove, as AutoGraph does with
    the code that it generates, and a process that ends by `os._exit` or a signal never gets there.

    Yields:
        The path of the folder, which subprocesses and libraries in C++ use as well.
    """
    _outer.append(tempfile.gettempdir())
    before = os.environ.get("TMPDIR")
    folder = tempfile.mkdtemp(prefix="branchline-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    try:
        yield folder
    finally:
        tempfile.tempdir = _outer.pop()
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


def outer_temporary_folder() -> str:
    """The system's folder for temporary files, also while the process has its own."""
    return _outer[0] if _outer else tempfile.gettempdir()
