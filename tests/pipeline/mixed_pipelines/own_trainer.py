"""TFX's Trainer with a model that knows nothing of branchline, judged by ours route by route."""

import keras
import tensorflow as tf
from tfx.components import CsvExampleGen, Trainer
from tfx.proto.trainer_pb2 import EvalArgs, TrainArgs

from branchline.components import BranchEvaluator, Router, RunReport
from branchline.schemas import Numeric, Route, RoutingTable, when

features = {"x": Numeric(), "z": Numeric()}
table = RoutingTable(
    Route("up", when.equals("kind", "up"), features=features, label="y", task="regression"),
    Route("down", when.equals("kind", "down"), features=features, label="bad", task="binary"),
)
NUMBERS = {key: tf.io.FixedLenFeature([1], tf.float32) for key in features}
THRESHOLDS = {"up": {"mean_absolute_error": 0.5}, "down": {"auc": 0.8}}


def components(data, folder):
    generated = CsvExampleGen(input_base=data)
    router = Router(generated.outputs["examples"], table)
    routed = router.outputs["routed_examples"]
    trainer = Trainer(
        examples=routed,
        run_fn="own_trainer.run_fn",
        train_args=TrainArgs(num_steps=60),
        eval_args=EvalArgs(num_steps=1),
    )
    evaluator = BranchEvaluator(routed, trainer.outputs["model"], table, THRESHOLDS)
    report = RunReport(
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        router_quarantine=router.outputs["quarantine"],
    )
    return [generated, router, trainer, evaluator, report]


def run_fn(fn_args):
    files = [path for pattern in fn_args.train_files for path in tf.io.gfile.glob(pattern)]
    rows = next(iter(tf.data.TFRecordDataset(files, "GZIP").batch(10_000)))
    # CsvExampleGen writes an empty cell as an empty list, which no FixedLenFeature takes.
    labels = {"y": tf.io.VarLenFeature(tf.float32), "bad": tf.io.VarLenFeature(tf.int64)}
    parsed = tf.io.parse_example(rows, NUMBERS | labels)
    dense = {key: tf.sparse.to_dense(parsed[key])[:, :1] for key in labels}
    there = {
        key: tf.scatter_nd(
            parsed[key].indices[:, :1], tf.ones_like(parsed[key].values), [len(rows)]
        )
        for key in labels
    }

    given = keras.Input((2,))
    hidden = keras.layers.Dense(16, "relu")(given)
    outputs = {
        "up": keras.layers.Dense(1, name="up")(hidden),
        "down": keras.layers.Dense(1, "sigmoid", name="down")(hidden),
    }
    model = keras.Model(given, outputs)
    model.compile(keras.optimizers.Adam(0.05), {"up": "mse", "down": "binary_crossentropy"})
    model.fit(
        tf.concat([parsed["x"], parsed["z"]], 1),
        {"up": dense["y"], "down": dense["bad"]},
        sample_weight={"up": there["y"], "down": tf.cast(there["bad"], tf.float32)},
        batch_size=1000,
        epochs=fn_args.train_steps,
        verbose=0,
    )
    served = Served(model)
    tf.saved_model.save(served, fn_args.serving_model_dir, signatures=served.serve)


class Served(tf.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.weights = lambda rows: model(rows), [v.value for v in model.variables]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples):
        raw = tf.io.parse_example(examples, NUMBERS)
        predicted = self.model(tf.concat([raw["x"], raw["z"]], 1))
        return {name: values[:, 0] for name, values in predicted.items()}
