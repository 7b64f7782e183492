"""Builds raw examples on the wire, files of records, and the artifacts of the steps before."""

import functools
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow.parquet
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.saved import saved_transform_io_v2
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io
from tfx.types import artifact_utils, standard_artifacts
from tfx_bsl.coders import example_coder
from tfx_bsl.public import tfxio

from branchline.components.artifacts import Quarantine
from branchline.components.branch_trainer.streams.inputs import describe_inputs
from branchline.components.branch_trainer.streams.labels import dense_label
from branchline.components.branch_trainer.streams.read_rows import RowReader, Rows
from branchline.components.branch_trainer.streams.weights import dense_weight
from branchline.components.files.routed import file_name, split_dir
from branchline.components.router.route_batch import BatchRouter
from branchline.components.transform.declared_schema import declared_schema
from branchline.components.transform.preprocessing import preprocessing_fn
from branchline.schemas import (
    Categorical,
    Ids,
    Image,
    Numeric,
    Recipe,
    Route,
    RoutingTable,
    Text,
    to_json,
    when,
)

FNAPI = PipelineOptions(["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"])


def feature(values):
    """A tf.train.Feature of one Python value or a list of one type; [] is a feature without any."""
    values = values if isinstance(values, list) else [values]
    if not values:
        return tf.train.Feature()
    if isinstance(values[0], str | bytes):
        texts = [v.encode() if isinstance(v, str) else v for v in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def example(record):
    """Serializes a dict of key → value or list of values."""
    made = {key: feature(values) for key, values in record.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString(
        deterministic=True
    )


def read_example(serialized):
    """Key → (kind, list of values), kind "string", "float" or "int"; None for no value."""
    kinds = {"bytes_list": "string", "float_list": "float", "int64_list": "int", None: None}
    read = {}
    for key, value in tf.train.Example.FromString(serialized).features.feature.items():
        kind = value.WhichOneof("kind")
        read[key] = (kinds[kind], list(getattr(value, kind).value) if kind else [])
    return read


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def examples_artifact(root, splits):
    """An Examples artifact of split → list of serialized examples, as two files each."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(root)
    artifact.split_names = artifact_utils.encode_split_names(sorted(splits))
    for split, rows in splits.items():
        folder = root / f"Split-{split}"
        folder.mkdir(parents=True)
        for number, part in enumerate((rows[::2], rows[1::2])):
            with tf.io.TFRecordWriter(str(folder / f"part-{number}.gz"), "GZIP") as writer:
                for row in part:
                    writer.write(row)
    return artifact


def empty_artifact(kind, root):
    artifact = kind()
    artifact.uri = str(root)
    return artifact


def read_split(artifact, split):
    """The serialized examples of one split."""
    files = tf.io.gfile.glob(artifact_utils.get_split_uri([artifact], split) + "/*")
    dataset = tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")
    return [row.numpy() for row in dataset]


def quarantine_artifact(root, counts):
    """A Quarantine artifact with these counts and no records."""
    root.mkdir(parents=True)
    (root / "counts.json").write_text(json.dumps(counts))
    return empty_artifact(Quarantine, root)


def read_quarantine(root):
    """The lines and the counts of a Quarantine artifact's directory."""
    lines = []
    for path in sorted(root.glob("records-*.parquet")):
        lines += pyarrow.parquet.read_table(path).to_pylist()
    return lines, json.loads((root / "counts.json").read_text())


def route_rows(table, records):
    """Route → routed examples of the records, in order; fails if one is set aside."""
    routed = BatchRouter(table)([example(record) for record in records])
    assert not routed.aside, routed.aside
    return {name: routed.examples.get(name, []) for name in table.names}


def routed_artifact(root, splits):
    """An Examples artifact as Router writes it, of split → route → examples, two files a route."""
    artifact = empty_artifact(standard_artifacts.Examples, root)
    artifact.split_names = artifact_utils.encode_split_names(sorted(splits))
    for split, by_route in splits.items():
        folder = Path(split_dir(str(root), split))
        folder.mkdir(parents=True)
        for route, rows in by_route.items():
            half = len(rows) // 2
            for number, part in enumerate((rows[:half], rows[half:])):
                write_rows(folder / file_name(route, number, 2), part)
    return artifact


def plain_rows(path, records, inputs, targets, *, weight=None, in_memory=True):
    """The rows of a route as `RowReader` gives them, of features that need no transform.

    Args:
        path: A file that does not exist.
        records: Dicts of key → value.
        inputs: Feature → what the branch gets; a shape of [None] is ragged.
        targets: Label → its target.
        weight: Key of the weight, if there is one.
        in_memory: Whether they fit.
    """
    specs = {
        key: tf.io.RaggedFeature(spec.dtype)
        if None in spec.shape
        else tf.io.FixedLenFeature(
            spec.shape, spec.dtype, np.zeros(spec.shape, tf.as_dtype(spec.dtype).as_numpy_dtype)
        )
        for key, spec in inputs.items()
    } | {
        key: tf.io.VarLenFeature("float32" if target.dtype == "float" else "int64")
        for key, target in targets.items()
    }
    if weight:
        specs[weight] = tf.io.VarLenFeature("float32")

    def parse(serialized):
        found = tf.io.parse_example(serialized, specs)
        labels = {key: dense_label(found[key], targets[key]) for key in targets}
        labels |= {weight: dense_weight(found[weight])} if weight else {}
        return {key: found[key] for key in inputs}, labels

    file = write_rows(path, [example(record) for record in records])
    features, labels = parse(tf.constant([example(record) for record in records], tf.string))
    return Rows(len(records), labels, features if in_memory else None, [file], parse)


def reader(table, output):
    """Reads routed examples as the trainer does, and tells what its branches get."""
    inputs = describe_inputs(Recipe("r", table), output, own_preprocessing=False)
    return RowReader(table, inputs, output), inputs


def transform(
    root, table, splits, *, materialize=True, force_tf_compat_v1=True, preprocess=preprocessing_fn
):
    """Learns the preprocessing from all `splits`, and materialises each if it is to.

    Args:
        root: A folder that does not exist.
        table: The routes.
        splits: Name → routed examples.
        materialize: As preprocessing takes it.
        force_tf_compat_v1: As Transform takes it.
        preprocess: The `preprocessing_fn`, by default the default one.

    Returns:
        The transform's output, and split → transformed examples in order, with labels and `_route`.
    """
    config = {"routing": to_json(table), "recipe_file": "", "materialize": materialize}
    graph = str(root / "graph")
    with tft_beam.Context(str(root / "temporary"), force_tf_compat_v1=force_tf_compat_v1):
        analyze = tft_beam.AnalyzeDataset(functools.partial(preprocess, custom_config=config))
        with beam.Pipeline(options=FNAPI) as pipeline:
            rows = [row for rows in splits.values() for row in rows]
            learnt = _read(pipeline, "Analyze", rows, table) | analyze
            _ = learnt | tft_beam.WriteTransformFn(graph)
        metadata = dataset_metadata.DatasetMetadata(declared_schema(table))
        metadata_io.write_metadata(metadata, graph + "/metadata")  # as Transform's component does
        output = tft.TFTransformOutput(graph)
        if not materialize:
            return output, {}
        coder = example_coder.RecordBatchToExamplesEncoder(output.transformed_metadata.schema)
        with beam.Pipeline(options=FNAPI) as pipeline:
            learnt = pipeline | tft_beam.ReadTransformFn(graph)
            for split, rows in splits.items():
                batches, _ = (
                    _read(pipeline, split, rows, table),
                    learnt,
                ) | f"Transform{split}" >> tft_beam.TransformDataset(output_record_batches=True)
                _ = (
                    batches
                    | f"Encode{split}" >> beam.FlatMap(lambda batch: coder.encode(batch[0]))
                    | f"Write{split}" >> beam.io.WriteToTFRecord(f"{root}/{split}", num_shards=1)
                )
    transformed = {}
    for split in splits:
        files = tf.io.gfile.glob(f"{root}/{split}-0*")
        transformed[split] = [row.numpy() for row in tf.data.TFRecordDataset(files)]
    return output, transformed


class Transformer(tf.Module):
    """What a transform has learnt, for rows as the Router writes them.

    Args:
        output: The transform's output.
        columns: What it is fed, by default all there is.
    """

    def __init__(self, output, columns=None):
        super().__init__()
        self.loader = saved_transform_io_v2.SavedModelLoader(output.transform_savedmodel_dir)
        self.resources = vars(self.loader)
        specs = output.raw_feature_spec()
        self._specs = {name: specs[name] for name in columns or specs}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, rows):
        """Output → its values, sparse [batch, values]."""
        return self.loader.apply_transform_model(tf.io.parse_example(rows, self._specs))


def _read(pipeline, name, rows, table):
    """The rows as Transform's component reads them, in one bundle, which keeps their order."""
    source = tfxio.TFExampleBeamRecord("bytes", schema=declared_schema(table))
    batches = (
        pipeline
        | f"Create{name}" >> beam.Create([rows])
        | f"Rows{name}" >> beam.FlatMap(list)
        | f"Batch{name}" >> source.BeamSource()
    )
    return batches, source.TensorAdapterConfig()


# Odd keys on purpose; `value` is a homonym, `x` a column that two routes share, and `days` a
# feature of one route and the label of another.
MIXED_TABLE = RoutingTable(
    Route(
        "text",
        when.present("a/b. ü"),
        features={
            "a/b. ü": Text(max_words=4, length=3, ngrams=2),
            "colour": Categorical(max_values=2),
            "x": Numeric(),
            "note": Text(),
            "days": Numeric(),
        },
        label="good",
        task="binary",
    ),
    Route(
        "meter-1",
        when.any(when.dtype("value", "float"), when.isin("colour", ["m", 3])),
        features={"value": Numeric((2,)), "x": Numeric(), "flat": Numeric()},
        label="days",
        task="regression",
    ),
    Route(
        "scan",
        when.all(when.present("pixels"), when.not_(when.greater("x", 5))),
        features={"pixels": Image(1, 2, 1), "value": Ids(9, length=2)},
        label="class",
        task="multiclass",
        num_classes=3,
    ),
)
MIXED_RECORDS = [
    {"a/b. ü": "Red RED, blue!", "colour": "r", "x": 100.0, "days": 20, "good": 1},
    {"a/b. ü": "red Äpfel x9 y", "colour": "g", "x": 300, "days": 40.0, "good": 0},
    {"a/b. ü": "--", "colour": 7, "good": 0},
    {"a/b. ü": "red blue", "colour": "r", "x": 800.0, "good": 1},
    {"value": [1.0, 10.0], "x": 1.0, "flat": 5, "days": 3},
    {"value": [2.0, 30.0], "x": -1.0, "flat": 5, "days": 4.5},
    {"value": [6.0, 80.0], "flat": 5, "days": 5},
    {"pixels": [0, 255], "value": [8, 0], "class": 2},
    {"pixels": [51.0, 102.0], "value": [3, 3], "class": 0},
]


class Mixed(NamedTuple):
    """The records of MIXED_RECORDS on their way.

    Attributes:
        routed: Route → routed examples.
        output: What the default preprocessing has learnt from them.
        rows: Route → transformed examples.
        folder: Where the output lies, until the process ends.
    """

    routed: dict
    output: tft.TFTransformOutput
    rows: dict
    folder: tempfile.TemporaryDirectory


@functools.cache
def mixed():
    """Routes and transforms MIXED_RECORDS, once in a process."""
    folder = tempfile.TemporaryDirectory()
    routed = route_rows(MIXED_TABLE, MIXED_RECORDS)
    output, rows = transform(Path(folder.name) / "transform", MIXED_TABLE, routed)
    return Mixed(routed, output, rows, folder)


def write_rows(path, rows):
    """Writes serialized examples as one compressed file and gives its path."""
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in rows:
            writer.write(row)
    return str(path)
