"""Builds what an Evaluator takes: routed examples on disk, and SavedModels with known outputs."""

import json
import math

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from branchline.components.branch_evaluator.component import Executor
from branchline.components.files.routed import file_name
from branchline.schemas import Numeric, Route, RoutingTable, to_json, when
from branchline.schemas.metrics import bound

# Two workers: a metric whose parts are not added up rightly shows.
FNAPI = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_num_workers=2",
]


def routing() -> RoutingTable:
    """A route per task; `y` is an int on two of them and a float on the third."""
    return RoutingTable(
        Route("b", when.equals("kind", "b"), features={"x": Numeric()}, label="y", task="binary"),
        Route(
            "m",
            when.equals("kind", "m"),
            features={"x": Numeric((3,))},
            label="y",
            task="multiclass",
            num_classes=3,
        ),
        Route(
            "r", when.equals("kind", "r"), features={"x": Numeric()}, label="y", task="regression"
        ),
    )


def rows(seed: int = 0, size: int = 1500) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Route → labels [size] and scores, [size] or [size, 3]: related, not equal."""
    rng = np.random.default_rng(seed)
    binary = rng.integers(0, 2, size)
    classes = rng.integers(0, 3, size)
    values = rng.normal(3.0, 2.0, size).astype(np.float32)
    score = 1 / (1 + np.exp(-rng.normal(binary * 2 - 1, 1.5)))
    logits = rng.normal(0, 1, (size, 3)) + 1.5 * np.eye(3)[classes]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return {
        "b": (binary, score.astype(np.float32)),
        "m": (classes, probabilities.astype(np.float32)),
        "r": (values, (values + rng.normal(0.5, 1.0, size)).astype(np.float32)),
    }


def example(**features) -> bytes:
    """Serializes one tf.train.Example; ints, floats and str by their type."""
    made = {}
    for key, value in features.items():
        values = np.atleast_1d(value)
        if values.dtype.kind in "iu":
            made[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        elif values.dtype.kind == "f":
            made[key] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            texts = [str(v).encode() for v in values]
            made[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def routed_examples(root, by_route=None, table=None, splits=("train", "eval")):
    """Writes rows as an Examples artifact; `junk` is of another type in every other row."""
    table, by_route = table or routing(), rows() if by_route is None else by_route
    artifact = standard_artifacts.Examples()
    artifact.uri = str(root)
    artifact.split_names = artifact_utils.encode_split_names(list(splits))
    for route, (labels, scores) in by_route.items():
        columns = table.columns(route)
        lines = [
            example(
                _route=route,
                **{columns["y"]: label, columns["x"]: score},
                junk=i if i % 2 else "text",
            )
            for i, (label, score) in enumerate(zip(labels, scores, strict=True))
        ]
        for i, part in enumerate((lines[:200], lines[200:])):
            write_rows(root, file_name(route, i, 2), part)
    return artifact


def write_rows(root, name, lines, split="eval"):
    """Writes serialized examples into a file of a split."""
    path = root / f"Split-{split}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for line in lines:
            writer.write(line)


def model(root, table=None, routes=None, transform=lambda score: score):
    """Saves a model that returns `transform` of the rows' `x`, NaN in rows of other routes."""
    table = table or routing()
    outputs = {
        name: (table.column(name, "x"), _shape(table, name), name, transform)
        for name in table.names
        if routes is None or name in routes
    }
    return save_model(root, outputs)


def _shape(table, name):
    kind = table[name].features["x"]
    assert isinstance(kind, Numeric)
    return kind.shape


def save_model(root, outputs):
    """Saves a model with a signature `serving_default`.

    `outputs` is name → the column that it returns, its shape, the route whose rows it does that
    for, and what is done to it.
    """

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def predict(examples):
        text = tf.io.FixedLenFeature([], tf.string)
        specs = {column: tf.io.RaggedFeature(tf.float32) for column, *_ in outputs.values()}
        parsed = tf.io.parse_example(examples, {"_route": text} | specs)
        found = {"route": parsed["_route"]}
        for name, (column, shape, route, transform) in outputs.items():
            mine = tf.reshape(parsed["_route"] == route, [-1] + [1] * len(shape))
            values = parsed[column].to_tensor(shape=[None, math.prod(shape)])
            values = transform(tf.reshape(values, [-1, *shape]))
            found[name] = tf.where(mine, values, np.float32("nan"))
        return found

    artifact = standard_artifacts.Model()
    artifact.uri = str(root)
    path = path_utils.serving_model_dir(artifact.uri)
    tf.saved_model.save(tf.Module(), path, signatures={"serving_default": predict})
    return artifact


def run(
    root, examples, model, thresholds=None, metrics=None, baseline=(), table=None, **properties
):
    """Runs the executor; gives the summary, the blessing and where TFMA's results are.

    `thresholds` is route → metric → bound, or the JSON of the execution property; `examples` one
    artifact or several.
    """
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    evaluation.uri, blessing.uri = str(root / "evaluation"), str(root / "blessing")
    if not isinstance(thresholds, str):
        thresholds = to_json(
            {
                route: {name: bound("", name, value) for name, value in by_metric.items()}
                for route, by_metric in (thresholds or {}).items()
            }
        )
    context = Executor.Context(
        make_beam_pipeline_fn=lambda: beam.Pipeline(argv=FNAPI),
        tmp_dir=str(root / "tmp"),
        unique_id="1",
    )
    Executor(context).Do(
        {
            "examples": list(examples) if isinstance(examples, list) else [examples],
            "model": [model],
            "baseline_model": list(baseline),
        },
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "routing": to_json(table or routing()),
            "thresholds": thresholds,
            "metrics": to_json(metrics or {}),
            "max_regression": 0.05,
            "split": "eval",
            "skip": to_json(()),
            "test_split": "test",
            "code_version": "0",
        }
        | properties,
    )
    text = (root / "evaluation" / "evaluation.json").read_text()
    return json.loads(text), blessing, root / "evaluation"
