"""Reads a run's course from log messages: TFX's own, and what our components report."""

import logging
from collections.abc import Callable
from typing import Any

from branchline.pipeline.console import Display

# The templates of tfx.orchestration.local.local_dag_runner and .portable.launcher, 1.16 and 1.21.
_STARTED = "Component %s is running."
_FINISHED = "Component %s is finished."
_CACHED = "A cached execution %d is used."
_SKIPPED = "Skipping execution for %s"
_UNRESOLVED = "[%s] Input resolution error: %s"
_KNOWN_FAILURES = ("Execution %d failed.",)  # the run raises the error itself, with more to say


class Watcher(logging.Handler):
    """Passes on to a display what log records say about the run.

    A component reports about itself with
    `logging.getLogger("branchline.progress").info("text", extra={"progress": {...}})`, of whose
    fields the display knows `records`, `quarantined`, `route`, `examples`, `step`, `steps`,
    `losses`, `stopped`, `examples_per_second`, `eta_seconds` and `metrics`. What it logs there as a
    warning is shown as a line.

    Args:
        display: Where it is shown.
        on_finished: Is called when a component has run; not for one from the cache.
    """

    def __init__(self, display: Display, on_finished: Callable[[], None] = lambda: None):
        super().__init__()
        self.display = display
        self._on_finished = on_finished
        self._is_cached = False
        self.component: str | None = None
        self.skipped: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Shows what a record says; most say nothing."""
        try:
            self._read(record)
        except Exception:  # a display that fails must not fail the run
            self.handleError(record)

    def _read(self, record: logging.LogRecord) -> None:
        if record.name == "branchline.progress":
            fields: Any = getattr(record, "progress", None)
            if record.levelno >= logging.WARNING:
                self.display.warn(record.getMessage())
            elif isinstance(fields, dict):
                self.display.progress(fields)
        elif record.msg == _STARTED:
            self.component, self._is_cached = _first(record), False
            self.display.started(self.component)
        elif record.msg == _FINISHED:
            self.component = None
            self.display.finished(_first(record))
            if not self._is_cached:
                self._on_finished()
        elif record.msg == _CACHED:
            self._is_cached = True
            self.display.cached()
        elif record.msg == _SKIPPED:
            self.skipped.setdefault(_first(record), "its inputs are missing")
        elif record.msg == _UNRESOLVED:
            self.skipped[_first(record)] = record.getMessage().partition(": ")[2]
        elif record.levelno >= logging.ERROR and not _raised_anyway(record):
            line = record.getMessage().strip().partition("\n")[0]
            self.display.error(f"{record.name}: {line[:300]}")


def _first(record: logging.LogRecord) -> str:
    return str(record.args[0]) if isinstance(record.args, tuple) and record.args else "?"


def _raised_anyway(record: logging.LogRecord) -> bool:
    """Whether the record announces an error that the run raises, and that is then explained."""
    beam = record.name.startswith("apache_beam.") and (
        isinstance(record.msg, BaseException) or "[while running" in str(record.msg)
    )
    return beam or str(record.msg).startswith(_KNOWN_FAILURES)
