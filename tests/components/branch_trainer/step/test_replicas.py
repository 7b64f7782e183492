"""Several devices and several workers; what is checked is in replicas.py, in processes of its own.

F10 and F11 are in test_correctness.py.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from processes import names_of, run_two_workers

from branchline.components.branch_trainer.step.strategy_replicas import is_chief

ON_TWO_DEVICES = [name for name in names_of("check_") if not name.startswith("check_f")]


@pytest.mark.parametrize("name", ON_TWO_DEVICES)
def test_two_devices(outcome_on_two_devices, name):
    assert outcome_on_two_devices[name] == "passed"


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    return folder, run_two_workers(folder)


@pytest.mark.parametrize("name", names_of("worker_check_"))
def test_two_workers(workers, name):
    _, outcomes = workers
    assert [of_worker[name] for of_worker in outcomes] == ["passed"] * 2


def test_two_workers_end_with_the_same_weights_and_validation_losses(workers):
    folder, _ = workers
    one, other = (np.load(folder / f"worker-{index}.npz") for index in range(2))
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name])
    one, other = (np.load(folder / f"validation-{index}.npy") for index in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("jobs", "writers"),
    [
        ({"worker": 1}, [("worker", 0)]),
        ({"worker": 3}, [("worker", 0)]),
        ({"chief": 1, "worker": 2}, [("chief", 0)]),
        ({}, [("", None)]),
    ],
    ids=["one worker", "workers", "F39-chief and workers", "no TF_CONFIG"],
)
def test_f39_one_process_of_all_writes(monkeypatch, jobs, writers):
    cluster = {job: [f"{job}-{i}:1" for i in range(count)] for job, count in jobs.items()}
    tasks = [(job, i) for job, of_job in cluster.items() for i in range(len(of_job))]
    found = []
    for job, index in tasks or [("", None)]:
        if jobs:
            task = {"cluster": cluster, "task": {"type": job, "index": index}}
            monkeypatch.setenv("TF_CONFIG", json.dumps(task))
        else:
            monkeypatch.delenv("TF_CONFIG", raising=False)
        if is_chief(tf.distribute.cluster_resolver.TFConfigClusterResolver()):
            found.append((job, index))
    assert found == writers
