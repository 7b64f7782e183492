"""Shows how a run goes: a live display on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from branchline.components.run_report.wording import duration
from branchline.pipeline.wording import counts, training

_SECONDS_BETWEEN_LINES = 5.0
_MOST_WARNINGS = 5


class Display:
    """What has run and what runs; subclasses show it. May be called from any thread.

    Args:
        out: Where it is shown.
        components: Names of all components, in order; those not known in advance are added.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        out: TextIO,
        components: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        width = None if out.isatty() else 200  # a file does not wrap
        self.console = Console(file=out, highlight=False, width=width)
        self.components = list(components)
        self.current: str | None = None
        self.fields: dict[str, Any] = {}
        self._said: set[str] = set()
        self._num_warnings = 0
        self._cached = False
        self._begun = 0.0
        self._clock = clock
        self._lock = threading.RLock()

    def waiting(self, what: str) -> None:
        """Something other than a component takes a while."""
        self.say(f"{what} …")

    def started(self, component: str) -> None:
        """`component` begins to run."""
        with self._lock:
            if component not in self.components:
                self.components.append(component)
            self.current, self.fields, self._cached = component, {}, False
            self._num_warnings = 0
            self._begun = self._clock()
            self._show_start(component)

    def cached(self) -> None:
        """The running component's outputs are those of an earlier run."""
        self._cached = True

    def finished(self, component: str) -> None:
        """`component` is done."""
        with self._lock:
            self._show_end(component, "cached" if self._cached else duration(self.elapsed))
            self.current = None

    def progress(self, fields: Mapping[str, Any]) -> None:
        """What the running component reports about itself; see `branchline.progress`."""
        with self._lock:
            self.fields.update(fields)
            self._show_progress()

    def error(self, line: str) -> None:
        """A library logged an error; the same line is shown once."""
        self._say_once(f"error: {line}", "red")

    def warn(self, line: str) -> None:
        """A component of ours has a warning; the first few of each are shown."""
        with self._lock:
            self._num_warnings += 1
            if self._num_warnings <= _MOST_WARNINGS:
                self._say_once(f"warning: {line}", "yellow")
            elif self._num_warnings == _MOST_WARNINGS + 1:
                self._say_once(f"warning: {self.current} has more; see the log", "yellow")

    def _say_once(self, line: str, style: str) -> None:
        with self._lock:
            if line not in self._said:
                self._said.add(line)
                self.console.print(Text(line, style=style), soft_wrap=True)

    def say(self, line: str) -> None:
        """A line of branchline's own."""
        with self._lock:
            self.console.print(Text(line), soft_wrap=True)

    def close(self) -> None:
        """Ends the display; what was shown of finished components stays."""

    @property
    def elapsed(self) -> float:
        """Seconds since the running component began."""
        return self._clock() - self._begun

    def _place(self, component: str) -> str:
        return f"[{self.components.index(component) + 1}/{len(self.components)}]"

    def _show_start(self, component: str) -> None: ...

    def _show_end(self, component: str, took: str) -> None: ...

    def _show_progress(self) -> None: ...


class PlainDisplay(Display):
    """One line per event; of a component's own reports one in five seconds or ten per cent."""

    _shown_at = 0.0
    _shown_tenth = 0
    _shown: str | None = None

    def _show_start(self, component: str) -> None:
        self._shown_at, self._shown_tenth, self._shown = self._begun, 0, None
        self.say(f"{self._place(component)} {component} …")

    def _show_end(self, component: str, took: str) -> None:
        self._line(component)
        done = "cached" if took == "cached" else f"done in {took}"
        self.say(f"{self._place(component)} {component} {done}")

    def _show_progress(self) -> None:
        if self.current is None:
            return
        tenth = 10 * self.fields.get("step", 0) // max(self.fields.get("steps", 0), 1)
        waited = self._clock() - self._shown_at
        due = waited >= _SECONDS_BETWEEN_LINES or "metrics" in self.fields
        if due or tenth > self._shown_tenth:
            self._shown_at, self._shown_tenth = self._clock(), tenth
            self._line(self.current)

    def _line(self, component: str) -> None:
        line = ", ".join(part for part in (training(self.fields), counts(self.fields)) if part)
        if line and line != self._shown:
            self._shown = line
            self.say(f"{self._place(component)} {component}: {line}")


class LiveDisplay(Display):
    """A line per finished component, and under them what the running one does, kept up to date."""

    def __init__(
        self,
        out: TextIO,
        components: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(out, components, clock)
        self._spinner = Spinner("dots", style="cyan")
        self._waiting = ""
        self._live = Live(
            console=self.console,
            get_renderable=self._render,
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def waiting(self, what: str) -> None:
        """Shown until a component begins."""
        self._waiting, self._begun = what, self._clock()

    def close(self) -> None:
        """Takes the moving part off the terminal."""
        self._live.stop()

    def _show_start(self, component: str) -> None:
        self._waiting = ""

    def _show_end(self, component: str, took: str) -> None:
        done = Text.assemble(
            ("✓ ", "green"), f"{component:<24}", (f"{took:>9}", "dim" if self._cached else "bold")
        )
        told = ", ".join(part for part in (training(self.fields), counts(self.fields)) if part)
        self.console.print(done.append(f"  {told}", style="dim"), soft_wrap=True)

    def _render(self) -> Group:
        component = self.current
        head = Table.grid(padding=(0, 1))
        took = Text(duration(self.elapsed), style="bold")
        if component is None:
            if self._waiting:
                head.add_row(self._spinner, self._waiting, took)
            return Group(head)
        told = counts(self.fields)
        head.add_row(
            self._spinner, f"{self._place(component)} {component}", took, Text(told, "dim")
        )
        steps = self.fields.get("steps")
        return Group(head, *self._training(steps)) if steps else Group(head)

    def _training(self, steps: int) -> list[Progress | Text | Table]:
        bar = Progress(TextColumn(" "), BarColumn(40), TextColumn("{task.description}"))
        bar.add_task(
            training(self.fields, losses=False), total=steps, completed=self.fields.get("step", 0)
        )
        losses = Table.grid(padding=(0, 2))
        for route, loss in self.fields.get("losses", {}).items():
            stopped = self.fields.get("stopped", {}).get(route, "")
            losses.add_row("   ", route, Text(f"{loss:.4g}", style="bold"), stopped)
        return [bar, losses]


def make_display(out: TextIO, components: Sequence[str] = ()) -> Display:
    """The live display where `out` is a terminal that can move its cursor, else the plain one."""
    console = Console(file=out)
    live = console.is_terminal and not console.is_dumb_terminal
    return (LiveDisplay if live else PlainDisplay)(out, components)
