"""The golden pipelines are what is compiled today, and KFP takes them."""

import subprocess
from typing import Any

import golden_pipelines
import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2


@pytest.mark.parametrize("name", golden_pipelines.PIPELINES)
def test_pipelines_compile_to_the_golden_ones(name):
    compiled = golden_pipelines.compile_yaml(golden_pipelines.PIPELINES[name])
    golden = (golden_pipelines.GOLDEN / f"{name}.yaml").read_text()
    assert compiled == golden, "if so intended: uv run python tests/helpers/golden_pipelines.py"


@pytest.mark.parametrize("name", golden_pipelines.PIPELINES)
def test_kfp_loads_them_and_they_are_valid(name):
    text = (golden_pipelines.GOLDEN / f"{name}.yaml").read_text()
    spec, *platforms = yaml.safe_load_all(text)
    assert set(components.load_component_from_text(text).pipeline_spec.components) == set(
        spec["components"]
    )
    # Strict: an unknown field is an error.
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    deployment: Any = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.ParseDict(spec["deploymentSpec"], deployment)
    assert set(deployment.executors) == {c["executorLabel"] for c in spec["components"].values()}
    for document in platforms:
        json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())


def test_what_kubernetes_is_to_add_has_only_fields_that_the_oldest_driver_knows():
    """That of 2.0 to 2.4.0 reads it strictly (backend/src/v2/cmd/driver/main.go)."""
    text = (golden_pipelines.GOLDEN / "kfp_volume.yaml").read_text()
    _, platform = yaml.safe_load_all(text)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    mounts = [mount for each in executors for mount in each["pvcMount"]]
    secrets = [secret for each in executors for secret in each.get("secretAsEnv", ())]
    assert {key for mount in mounts for key in mount} == {"constant", "mountPath"}
    assert {key for secret in secrets for key in secret} == {"secretName", "keyToEnv"}


@pytest.mark.e2e
def test_the_newest_kfp_loads_them_and_they_are_valid_there(tmp_path):
    """In an environment of its own, with the schema of what Kubernetes adds."""
    script = tmp_path / "check.py"
    script.write_text("""
import sys
import tempfile
import kfp, yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

for path in sys.argv[1:]:
    text = open(path).read()
    spec, *platforms = yaml.safe_load_all(text)
    kfp.components.load_component_from_text(text)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
    for document in platforms:
        for each in document["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            json_format.ParseDict(each, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    print("valid with", kfp.__version__)
""")
    goldens = [str(golden_pipelines.GOLDEN / f"{name}.yaml") for name in golden_pipelines.PIPELINES]
    command = ["uv", "run", "--no-project", "--isolated", "--python", "3.11"]
    command += ["--with", "kfp>=2.17", "--with", "kfp-kubernetes", "python", str(script), *goldens]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.count("valid with 2.") == len(goldens), ran.stderr
