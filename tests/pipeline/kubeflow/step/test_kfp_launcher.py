"""The launcher that test_kubeflow_run.py relies on does what Kubeflow's does."""

import json
import uuid
from pathlib import Path

import pytest
import yaml
from kfp_driver import Kubeflow
from kfp_launcher import KfpLauncher, StepFailed, TfxLauncher, at_root
from s3_server import s3_server

MAKE = """
import json, os, pathlib, sys
given = json.loads(sys.argv[1])
out = given["outputs"]["artifacts"]["words"]["artifacts"][0]
here = pathlib.Path(out.get("customPath") or ("/minio" + out["uri"].removeprefix("minio:/")
                    if "://" in out["uri"] else out["uri"]))
count = int(given["inputs"]["parameterValues"]["count"])
print("making", count)
(here / "Format-Serving").mkdir(parents=True)
(here / "Format-Serving" / "a.txt").write_text("a" * count)
(here / "empty").mkdir()
(here / "BLESSED").touch()
names = given["outputs"]["parameters"]["hash"]["outputFile"]
pathlib.Path(names).write_text(f"h{count}")
metadata = {"span": 3, "ok": True, "names": ["x"], "deep": {"a": 1}, "text": "t"}
pathlib.Path(given["outputs"]["outputFile"]).write_text(json.dumps(
    {"artifacts": {"words": {"artifacts": [{"uri": out["uri"], "metadata": metadata}]}}}))
"""
USE = """
import json, os, pathlib, sys
given = json.loads(sys.argv[1])
words = given["inputs"]["artifacts"]["words"]["artifacts"][0]
here = pathlib.Path(words.get("customPath") or ("/minio" + words["uri"].removeprefix("minio:/")
                    if "://" in words["uri"] else words["uri"]))
found = sorted(str(p.relative_to(here)) for p in here.rglob("*"))
print(json.dumps({"found": found, "beside": os.listdir(here.parent), "words": words,
                  "environment": dict(os.environ), "parameters": given["inputs"]["parameterValues"],
                  "here": os.listdir("."), "arguments": sys.argv[2:]}))
"""


def make_spec(make=MAKE, use=USE, **make_task) -> list[dict]:
    """Two steps: `make` writes words and a hash; `use` prints what it is given."""
    python = ["sh", "-c", 'exec python -c "$0" "$@"']
    tasks = {
        "use": {
            "componentRef": {"name": "use"},
            "inputs": {
                "artifacts": {
                    "words": {
                        "taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "words"}
                    }
                },
                "parameters": {
                    "hash": {
                        "taskOutputParameter": {
                            "producerTask": "make",
                            "outputParameterKey": "hash",
                        }
                    },
                    "number": {"runtimeValue": {"constant": 500.0}},
                },
            },
        },
        "make": {
            "componentRef": {"name": "make"},
            "inputs": {"parameters": {"count": {"componentInputParameter": "count"}}},
            **make_task,
        },
    }
    components = {
        "make": {
            "executorLabel": "make",
            "inputDefinitions": {"parameters": {"count": {"parameterType": "NUMBER_INTEGER"}}},
            "outputDefinitions": {
                "artifacts": {"words": {"artifactType": {"schemaTitle": "tfx.Examples"}}},
                "parameters": {"hash": {"parameterType": "STRING"}},
            },
        },
        "use": {
            "executorLabel": "use",
            "inputDefinitions": {
                "parameters": {
                    "hash": {"parameterType": "STRING"},
                    "number": {"parameterType": "STRING"},
                    "absent": {
                        "parameterType": "STRING",
                        "defaultValue": "usual",
                        "isOptional": True,
                    },
                }
            },
        },
    }
    containers = {"make": make, "use": use}
    executors = {
        name: {"container": {"image": "x", "command": python, "args": [code, "{{$}}", "--end"]}}
        for name, code in containers.items()
    }
    executors["use"]["container"]["env"] = [{"name": "STEP", "value": "use"}]
    spec = {
        "pipelineInfo": {"name": "tiny"},
        "root": {
            "dag": {"tasks": tasks},
            "inputDefinitions": {
                "parameters": {"count": {"parameterType": "NUMBER_INTEGER", "defaultValue": 2.0}}
            },
        },
        "components": components,
        "deploymentSpec": {"executors": executors},
    }
    secrets = [{"secretName": "store", "keyToEnv": [{"secretKey": "key", "envVar": "STORE_KEY"}]}]
    config = {"deploymentSpec": {"executors": {"use": {"secretAsEnv": secrets}}}}
    return [spec, {"platforms": {"kubernetes": config}}]


