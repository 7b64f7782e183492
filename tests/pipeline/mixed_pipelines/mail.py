"""Foreign TFRecords, training that goes on from an earlier model, and TFX's BulkInferrer."""

from tfx.components import BulkInferrer, ImportExampleGen, Transform
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.common.importer import Importer
from tfx.proto.bulk_inferrer_pb2 import (
    DataSpec,
    ModelSpec,
    OutputColumnsSpec,
    OutputExampleSpec,
    PredictOutput,
    PredictOutputCol,
)
from tfx.proto.trainer_pb2 import TrainArgs
from tfx.types.standard_artifacts import HyperParameters

from branchline.components import (
    BranchEvaluator,
    BranchTrainer,
    Router,
    RouteStatistics,
    RouteValidator,
    RunReport,
    declared_schema,
    route_preprocessing,
)
from branchline.schemas import Numeric, Route, RoutingTable, Text, when

table = RoutingTable(
    Route(
        "text", when.present("message"), features={"message": Text()}, label="urgent", task="binary"
    ),
    Route(
        "meter",
        when.equals("kind", "meter"),
        features={"readings": Numeric(3)},
        label="days",
        task="regression",
    ),
)
THRESHOLDS = {"text": {"auc": 0.8}, "meter": {"mean_absolute_error": 1.0}}


def components(data, folder):
    import tensorflow_data_validation as tfdv

    tfdv.write_schema_text(declared_schema(table), f"{folder}/schema.pbtxt")
    generated = ImportExampleGen(input_base=data)
    router = Router(generated.outputs["examples"], table)
    routed = router.outputs["routed_examples"]
    statistics = RouteStatistics(routed, table)
    schema = ImportSchemaGen(schema_file=f"{folder}/schema.pbtxt")
    validator = RouteValidator(statistics.outputs["statistics"], schema.outputs["schema"], table)
    transform = Transform(
        examples=routed, schema=schema.outputs["schema"], **route_preprocessing(table)
    )
    graph = transform.outputs["transform_graph"]
    first = BranchTrainer(
        routed,
        graph,
        table,
        train_args=TrainArgs(num_steps=120),
        custom_config={"learning_rate": 0.01, "batch_size": 32},
    ).with_id("First")
    found = Importer(source_uri=f"{folder}/tuned", artifact_type=HyperParameters).with_id("Tuned")
    trainer = BranchTrainer(
        routed,
        graph,
        table,
        train_args=TrainArgs(num_steps=10),
        hyperparameters=found.outputs["result"],
        base_model=first.outputs["model"],
    )
    model = trainer.outputs["model"]
    evaluator = BranchEvaluator(routed, model, table, THRESHOLDS)
    fresh = Router(generated.outputs["examples"], table, labels="absent").with_id("Fresh")
    inferrer = BulkInferrer(
        examples=fresh.outputs["routed_examples"],
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        data_spec=DataSpec(example_splits=["eval"]),
        # Not `serving_default`: tfx_bsl's RunInference fails on its output `route`, string [batch].
        model_spec=ModelSpec(model_signature_name=["text"]),
        output_example_spec=OutputExampleSpec(
            output_columns_spec=[
                OutputColumnsSpec(
                    predict_output=PredictOutput(
                        output_columns=[
                            PredictOutputCol(output_key="text", output_column="predicted")
                        ]
                    )
                )
            ]
        ),
    )
    report = RunReport(
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        router_quarantine=router.outputs["quarantine"],
        anomalies=validator.outputs["anomalies"],
        model_run=trainer.outputs["model_run"],
    )
    return [
        generated,
        router,
        statistics,
        schema,
        validator,
        transform,
        first,
        found,
        trainer,
        evaluator,
        fresh,
        inferrer,
        report,
    ]
