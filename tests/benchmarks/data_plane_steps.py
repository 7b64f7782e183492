"""The steps that data_plane.py measures: each, given source and output, is a function to run."""

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from data_plane_recipe import TABLE
from tfx.components.example_gen.csv_example_gen import executor as csv_executor
from tfx.components.example_gen.utils import make_default_output_config
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import Channel, artifact_utils, standard_artifacts
from tfx.utils import proto_utils

from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen import component as mixed_component
from branchline.components.router import component as router_component
from branchline.pipeline.local import BEAM_ARGS


def csv_example_gen(source, output):
    """TFX's own, which reads folders."""
    folder, _, name = source.rpartition("/")
    patterns = [example_gen_pb2.Input.Split(name="single_split", pattern=name)]
    inputs = example_gen_pb2.Input(splits=patterns)
    written = _artifact(standard_artifacts.Examples, output)
    properties = {
        "input_base": folder,
        "input_config": proto_utils.proto_to_json(inputs),
        "output_config": proto_utils.proto_to_json(make_default_output_config(inputs)),
        "output_data_format": example_gen_pb2.FORMAT_TF_EXAMPLE,
        "output_file_format": example_gen_pb2.FORMAT_TFRECORDS_GZIP,
    }
    executor = csv_executor.Executor(_context())
    return lambda: executor.Do({}, {"examples": [written]}, properties)


def mixed(source, output):
    """MixedExampleGen as the pipeline has it."""
    step = mixed_component.MixedExampleGen(source, routing=TABLE)
    outputs = {
        "examples": [_artifact(standard_artifacts.Examples, f"{output}/examples")],
        "quarantine": [_artifact(Quarantine, f"{output}/quarantine")],
    }
    return lambda: mixed_component.Executor(_context()).Do({}, outputs, step.exec_properties)


def router(source, output):
    """Router, on what MixedExampleGen wrote."""
    step = router_component.Router(Channel(standard_artifacts.Examples), TABLE)
    outputs = {
        "routed_examples": [_artifact(standard_artifacts.Examples, f"{output}/examples")],
        "quarantine": [_artifact(Quarantine, f"{output}/quarantine")],
    }
    inputs = {"examples": [_artifact(standard_artifacts.Examples, f"{source}/examples")]}
    return lambda: router_component.Executor(_context()).Do(inputs, outputs, step.exec_properties)


def copy(source, output):
    """Beam alone: the same records, read and written."""

    def run():
        with beam.Pipeline(options=PipelineOptions(list(BEAM_ARGS))) as pipeline:
            for split in ("train", "eval"):
                _ = (
                    pipeline
                    | f"Read[{split}]"
                    >> beam.io.ReadFromTFRecord(f"{source}/examples/Split-{split}/*")
                    | f"Write[{split}]"
                    >> beam.io.WriteToTFRecord(f"{output}/Split-{split}/a", file_name_suffix=".gz")
                )

    return run


def _artifact(kind, uri):
    artifact = kind()
    artifact.uri = uri
    if kind is standard_artifacts.Examples:
        artifact.split_names = artifact_utils.encode_split_names(["eval", "train"])
    return artifact


def _context():
    return BaseBeamExecutor.Context(beam_pipeline_args=list(BEAM_ARGS))