def write_spec(path: Path, documents: list[dict]) -> Path:
    path.write_text(yaml.safe_dump_all(documents))
    return path


@pytest.fixture(scope="module")
def server():
    with s3_server(f"branchline-{uuid.uuid4().hex[:12]}") as running:
        yield running


@pytest.fixture
def kfp(server, tmp_path):
    scratch = None if at_root() else tmp_path / "host"
    launcher = KfpLauncher(f"minio://{server.bucket}/{tmp_path.name}", server.store, scratch)
    yield Kubeflow(launcher, tmp_path / "work", secrets={"store": {"key": "k"}})
    launcher.close()


@pytest.fixture
def run(kfp, tmp_path):
    return kfp.run(write_spec(tmp_path / "tiny.yaml", make_spec()))


def said(run) -> dict:
    return json.loads(run.steps["use"].log.splitlines()[-1])


def test_a_consumer_finds_the_files_but_no_empty_folder(run):
    assert said(run)["found"] == ["BLESSED", "Format-Serving", "Format-Serving/a.txt"]


def test_a_consumer_gets_what_mlmd_keeps_of_an_artifact(run):
    words = said(run)["words"]
    assert words["name"].isdigit() and words["type"] == {"instanceSchema": ""}
    metadata = words["metadata"]
    assert metadata.pop("store_session_info") and metadata.pop("display_name") == "words"
    assert metadata == {
        "span": 3,
        "ok": 1,
        "names": {"list": ["x"]},
        "deep": {"struct": {"a": 1}},
        "text": "t",
    }


def test_parameters_come_from_constants_outputs_and_defaults(run, kfp, tmp_path):
    assert said(run)["parameters"] == {"hash": "h2", "number": "500", "absent": "usual"}
    again = kfp.run(tmp_path / "tiny.yaml", {"count": 7})
    assert said(again)["parameters"]["hash"] == "h7"


def test_a_text_that_is_not_optional_has_no_default(kfp, tmp_path):
    """Its default is only looked at before the driver makes "" of nil."""
    documents = make_spec()
    inputs = documents[0]["components"]["use"]["inputDefinitions"]["parameters"]
    del inputs["absent"]["isOptional"]
    run = kfp.run(write_spec(tmp_path / "tiny.yaml", documents))
    assert said(run)["parameters"]["absent"] == ""


def test_a_step_has_a_fresh_environment_and_its_secrets(run, monkeypatch):
    environment = said(run)["environment"]
    assert environment["STORE_KEY"] == "k" and environment["STEP"] == "use"
    python_sets = {"LC_CTYPE", "PWD", "SHLVL", "_", "OLDPWD"}
    assert set(environment) - python_sets == {"PATH", "HOME", "STORE_KEY", "STEP"}
    assert said(run)["here"] == [] and said(run)["arguments"] == ["--end"]


def test_the_log_becomes_an_artifact_that_no_component_declared(run, server):
    uri = run.artifact("make", "executor-logs")["uri"]
    assert uri.endswith("/executor-logs-0")
    (key,) = server.store.keys(uri)
    body = server.store.client.get_object(Bucket=server.bucket, Key=key)["Body"].read()
    assert body == b"making 2\n"


def test_nothing_local_outlives_a_step(run, server, kfp):
    uri = run.artifact("make", "words")["uri"]
    local = Path(kfp.launcher.local(uri))
    assert not local.exists() and server.store.keys(uri)


def test_an_output_outside_of_the_run_is_refused(kfp, tmp_path):
    elsewhere = MAKE.replace('"uri": out["uri"]', '"uri": "minio://elsewhere/x"')
    assert elsewhere != MAKE
    with pytest.raises(StepFailed, match="expected bucket prefix"):
        kfp.run(write_spec(tmp_path / "x.yaml", make_spec(elsewhere)))


