"""A compiled pipeline finds the store of whichever Kubeflow Pipelines it runs on."""

import socket

import pytest

from branchline.pipeline.kubeflow.step.cluster_store import ADDRESSES, find_cluster_store
from branchline.schemas import BranchlineError


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


@pytest.fixture
def closed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    return address


def test_the_first_that_listens_is_the_store(listening, closed):
    unknown = ("no-such-service.invalid", 9000)
    found = find_cluster_store([unknown, closed, listening, ("127.0.0.1", 1)])
    assert found == f"http://127.0.0.1:{listening[1]}"


def test_without_any_the_error_names_all_that_were_tried(closed):
    with pytest.raises(BranchlineError) as caught:
        find_cluster_store([("no-such-service.invalid", 9000), closed])
    said = str(caught.value)
    assert "no-such-service.invalid:9000 (" in said
    assert f"127.0.0.1:{closed[1]} (Connection refused)" in said
    assert "--s3-endpoint" in said


def test_old_and_new_releases_are_looked_for_near_the_run_first():
    assert ADDRESSES == (
        ("seaweedfs", 9000),
        ("minio-service", 9000),
        ("seaweedfs.kubeflow", 9000),
        ("minio-service.kubeflow", 9000),
    )
