"""Asks an object store whether it lets us in, before Beam does, which would ask for ten minutes."""

import functools
import os
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from branchline.schemas import BranchlineError

# Variables of the environment that say where the store is, and who asks.
ACCESS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_S3_ADVICE = (
    "; a compiled pipeline's steps get access by `run_kubeflow.py compile` with --secret (the "
    "Kubernetes secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and --s3-endpoint (the "
    "store's URL, where it is not Amazon's)"
)


def check_access(path: str) -> None:
    """Lists one object of an `s3://` path's bucket; other paths pass.

    Where the store is, and who asks, says the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …),
    to Beam as well. Beam takes missing credentials and refused connections for failures that pass,
    and a bucket that does not exist for an empty one.

    Raises:
        BranchlineError: boto3 is not installed, there are no credentials, the store cannot be
            reached, or it refuses; tells what was listed, and what gives access.
    """
    if not path.startswith("s3://"):
        return
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise BranchlineError(
            f"{path}: reading s3:// and minio:// needs boto3; install branchline[kubeflow]"
        ) from error
    if FileSystems._pipeline_options is None:  # no pipeline made yet; Beam's S3 does not do without
        FileSystems.set_options(PipelineOptions([]))
    bucket, _, key = path.removeprefix("s3://").partition("/")
    try:
        access = tuple(os.environ.get(name) for name in ACCESS)
        _s3(access).list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise refused(path, error) from error


@functools.cache
def _s3(access: tuple[str | None, ...]) -> Any:
    """A client for each state of the environment: to make one takes far longer than to ask."""
    import boto3

    return boto3.Session().client("s3")


def refused(path: str, error: Exception, what: str = "listed or read") -> BranchlineError:
    """Words the error of a place that could not be listed or read, or whatever it was."""
    told = " ".join(str(error).split())
    advice = _S3_ADVICE if path.startswith(("s3://", "minio://")) else ""
    return BranchlineError(f"{path}: cannot be {what}: {told}{advice}")
