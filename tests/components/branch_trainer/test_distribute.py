"""Several devices and several workers; what is checked is in replicas.py, in processes of its own.

F10 and F11 are in test_correctness.py.
"""

import numpy as np
import pytest
from processes import names_of, run_two_workers

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
