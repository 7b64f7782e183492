"""Sends all that libraries say to a log file, and keeps the user's own streams for branchline."""

import faulthandler
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass
class Capture:
    """The user's own output streams, while everything else goes to a log.

    Args:
        out: What standard output was.
        err: What standard error was.
        path: The log; None while it is still a temporary file.
    """

    out: TextIO
    err: TextIO
    path: Path | None = None

    def keep(self, path: Path) -> None:
        """Moves the log to `path`; the log of the run before stays beside it as `path`.1."""
        _flush()
        if path.exists():
            os.replace(path, f"{path}.1")
        with open(path, "ab") as log, open("/dev/fd/1", "rb") as temporary:
            shutil.copyfileobj(temporary, log)
            log.flush()
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        self.path = path


@contextmanager
def captured() -> Iterator[Capture]:
    """Points standard output and error at a log, and Python's logging and warnings with them.

    It is the file descriptors that are pointed elsewhere, because TensorFlow's C++ and
    subprocesses write to those directly.
    """
    _flush()
    saved = os.dup(1), os.dup(2)
    out, err = (
        open(descriptor, "w", encoding=stream.encoding, errors="replace", buffering=1)
        for descriptor, stream in zip(saved, (sys.stdout, sys.stderr), strict=True)
    )
    with tempfile.TemporaryFile("ab") as temporary:
        os.dup2(temporary.fileno(), 1)
        os.dup2(temporary.fileno(), 2)
        stdout = open(1, "w", errors="replace", buffering=1, closefd=False)
        stderr = open(2, "w", errors="replace", buffering=1, closefd=False)
        root = logging.getLogger()
        level, handlers = root.level, root.handlers[:]
        handler = logging.StreamHandler(stderr)
        handler.setFormatter(logging.Formatter(_FORMAT))
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        _log_absl()
        faulthandler.enable(err)
        try:
            with redirect_stdout(stdout), redirect_stderr(stderr):
                yield Capture(out, err)
        finally:
            stdout.flush()
            stderr.flush()
            faulthandler.disable()
            logging.captureWarnings(False)
            root.handlers[:] = handlers
            root.setLevel(level)
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            out.close()
            err.close()


def _log_absl() -> None:
    """Lets TFX's messages through to the handlers of Python's logging."""
    import absl.logging

    absl.logging.use_python_logging(quiet=True)
    absl.logging.set_verbosity(absl.logging.INFO)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
