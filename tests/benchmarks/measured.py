"""What the benchmarks share: runs of processes, seconds of components, spreads, and the machine."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time


def where_measured():
    """The machine, how busy it was, and the versions, for a file of figures."""
    packages = ("branchline", "tfx", "tensorflow", "apache-beam", "keras")
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {
        "machine": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "versions": versions | {"python": platform.python_version()},
        "load": os.getloadavg(),
    }


def run(command, log):
    """Wall and processor seconds and peak memory of a process that has to end well."""
    begun = time.perf_counter()
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed:\n{log.read_text()[-4000:]}")
    return {
        "wall": time.perf_counter() - begun,
        "processor": used.ru_utime + used.ru_stime,
        "memory: GB": used.ru_maxrss / 1e6,
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
