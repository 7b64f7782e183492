"""The default recipe's pipeline of TFX's own components alone, for tests/benchmarks/pipeline.py.

    python tests/benchmarks/plain_tfx.py ROUTED_EXAMPLES SCHEMA CSV_DIR OUTPUT

It does what somebody would who has the records sorted by hand, as TFX's own components suggest:
examples of every route, of which Router writes files of their own, in splits of their own; the same
features, model, batches and number of steps, the same settings of the components that branchline
also takes from TFX, but that Transform writes the transformed examples, which its Trainer reads and
BranchTrainer does not; a training loop written out, an Evaluator per route. CsvExampleGen reads the
same records from CSV and leads nowhere.
"""

import random
import sys
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_model_analysis as tfma
import tensorflow_transform as tft
from tfx.components import (
    CsvExampleGen,
    Evaluator,
    ExampleValidator,
    ImportExampleGen,
    Pusher,
    StatisticsGen,
    Trainer,
    Transform,
)
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import example_gen_pb2, pusher_pb2, trainer_pb2, transform_pb2
from tfx.types import Channel, standard_artifacts

from branchline.components.branch_trainer.recipe.default_model import (
    WIDTH,
    build_branch,
    build_head,
)
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.pipeline.local import BEAM_ARGS
from branchline.pipeline.recipes.mixed import recipe
from branchline.schemas import Categorical, Image, Text

ROUTES = recipe.routing.routes
METRICS = {
    "binary": ("AUC", "BinaryAccuracy"),
    "multiclass": ("SparseCategoricalAccuracy",),
    "regression": ("MeanAbsoluteError", "MeanSquaredError"),
}


def preprocessing_fn(inputs):
    """The features of every route, in every row; where a row has none, as if it had zeros."""
    outputs = {}
    for route in ROUTES:
        outputs[route.label] = fill(inputs[route.label], 1)
        for key, kind in route.features.items():
            values = fill(inputs[key], kind.num_values or 1)
            if isinstance(kind, Text):
                lower = tf.strings.lower(values[:, 0], encoding="utf-8")
                words = tf.strings.split(tf.strings.regex_replace(lower, r"[^\p{L}\p{N}]+", " "))
                ids = tft.compute_and_apply_vocabulary(
                    words.to_sparse(), top_k=kind.max_words, num_oov_buckets=1, vocab_filename=key
                )
                ids = tf.sparse.retain(ids, ids.indices[:, 1] < kind.length)
                outputs[key] = tf.SparseTensor(ids.indices, ids.values + 1, ids.dense_shape)
            elif isinstance(kind, Categorical):
                outputs[key] = 1 + tft.compute_and_apply_vocabulary(
                    values, top_k=kind.max_values, num_oov_buckets=1, vocab_filename=key
                )
            elif isinstance(kind, Image):
                outputs[key] = tft.scale_to_0_1(values)
            else:
                outputs[key] = tft.scale_to_z_score(values, elementwise=True)
    return outputs


def fill(sparse, width):
    """Makes a column dense [batch, width]."""
    shape = tf.stack([sparse.dense_shape[0], width])
    dense = tf.sparse.to_dense(tf.SparseTensor(sparse.indices, sparse.values, shape))
    return tf.reshape(dense, [-1, width])


def run_fn(fn_args):
    """A training loop as one writes it by hand, and an export with a signature per route."""
    keras.utils.set_random_seed(0)
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    features = keras.Input((WIDTH,))
    hidden = keras.layers.Dense(WIDTH, "relu")(features)
    trunk = keras.Model(features, features + keras.layers.Dense(WIDTH)(hidden))
    served = Served(transform, trunk)
    steps, streams, sizes = {}, {}, {}
    for route, files in zip(ROUTES, fn_args.train_files, strict=True):
        assert f"train-{route.name}" in files
        inputs = describe(route, transform)
        branch = build_branch(route, inputs)
        head = build_head(route.name, route.label, route.labels[route.label])
        served.networks[route.name] = keras.Model(branch.input, head.layer(trunk(branch.output)))
        rows = tf.data.TFRecordDataset(tf.io.gfile.glob(files), compression_type="GZIP")
        sizes[route.name] = sum(1 for _ in rows)
        streams[route.name] = iter(stream(rows, route, inputs, transform))
        steps[route.name] = make_step(served.networks[route.name], head.loss)
    weights = [size**0.5 for size in sizes.values()]  # as the recipe's Proportional(2.0)
    for name in random.Random(0).choices(list(sizes), weights, k=fn_args.train_steps):
        steps[name](*next(streams[name]))
    tf.saved_model.save(
        served, fn_args.serving_model_dir, {route.name: served.signature(route) for route in ROUTES}
    )


def describe(route, transform):
    """Feature → what the branch gets."""
    inputs = {}
    for key, kind in route.features.items():
        if isinstance(kind, Text | Categorical):
            shape = (None,) if isinstance(kind, Text) else (1,)
            inputs[key] = Input(shape, "int64", transform.vocabulary_size_by_name(key) + 2)
        else:
            inputs[key] = Input(kind.shape or (1,), "float32")
    return inputs


