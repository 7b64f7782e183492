"""Follows a run on the server until it ends."""

import time
from collections.abc import Callable, Collection
from typing import Any

from branchline.schemas import BranchlineError

_ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


def follow_run(
    get_run: Callable[[], Any],
    *,
    tasks: Collection[str],
    say: Callable[[str], None],
    timeout_s: float | None,
    poll_s: float,
) -> Any:
    """Says each new state of each task until the run has ended.

    Args:
        get_run: Asks the server for the run, a `V2beta1Run`.
        tasks: Names of the tasks. The server lists more: drivers, pods, the whole.
        say: Shows a line.
        timeout_s: After so many seconds it is enough; None waits for the end.
        poll_s: Seconds between two questions.

    Returns:
        The run as it ended.

    Raises:
        BranchlineError: It has not ended within `timeout_s`.
    """
    begun = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        run = get_run()
        for task in _tasks_of(run):
            name, state = task.display_name, task.state
            if name in tasks and state and shown.get(name) != state:
                shown[name] = state
                say(f"{name}: {state.lower()}")
        if run.state in _ENDED:
            return run
        left = None if timeout_s is None else begun + timeout_s - time.monotonic()
        if left is not None and left <= 0:
            running = [name for name, state in shown.items() if state == "RUNNING"]
            at = f", at {', '.join(running)}" if running else ""
            raise BranchlineError(
                f"{run.display_name} has not ended after {timeout_s:g} s (it is "
                f"{(run.state or 'PENDING').lower()}{at}); waiting stops, the run goes on"
            )
        time.sleep(poll_s if left is None else min(poll_s, left))


def why_failed(run: Any, tasks: Collection[str]) -> list[str]:
    """A line per failed task with its error, or the pods whose logs tell it.

    Servers of Kubeflow Pipelines 2 mostly leave the error of a task out.
    """
    pods: dict[str, list[str]] = {}
    errors: dict[str, str] = {}
    for task in _tasks_of(run):
        name = (task.display_name or "").removesuffix("-driver")
        if task.state == "FAILED" and name in tasks:
            pods.setdefault(name, []).extend(
                child.pod_name for child in task.child_tasks or () if child.pod_name
            )
            if error := _error_of(task):
                errors[name] = error
    lines = []
    for name, names in pods.items():
        log = f"; its log is that of {', '.join(names)}" if names else ""
        lines.append(f"{name} failed: {errors[name]}" if name in errors else f"{name} failed{log}")
    if error := _error_of(run):
        lines.append(error)
    return lines


def _tasks_of(run: Any) -> list[Any]:
    return (run.run_details and run.run_details.task_details) or []


def _error_of(subject: Any) -> str:
    states = reversed(subject.state_history or [])
    errors = [subject.error, *(status.error for status in states)]
    messages = (error.message for error in errors if error is not None)
    return " ".join(next((message for message in messages if message), "").split())
