import io
import logging
import re

import pytest
import tensorflow as tf

from branchline.pipeline.console import LiveDisplay, PlainDisplay, make_display
from branchline.pipeline.explain import explain
from branchline.pipeline.watch import Watcher
from branchline.schemas import BranchlineError, RecipeError


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shown(clock):
    out = io.StringIO()
    display = PlainDisplay(out, ["MixedExampleGen", "BranchTrainer"], clock)
    watcher = Watcher(display)
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(watcher)
    logger.setLevel(logging.INFO)
    yield lambda: out.getvalue().splitlines()
    logger.removeHandler(watcher)
    logger.setLevel(level)


TFX = logging.getLogger("absl")
OURS = logging.getLogger("branchline.progress")


@pytest.fixture(autouse=True)
def let_through():
    TFX.setLevel(logging.INFO)


def report(**fields):
    OURS.info("told", extra={"progress": fields})


def test_messages_of_tfx_tell_what_runs(shown, clock):
    TFX.info("Component %s is running.", "MixedExampleGen")
    clock.now += 3.21
    TFX.info("Component %s is finished.", "MixedExampleGen")
    TFX.info("Component %s is running.", "BranchTrainer")
    TFX.info("A cached execution %d is used.", 7)
    TFX.info("Component %s is finished.", "BranchTrainer")
    assert shown() == [
        "[1/2] MixedExampleGen …",
        "[1/2] MixedExampleGen done in 3.2 s",
        "[2/2] BranchTrainer …",
        "[2/2] BranchTrainer cached",
    ]


def test_the_templates_are_still_those_of_tfx():
    import inspect

    from tfx.orchestration.local import local_dag_runner
    from tfx.orchestration.portable import launcher

    from branchline.pipeline import watch

    runner = inspect.getsource(local_dag_runner)
    assert watch._STARTED in runner and watch._FINISHED in runner
    source = inspect.getsource(launcher)
    for template in (watch._CACHED, watch._SKIPPED, watch._UNRESOLVED, *watch._KNOWN_FAILURES):
        assert template in source


def test_the_last_counts_stand_before_the_end(shown):
    TFX.info("Component %s is running.", "MixedExampleGen")
    report(component="MixedExampleGen", records=25118, quarantined=12)
    TFX.info("Component %s is finished.", "MixedExampleGen")
    assert shown()[1] == "[1/2] MixedExampleGen: 25\u202f118 records, 12 quarantined"


def test_training_steps_are_thinned_out(shown, clock):
    TFX.info("Component %s is running.", "BranchTrainer")
    for step in range(1, 1001):
        clock.now += 0.01
        report(component="BranchTrainer", step=step, steps=1000, losses={"text": 1 / step})
    lines = [line for line in shown() if "step" in line]
    assert 9 <= len(lines) <= 13
    assert lines[0] == "[2/2] BranchTrainer: step 100/1000, loss text 0.01"


def test_slow_steps_are_shown_every_five_seconds(shown, clock):
    TFX.info("Component %s is running.", "BranchTrainer")
    for step in range(1, 31):
        clock.now += 1
        report(component="BranchTrainer", step=step, steps=10_000, eta_seconds=9970.0)
    assert len([line for line in shown() if "2 h 46 min left" in line]) == 6


def test_errors_of_libraries_are_shown_once_in_one_line(shown):
    for _ in range(3):
        logging.getLogger("tensorflow").error("bad thing\nwith details")
    logging.getLogger("tensorflow").warning("mere warning")
    assert shown() == ["error: tensorflow: bad thing"]


def test_errors_that_the_run_raises_anyway_are_not_shown_twice(shown):
    logging.getLogger("apache_beam.runners.common").error(ValueError("x [while running 'A']"))
    TFX.error("Execution %d failed.", 3)
    assert shown() == []


def test_warnings_of_a_component_are_shown_up_to_a_few(shown):
    TFX.info("Component %s is running.", "MixedExampleGen")
    for number in range(9):
        OURS.warning("file %d was passed over", number)
    assert shown()[1] == "warning: file 0 was passed over"
    assert shown()[6:] == ["warning: MixedExampleGen has more; see the log"]


def test_skipped_components_are_remembered(clock):
    watcher = Watcher(PlainDisplay(io.StringIO(), clock=clock))
    record = logging.LogRecord("absl", 20, "", 0, "Skipping execution for %s", ("Router",), None)
    watcher.handle(record)
    assert watcher.skipped == {"Router": "its inputs are missing"}


def test_the_live_display_moves_and_leaves_a_line_per_component(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    display = LiveDisplay(out, ["BranchTrainer"], clock)
    display.started("BranchTrainer")
    display.progress({"step": 50, "steps": 200, "losses": {"text": 0.25, "scan": 2.5}})
    clock.now += 8
    display._live.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "[1/1] BranchTrainer 8.0 s" in text and "step 50/200" in text
    assert re.search(r"text +0.25", text) and re.search(r"scan +2.5", text)
    display.finished("BranchTrainer")
    display.close()
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).replace("\r", "\n")
    assert re.search(r"✓ BranchTrainer +8.0 s  step 50/200", last)


def test_without_a_terminal_lines_are_plain():
    assert isinstance(make_display(io.StringIO()), PlainDisplay)


def beam_copy(message):
    """As Beam does: a copy of the error with the running step in its message."""
    try:
        try:
            raise BranchlineError(message)
        except BranchlineError as error:
            raise BranchlineError(f"{error} [while running 'Parse[train]/Map(x)']") from error
    except BranchlineError as error:
        return error


def test_a_branchline_error_is_told_by_its_message_alone():
    wrapped = RuntimeError("Execution 5 failed")
    wrapped.__cause__ = beam_copy("route scan has no record")
    assert explain(wrapped).cause == "route scan has no record"
    alone = BranchlineError("route scan has no record [while running 'A']")
    assert explain(alone).cause == "route scan has no record"


def test_an_error_that_became_text_is_found_in_it():
    text = (
        "Traceback (most recent call last):\n  File 'x.py', line 3, in process\n    raise …\n"
        "branchline.schemas.errors.RecipeError: label: got 7,\nexpected less\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n  File 'y.py'\n"
        "branchline.schemas.errors.RecipeError: label: got 7,\nexpected less "
        "[while running 'Label']\n"
    )
    assert explain(RuntimeError(text)).cause == "label: got 7, expected less"
    other = text.replace("branchline.schemas.errors.RecipeError: label: got 7,", "KeyError: 'k'")
    assert explain(RuntimeError(other)).cause == "KeyError: 'k'"


@pytest.mark.parametrize(
    ("error", "cause", "advice"),
    [
        (KeyError("k"), "KeyError: 'k'", "log"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28]", "disk is full"),
        (
            RuntimeError("Traceback\nOSError: [Errno 28] No space left on device\n"),
            "OSError: [Errno 28]",
            "disk is full",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, "a/b; No space left on device"),
            "ResourceExhaustedError",
            "disk is full",
        ),
        (OSError(30, "Read-only file system"), "OSError: [Errno 30]", "another place"),
        (MemoryError(), "MemoryError", "batch_size"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), "ResourceExh", "batch_size"),
        (RecipeError("a\n b"), "a b", "same command"),
    ],
    ids=[
        "any",
        "disk",
        "disk-of-a-worker",
        "disk-by-tensorflow",
        "read-only",
        "memory",
        "memory-by-tensorflow",
        "ours",
    ],
)
def test_other_errors_are_told_with_type_and_advice(error, cause, advice):
    failure = explain(error)
    assert failure.cause.startswith(cause) and advice in failure.advice
