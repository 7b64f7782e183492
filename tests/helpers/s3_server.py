"""An S3 server on this machine, for as long as a with-block."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kfp_stores import ObjectStore
from moto.server import ThreadedMotoServer


@dataclass
class S3Server:
    """Where it listens and a bucket that it has."""

    endpoint: str
    bucket: str

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs to read and write there."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "reader",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(self.endpoint, "reader", "secret")


@contextmanager
def s3_server(bucket: str) -> Iterator[S3Server]:
    """Starts a server with one empty bucket on a free port."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # or else a line per request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        running = S3Server(f"http://{host}:{port}", bucket)
        running.store.client.create_bucket(Bucket=bucket)
        yield running
    finally:
        server.stop()
