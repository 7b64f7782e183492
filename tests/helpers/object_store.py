"""An S3 server on this machine, and the environment that leads to it."""

import datetime
import urllib.request
from contextlib import contextmanager

import boto3
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

BUCKET = "artifacts"
_ACCOUNT = "123456789012"  # moto's


@contextmanager
def object_store(monkeypatch):
    """Runs an empty server, and sets the environment; gives a client, with a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    reach(monkeypatch, url)
    try:
        reset = urllib.request.Request(f"{url}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()
        client = boto3.Session().client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
    finally:
        server.stop()


def reach(monkeypatch, url):
    """Sets the environment as a Kubernetes secret does."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def set_time(key, seconds):
    """Sets when an object was last changed, in seconds since 1970."""
    stored = s3_backends[_ACCOUNT]["aws"].buckets[BUCKET].keys[key]
    stored.last_modified = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
