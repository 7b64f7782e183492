"""Maps artifact URIs to the local paths that Kubeflow's launcher copies them to, and back.

Source: `LocalPathForURI` in Kubeflow Pipelines' backend/src/v2/component/launcher_v2.go.
"""

VOLUME_VARIABLE = "BRANCHLINE_ARTIFACTS_VOLUME"  # of the environment: see `to_local`
_FOLDERS = {"s3://": "/s3/", "minio://": "/minio/", "gs://": "/gcs/"}


def to_local(uri: str, volume: str | None = None) -> str:
    """The path in a step's container that stands for an artifact's URI.

    Args:
        uri: Of a bucket; anything else comes back unchanged.
        volume: A directory on a mounted volume that holds the artifacts of all buckets instead.

    >>> to_local("minio://mlpipeline/v2/a"), to_local("gs://b/a"), to_local("/data/a")
    ('/minio/mlpipeline/v2/a', '/gcs/b/a', '/data/a')
    >>> to_local("s3://b/a", volume="/volume/runs")
    '/volume/runs/b/a'
    """
    for scheme, folder in _FOLDERS.items():
        if uri.startswith(scheme):
            root = f"{volume.rstrip('/')}/" if volume else folder
            return root + uri.removeprefix(scheme)
    return uri


def to_remote(path: str, volume: str | None = None) -> str:
    """The URI that a path of `to_local` stands for.

    With a `volume` it is not known which scheme a path had, and the path comes back unchanged; so
    does every path that stands for no URI.

    >>> to_remote("/s3/b/a"), to_remote("/gcs/b/a"), to_remote("/data/a")
    ('s3://b/a', 'gs://b/a', '/data/a')
    """
    if volume and (path + "/").startswith(f"{volume.rstrip('/')}/"):
        return path
    for scheme, folder in _FOLDERS.items():
        if path.startswith(folder):
            return scheme + path.removeprefix(folder)
    return path


def beam_path(uri: str) -> str:
    """The URI as Beam's file systems know it: MinIO is S3 at another endpoint.

    >>> beam_path("minio://b/a"), beam_path("gs://b/a"), beam_path("/data/a")
    ('s3://b/a', 'gs://b/a', '/data/a')
    """
    return f"s3://{uri.removeprefix('minio://')}" if uri.startswith("minio://") else uri
