"""Runs replicas.py in processes of its own, on two devices or as two workers."""

import json
import os
import pathlib
import socket
import subprocess
import sys
from collections import defaultdict

PROGRAM = pathlib.Path(__file__).parent / "replicas.py"


def names_of(kind):
    """The checks in the program whose name begins so."""
    lines = PROGRAM.read_text().splitlines()
    return [line[4 : line.index("(")] for line in lines if line.startswith(f"def {kind}")]


def start(results, *args, **variables):
    tests = PROGRAM.parent.parent
    path = f"{tests}{os.pathsep}{tests.parent}"  # the code beside the tests, installed or not
    environment = os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"} | variables
    return subprocess.Popen(
        [sys.executable, PROGRAM, results, *args],
        env=environment,
        stderr=subprocess.STDOUT,
        stdout=results.with_suffix(".log").open("w"),
    )


def end(processes, timeout):
    """Waits for all; those that do not end are killed, and their last check has no outcome."""
    try:
        for process in processes:
            process.wait(timeout)
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in processes:
            process.kill()
            process.wait()


def outcomes_in(results):
    said = results.with_suffix(".log").read_text()[-2000:]
    outcomes = defaultdict(lambda: f"did not end: {said}")
    if results.exists():
        outcomes.update(map(json.loads, results.read_text().splitlines()))
    return outcomes


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def run_on_two_devices(folder):
    """Returns name of a check → "passed", or what went wrong."""
    results = folder / "results"
    end([start(results)], timeout=300)
    return outcomes_in(results)


def run_two_workers(folder):
    """Returns the same of each worker, in a list."""
    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        results = folder / f"results-{index}"
        processes.append(start(results, folder, TF_CONFIG=json.dumps(task)))
    end(processes, timeout=300)
    return [outcomes_in(folder / f"results-{index}") for index in range(2)]