def stream(rows, route, inputs, transform):
    """Shuffled batches without end."""
    spec = transform.transformed_feature_spec()
    spec = {key: spec[key] for key in [*inputs, route.label]}

    def parse(serialized):
        parsed: Any = tf.io.parse_example(serialized, spec)
        labels = parsed.pop(route.label)
        if route.task == "regression":
            labels = (labels - 150.0) / 77.0
        return shaped(parsed, inputs), labels

    rows = rows.cache().shuffle(100_000, seed=0).repeat()
    return rows.batch(recipe.training.batch_size, drop_remainder=True).map(parse).prefetch(4)


def shaped(features, inputs):
    """Gives features the shapes their layers take."""
    return {
        key: tf.sparse.to_dense(features[key])
        if isinstance(features[key], tf.SparseTensor)
        else tf.reshape(features[key], [-1, *spec.shape])
        for key, spec in inputs.items()
    }


def make_step(network, loss_fn):
    """One step of one route, with an optimizer of its own."""
    variables = network.trainable_variables
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(variables)

    @tf.function(reduce_retracing=True)
    def step(features, labels):
        with tf.GradientTape() as tape:
            loss = loss_fn(labels, network(features, training=True))
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply(gradients, variables)
        return loss

    return step


class Served(tf.Module):
    """What is saved."""

    def __init__(self, transform, trunk):
        super().__init__()
        self.transform, self.trunk, self.networks = transform, trunk, {}
        self.preprocess = transform.transform_features_layer()

    def signature(self, route):
        """Serialized raw examples → the predictions of one route."""
        labels = {each.label for each in ROUTES}
        spec = self.transform.raw_feature_spec()
        spec = {key: each for key, each in spec.items() if key not in labels and key != "_route"}
        inputs = describe(route, self.transform)
        network = self.networks[route.name]

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serve(examples):
            features = self.preprocess(tf.io.parse_example(examples, spec))
            logits = network(shaped(features, inputs), training=False)
            if route.task == "multiclass":
                return {"outputs": tf.nn.softmax(logits)}
            return {"outputs": tf.sigmoid(logits) if route.task == "binary" else logits}

        return serve


def create_pipeline(routed, schema_file, csv_dir, output):
    """The pipeline, as branchline.pipeline.graph's."""
    names = [f"{split}-{route.name}" for split in ("train", "eval") for route in ROUTES]
    train = names[: len(ROUTES)]
    parts = [
        example_gen_pb2.Input.Split(
            name=f"{split}-{route.name}", pattern=f"Split-{split}/{route.name}-?????-of-?????.gz"
        )
        for split in ("train", "eval")
        for route in ROUTES
    ]
    csv_gen = CsvExampleGen(input_base=csv_dir)
    example_gen = ImportExampleGen(
        input_base=routed, input_config=example_gen_pb2.Input(splits=parts)
    )
    examples = example_gen.outputs["examples"]
    statistics_gen = StatisticsGen(
        examples=examples,
        stats_options=tfdv.StatsOptions(
            schema=tfdv.load_schema_text(schema_file), experimental_filter_read_paths=True
        ),
    )
    schema_gen = ImportSchemaGen(schema_file=schema_file)
    schema = schema_gen.outputs["schema"]
    validator = ExampleValidator(statistics=statistics_gen.outputs["statistics"], schema=schema)
    transform = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn="plain_tfx.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(analyze=train, transform=names),
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    trainer = Trainer(
        run_fn="plain_tfx.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema,
        train_args=trainer_pb2.TrainArgs(splits=train, num_steps=recipe.training.steps),
        eval_args=trainer_pb2.EvalArgs(splits=names[len(ROUTES) :], num_steps=1),
    )
    baseline = Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("Baseline")
    evaluators = [
        Evaluator(
            examples=examples,
            model=trainer.outputs["model"],
            baseline_model=baseline.outputs["model"],
            example_splits=[f"eval-{route.name}"],
            eval_config=evaluation(route),
        ).with_id(f"Evaluator.{route.name}")
        for route in ROUTES
    ]
    pusher = Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluators[0].outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=f"{output}/serving")
        ),
    )
    return Pipeline(
        pipeline_name="plain",
        pipeline_root=f"{output}/pipeline",
        components=[csv_gen, example_gen, statistics_gen, schema_gen, validator, transform]
        + [trainer, baseline, *evaluators, pusher],
        metadata_connection_config=sqlite_metadata_connection_config(f"{output}/metadata.sqlite"),
        beam_pipeline_args=list(BEAM_ARGS),
    )


def evaluation(route):
    """The metrics that branchline computes, with a threshold that always holds."""
    anything = tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(lower_bound={"value": -1.0})
    )
    metrics = [tfma.MetricConfig(class_name=name) for name in METRICS[route.task]]
    metrics[0].threshold.CopyFrom(anything)
    return tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name=route.name, label_key=route.label)],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )


if __name__ == "__main__":
    import plain_tfx  # the name under which executors import it

    routed, schema_file, csv_dir, output = sys.argv[1:]
    Path(output).mkdir(parents=True, exist_ok=True)
    sys.argv = sys.argv[:1]
    LocalDagRunner().run(plain_tfx.create_pipeline(routed, schema_file, csv_dir, output))