def test_a_zero_byte_directory_marker_breaks_the_download(kfp, server, tmp_path):
    spec = write_spec(tmp_path / "tiny.yaml", make_spec(cachingOptions={"enableCache": True}))
    uri = kfp.run(spec).artifact("make", "words")["uri"]
    marker = uri.removeprefix(f"minio://{server.bucket}/") + "/Format-Serving/"
    server.store.client.put_object(Bucket=server.bucket, Key=marker)
    with pytest.raises(StepFailed, match="failed to download input artifact"):
        kfp.run(spec)


def test_a_key_that_only_begins_alike_is_not_downloaded(kfp, server, tmp_path):
    spec = write_spec(tmp_path / "tiny.yaml", make_spec(cachingOptions={"enableCache": True}))
    uri = kfp.run(spec).artifact("make", "words")["uri"]
    beside = uri.removeprefix(f"minio://{server.bucket}/") + "_more/b.txt"
    server.store.client.put_object(Bucket=server.bucket, Key=beside, Body=b"b")
    assert said(kfp.run(spec))["beside"] == ["words"]


def test_the_cache_knows_parameters_and_input_artifacts_but_not_files(kfp, tmp_path):
    documents = make_spec(cachingOptions={"enableCache": True})
    documents[0]["root"]["dag"]["tasks"]["use"]["cachingOptions"] = {"enableCache": True}
    spec = write_spec(tmp_path / "tiny.yaml", documents)
    first = kfp.run(spec)
    second = kfp.run(spec)
    assert first.executed == {"make", "use"} and second.executed == set()
    assert second.artifact("make", "words") == first.artifact("make", "words")
    assert kfp.run(spec, {"count": 3}).executed == {"make", "use"}
    assert kfp.run(write_spec(spec, make_spec())).executed == {"make", "use"}  # not to be cached


def test_a_step_that_fails_fails_the_run_with_its_log(kfp, tmp_path):
    with pytest.raises(StepFailed, match="make ended with code 1(.|\n)*boom"):
        kfp.run(write_spec(tmp_path / "x.yaml", make_spec("raise ValueError('boom')")))


def test_an_output_with_a_field_that_go_does_not_know_fails(kfp, tmp_path):
    more = MAKE.replace('{"artifacts": {"words"', '{"more": 1, "artifacts": {"words"')
    with pytest.raises(StepFailed, match="failed to unmarshall ExecutorOutput.*more"):
        kfp.run(write_spec(tmp_path / "x.yaml", make_spec(more)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"cuont": 1}, "cuont"), ({"count": "two"}, "'count': expect NUMBER_INTEGER, got 'two'")],
    ids=["unknown", "type"],
)
def test_a_wrong_parameter_is_refused(kfp, tmp_path, parameters, message):
    with pytest.raises(ValueError, match=message):
        kfp.run(write_spec(tmp_path / "tiny.yaml", make_spec()), parameters)


def test_a_resolver_is_refused(kfp, tmp_path):
    documents = make_spec()
    documents[0]["deploymentSpec"]["executors"]["make"] = {"resolver": {}}
    with pytest.raises(ValueError, match="make: resolver is not implemented"):
        kfp.run(write_spec(tmp_path / "x.yaml", documents))


def test_without_the_right_to_write_at_the_root_artifacts_have_a_custom_path(server, tmp_path):
    root = f"minio://{server.bucket}/custom"
    launcher = KfpLauncher(root, server.store, tmp_path / "host")
    kfp = Kubeflow(launcher, tmp_path / "work", secrets={"store": {"key": "k"}})
    run = kfp.run(write_spec(tmp_path / "tiny.yaml", make_spec()))
    assert said(run)["words"]["customPath"].startswith(str(tmp_path))
    assert "Format-Serving/a.txt" in said(run)["found"]


def test_as_tfx_gives_it_an_artifact_keeps_its_type_and_all_its_metadata(tmp_path):
    kfp = Kubeflow(
        TfxLauncher(tmp_path / "root"), tmp_path / "work", secrets={"store": {"key": "k"}}
    )
    run = kfp.run(write_spec(tmp_path / "tiny.yaml", make_spec()))
    words = said(run)["words"]
    assert words["type"] == {"schemaTitle": "tfx.Examples"}
    assert words["metadata"]["names"] == ["x"] and words["metadata"]["ok"] is True
    assert words["uri"].startswith(str(tmp_path)) and "executor-logs" not in run.steps["use"].inputs
    assert "empty" in said(run)["found"]
