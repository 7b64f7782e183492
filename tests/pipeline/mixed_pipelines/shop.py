"""TFX's components all along, with ours where records have kinds."""

from pathlib import Path

import judge  # pyright: ignore[reportMissingImports]  # of the documentation
import tensorflow_transform as tft
from tfx.components import CsvExampleGen, Pusher, SchemaGen, StatisticsGen, Transform
from tfx.proto.pusher_pb2 import PushDestination
from tfx.proto.trainer_pb2 import TrainArgs

from branchline.components import (
    BranchTrainer,
    Router,
    RouteValidator,
    RunReport,
    route_stats_options,
)
from branchline.schemas import Categorical, Numeric, Route, RoutingTable, when

features = {"x": Numeric(), "z": Numeric(), "colour": Categorical()}
table = RoutingTable(
    Route("up", when.equals("kind", "up"), features=features, label="y", task="regression"),
    Route("down", when.equals("kind", "down"), features=features, label="bad", task="binary"),
)


def preprocessing_fn(inputs):
    scaled = {key: tft.scale_to_z_score(inputs[key]) for key in ("x", "z")}
    return scaled | {"colour": tft.compute_and_apply_vocabulary(inputs["colour"])}


def components(data, folder):
    generated = CsvExampleGen(input_base=data)
    router = Router(generated.outputs["examples"], table)
    routed = router.outputs["routed_examples"]
    statistics = StatisticsGen(examples=routed, stats_options=route_stats_options(table))
    schema = SchemaGen(statistics=statistics.outputs["statistics"])
    validator = RouteValidator(statistics.outputs["statistics"], schema.outputs["schema"], table)
    transform = Transform(
        examples=routed,
        schema=schema.outputs["schema"],
        preprocessing_fn="shop.preprocessing_fn",
        materialize=False,
    )
    trainer = BranchTrainer(
        routed,
        transform.outputs["transform_graph"],
        table,
        recipe_file=str(Path(__file__).with_name("shop_model.py")),
        train_args=TrainArgs(num_steps=200),
        custom_config={"learning_rate": 0.01, "batch_size": 32},
    )
    model = trainer.outputs["model"]
    evaluator = judge.evaluator(routed, model)
    pusher = Pusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        push_destination=PushDestination(
            filesystem=PushDestination.Filesystem(base_directory=f"{folder}/serving")
        ),
    )
    report = RunReport(
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        router_quarantine=router.outputs["quarantine"],
        anomalies=validator.outputs["anomalies"],
    )
    return [
        generated,
        router,
        statistics,
        schema,
        validator,
        transform,
        trainer,
        evaluator,
        pusher,
        report,
    ]
