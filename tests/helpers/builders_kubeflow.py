"""What KFP's driver and launcher hand to a step, as they make it, and what its store gives back."""

import json
from typing import Any

EXAMPLES_SCHEMA = """title: tfx.Examples
type: object
properties:
  span:
    type: integer
  version:
    type: integer
  split_names:
    type: string
"""


def type_of(title):
    """The artifactType of a compiled pipeline."""
    return {"instanceSchema": f"title: {title}\ntype: object\n"}


def spec_of(**titles):
    """Both a ComponentInputsSpec and a ComponentOutputsSpec of these artifacts."""
    return {"artifacts": {name: {"artifactType": type_of(t)} for name, t in titles.items()}}


def input_artifact(uri, name="17", **metadata):
    """As metadata/converter.go toRuntimeArtifact and client.go ToRuntimeArtifact make it."""
    noise = {"display_name": "model", "store_session_info": '{"Provider":"minio"}'}
    return {
        "name": name,
        "uri": uri,
        "type": {"instanceSchema": ""},
        "metadata": {key: through_store(value) for key, value in metadata.items()} | noise,
    }


def through_store(value: Any) -> Any:
    """What comes back of a value of metadata: converter.go StructValueToMLMDValue and back."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    if isinstance(value, dict):
        return {"struct": value}
    return value


def executor_input(*, inputs=None, outputs=None, parameters=None, output_file):
    """An ExecutorInput: name → artifact."""

    def listed(artifacts):
        return {name: {"artifacts": [each]} for name, each in (artifacts or {}).items()}

    return {
        "inputs": {"artifacts": listed(inputs), "parameterValues": parameters or {}},
        "outputs": {"artifacts": listed(outputs), "outputFile": str(output_file)},
    }


def output_artifact(name, uri, title, **more):
    """As driver/driver.go provisionOutputs makes it."""
    return {"name": name, "uri": uri, "type": type_of(title)} | more


def arguments(class_path, invocation, inputs_spec, outputs_spec, *more):
    """The entrypoint's arguments, as they are compiled into a pipeline."""
    return [
        "--executor_class_path",
        class_path,
        "--json_serialized_invocation_args",
        json.dumps(invocation),
        "--json_serialized_inputs_spec_args",
        json.dumps(inputs_spec),
        "--artifacts=local",
        f"--outputs_spec={json.dumps(outputs_spec)}",
        *more,
    ]
