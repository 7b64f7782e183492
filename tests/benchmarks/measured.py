"""What the benchmarks of whole pipelines share: seconds of components, spreads, and the machine."""

import importlib.metadata
import os
import platform
import statistics


def where_measured():
    """The machine, how busy it was, and the versions, for a file of figures."""
    packages = ("branchline", "tfx", "tensorflow", "apache-beam", "keras")
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {
        "machine": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "versions": versions | {"python": platform.python_version()},
        "load": os.getloadavg(),
    }


def component_seconds(metadata):
    """Component → seconds of its execution."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(metadata)
    store = metadata_store.MetadataStore(config)
    taken = {}
    for execution in store.get_executions():
        (node,) = [c for c in store.get_contexts_by_execution(execution.id) if c.type == "node"]
        milliseconds = execution.last_update_time_since_epoch - execution.create_time_since_epoch
        taken[node.name.partition(".")[2]] = milliseconds / 1000
    return taken


def spread(values):
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
