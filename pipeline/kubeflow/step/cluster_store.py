"""Finds the object store that an installation of Kubeflow Pipelines brings with it.

Its service is `minio-service` up to release 2.15 and `seaweedfs` from 2.16 on (backend/src/v2/
objectstore/config.go), and lies in the namespace of the run or, where each user has one, in
`kubeflow`. A compiled pipeline runs on either.
"""

import socket
from collections.abc import Sequence

from branchline.schemas import BranchlineError

ADDRESSES = tuple(
    (f"{service}{namespace}", 9000)
    for namespace in ("", ".kubeflow")
    for service in ("seaweedfs", "minio-service")
)
_PATIENCE = 3  # seconds; of a service that lacks the port no answer comes


def find_cluster_store(addresses: Sequence[tuple[str, int]] = ADDRESSES) -> str:
    """The URL of the first of `addresses`, host and port each, at which a server listens.

    Raises:
        BranchlineError: None listens.
    """
    tried = []
    for host, port in addresses:
        try:
            socket.create_connection((host, port), timeout=_PATIENCE).close()
        except OSError as error:
            tried.append(f"{host}:{port} ({error.strerror or error})")
        else:
            return f"http://{host}:{port}"
    raise BranchlineError(
        f"no object store of Kubeflow Pipelines answers at {', '.join(tried)}; name it with "
        "--s3-endpoint when compiling"
    )
