"""Builds routed examples on disk, and the statistics of them, by the components that make them."""

import apache_beam as beam
import builders_evaluator as build
import tensorflow as tf
from tfx import version
from tfx.components.statistics_gen.executor import Executor as StatisticsGenExecutor
from tfx.types import artifact_utils, standard_artifacts

from branchline.components.route_statistics.component import Executor as RouteStatisticsExecutor
from branchline.components.route_statistics.stats_options import route_stats_options
from branchline.schemas import to_json


def examples_artifact(root, splits):
    """Routed examples as the Router lays them out: a file per route in each split."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(root)
    artifact.split_names = artifact_utils.encode_split_names(list(splits))
    for split, by_route in splits.items():
        folder = root / f"Split-{split}"
        folder.mkdir(parents=True)
        for route, rows in by_route.items():
            path = str(folder / f"{route}-00000-of-00001.gz")
            with tf.io.TFRecordWriter(path, "GZIP") as writer:
                for row in rows:
                    writer.write(build.example(**row | {"_route": route}))
    return artifact


def run_statistics_gen(examples, root, table):
    """What TFX's StatisticsGen makes of them with our options."""
    options = route_stats_options(table).to_json()
    properties = {"stats_options_json": options, "exclude_splits": "[]"}
    return _run(StatisticsGenExecutor, examples, root, properties)


def run_route_statistics(examples, root, table, exclude_splits="[]"):
    """What RouteStatistics makes of them."""
    properties = {
        "routing": to_json(table),
        "exclude_splits": exclude_splits,
        "code_version": "0",
    }
    return _run(RouteStatisticsExecutor, examples, root, properties)


def _run(executor, examples, root, properties):
    stats = standard_artifacts.ExampleStatistics()
    stats.uri = str(root)
    stats.set_string_custom_property("tfx_version", version.__version__)
    context = executor.Context(
        make_beam_pipeline_fn=lambda: beam.Pipeline(argv=build.FNAPI[:1]),
        tmp_dir=str(root / "tmp"),
        unique_id="1",
    )
    executor(context).Do({"examples": [examples]}, {"statistics": [stats]}, properties)
    return stats
