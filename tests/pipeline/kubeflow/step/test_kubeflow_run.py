"""A compiled pipeline runs to a pushed model, each container's own command in a fresh environment.

Kubeflow is kfp_driver.py: no cluster, but an S3 server, what the launchers are known to do, and
real processes. Steps cost 8 to 13 s each, as each imports TFX.
"""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from kfp_driver import Kubeflow, Run
from kfp_launcher import KfpLauncher, TfxLauncher, at_root
from kfp_spec import load_spec
from s3_server import S3Server, s3_server

from branchline.pipeline.kubeflow.main import main
from branchline.pipeline.recipes import everyday

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[4]
# TFMA adds up in 32 bits, in an order that differs between runs.
ROUNDING = 1e-6
# tf.Transform too, for the mean and variance that it scales by, in batches as large as time allows:
# its outputs differ by 1e-6 between two runs anywhere. Training makes up to 9e-4 of that in an
# error, and one or two examples more or less in an accuracy (300 to 1500 steps, seven runs).
TRAINED = 2e-3


class Place(NamedTuple):
    """A pipeline root as the command line has it, and the directory that it is on a volume."""

    arguments: list[str]
    volume: Path | None


@pytest.fixture(scope="module")
def server():
    with s3_server(f"branchline-{uuid.uuid4().hex[:12]}") as running:
        yield running


@pytest.fixture(scope="module")
def place(server, tmp_path_factory):
    """The object store; a volume for who may not write where the launcher has files of it."""
    store = ["--s3-endpoint", server.endpoint]
    if at_root():
        return Place(["--pipeline-root", f"minio://{server.bucket}/root", *store], None)
    volume = tmp_path_factory.mktemp("volume")
    mounted = ["--pipeline-root", "volume://claim/runs", "--volume", f"claim:{volume}"]
    return Place([*mounted, *store], volume / "runs")


@pytest.fixture(scope="module")
def compile_recipe(server, place, tmp_path_factory):
    """Recipe → its compiled pipeline."""
    folder = tmp_path_factory.mktemp("compiled")

    def compiled(recipe: str) -> Path:
        output, argv = folder / f"{recipe}.yaml", sys.argv
        what = ["--recipe", recipe, "--image", "example.com/branchline:1", "--output", str(output)]
        serving = ["--serving-dir", f"minio://{server.bucket}/serving/{recipe}"]
        try:
            assert main(["compile", *what, *place.arguments, *serving]) == 0
        finally:
            sys.argv = argv
        return output

    return compiled


@pytest.fixture(scope="module")
def make_kubeflow(tmp_path_factory):
    """Launcher → a Kubeflow whose images have the branchline that is tested."""
    # What MinIO's secret is called where Kubeflow Pipelines brings its own.
    secret = {"mlpipeline-minio-artifact": {"accesskey": "reader", "secretkey": "secret"}}
    tested = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}

    def make(launcher) -> Kubeflow:
        work_dir = tmp_path_factory.mktemp("kubeflow")
        return Kubeflow(launcher, work_dir, secrets=secret, variables=tested)

    return make


@pytest.fixture(scope="module")
def kubeflow(server, place, make_kubeflow, tmp_path_factory):
    """As open-source Kubeflow Pipelines does it."""
    scratch = tmp_path_factory.mktemp("host") if place.volume else None
    launcher = KfpLauncher(
        f"minio://{server.bucket}/root", server.store, scratch, custom_paths=False
    )
    yield make_kubeflow(launcher)
    launcher.close()


@pytest.fixture(scope="module")
def fetch(server, place, tmp_path_factory):
    """URI of an artifact → a directory with its files."""

    def fetched(uri: str) -> Path:
        if "://" not in uri:
            return Path(uri)
        if place.volume and "/serving/" not in uri:
            return place.volume / uri.partition("://")[2]
        directory = tmp_path_factory.mktemp("fetched")
        server.store.download(uri, str(directory))
        return directory

    return fetched


@pytest.fixture(scope="module")
def local_run(tmp_path_factory):
    """A process that runs the default recipe on this machine, meanwhile, and where it writes."""
    output = tmp_path_factory.mktemp("local")
    command = [sys.executable, str(ROOT / "run_local.py"), "--output", str(output)]
    with (output / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        yield process, output
        process.kill()


@pytest.fixture(scope="module")
def first(local_run, kubeflow, compile_recipe) -> Run:
    return kubeflow.run(compile_recipe("mixed"))


@pytest.fixture(scope="module")
def second(first, kubeflow, compile_recipe) -> Run:
    least = json.dumps({"reviews": {"auc": 0.5}})
    return kubeflow.run(compile_recipe("mixed"), {"steps": 600, "thresholds": least})


def evaluation_of(run: Run, fetch) -> dict:
    folder = fetch(run.artifact("BranchEvaluator", "evaluation")["uri"])
    return json.loads((folder / "evaluation.json").read_text())


def metrics_of(evaluation: dict) -> dict[str, dict[str, float]]:
    return {route: figures["metrics"] for route, figures in evaluation["routes"].items()}


def pushed_models(server: S3Server, recipe: str) -> list[str]:
    """URIs of the versions, the newest last."""
    keys = server.store.keys(f"minio://{server.bucket}/serving/{recipe}/")
    folders = [k.removesuffix("/saved_model.pb") for k in keys if k.endswith("/saved_model.pb")]
    return sorted(f"minio://{server.bucket}/{f}" for f in folders)


def rows_of(file: Path) -> list[bytes]:
    dataset = tf.data.TFRecordDataset(str(file), compression_type="GZIP")
    return list(dataset.as_numpy_iterator())  # pyright: ignore[reportReturnType]


def predict(model: Path, rows: list[bytes]) -> dict[str, np.ndarray]:
    served = tf.saved_model.load(str(model)).signatures["serving_default"]  # pyright: ignore[reportAttributeAccessIssue]
    return {k: v.numpy() for k, v in served(examples=tf.constant(rows)).items()}


def test_the_default_recipe_is_blessed_and_pushed(first, fetch, server):
    evaluation = evaluation_of(first, fetch)
    assert evaluation["blessed"] and evaluation["baseline"] is None
    assert (fetch(first.artifact("BranchEvaluator", "blessing")["uri"]) / "BLESSED").exists()
    assert first.executed == first.steps.keys() and len(pushed_models(server, "mixed")) == 1


def test_metrics_and_predictions_are_those_of_a_local_run(first, local_run, fetch, server):
    pushed = fetch(pushed_models(server, "mixed")[0])
    process, output = local_run
    assert process.wait(900) == 0, (output / "said").read_text()
    (local,) = output.glob("pipeline/BranchEvaluator/evaluation/*/evaluation.json")
    expected = json.loads(local.read_text())["routes"]
    found = evaluation_of(first, fetch)["routes"]
    assert found.keys() == expected.keys()
    for route, figures in expected.items():
        two = 2 / figures["examples"]
        metrics = pytest.approx(figures["metrics"], rel=TRAINED, abs=two)
        assert found[route]["metrics"] == metrics, route
        assert found[route]["examples"] == figures["examples"]

    (version,) = output.glob("serving/mixed/*")
    (local,) = output.glob("pipeline/Router/routed_examples/*")
    rows = [row for file in sorted(local.glob("Split-eval/*")) for row in rows_of(file)[:9]]
    here, there = predict(version, rows), predict(pushed, rows)
    assert here["route"].tolist() == there["route"].tolist() and len(set(here["route"])) == 4
    for name in here.keys() - {"route"}:
        np.testing.assert_allclose(there[name], here[name], rtol=0.02, atol=0.02, err_msg=name)


def test_examples_are_those_of_a_local_run_to_the_byte(first, local_run, fetch):
    process, output = local_run
    assert process.wait(900) == 0, (output / "said").read_text()
    (local,) = output.glob("pipeline/Router/routed_examples/*")
    routed = fetch(first.artifact("Router", "routed_examples")["uri"])
    files = sorted(file.relative_to(local) for file in local.glob("Split-*/*"))
    assert files == sorted(file.relative_to(routed) for file in routed.glob("Split-*/*"))
    assert len(files) == 8  # of four routes in two splits
    for file in files:
        assert rows_of(routed / file) == rows_of(local / file), file


def test_a_second_run_compares_with_the_first_ones_model(first, second, fetch):
    evaluation = evaluation_of(second, fetch)
    trained = first.artifact("BranchTrainer", "model")["uri"]
    assert evaluation["baseline"].endswith(trained.partition("://")[2])
    before = metrics_of(evaluation_of(first, fetch))
    baseline = {route: figures["baseline"] for route, figures in evaluation["routes"].items()}
    assert baseline.keys() == before.keys()
    for route, metrics in before.items():
        assert baseline[route] == pytest.approx(metrics, rel=ROUNDING), route
    assert metrics_of(evaluation) != before  # of fewer steps
    checks = evaluation["routes"]["reviews"]["checks"]
    assert {c["least"] for c in checks if c["kind"] == "threshold"} == {0.5}  # as the run said


def test_a_second_run_executes_what_its_parameter_changes_and_no_more(second):
    always = {"DataFingerprint", "Baseline"}
    assert second.executed == always | {"BranchTrainer", "BranchEvaluator", "Pusher", "RunReport"}


def test_as_tfx_gives_inputs_pictures_dates_and_class_names_reach_a_pushed_model(
    compile_recipe, make_kubeflow, fetch, server, tmp_path
):
    run = make_kubeflow(TfxLauncher(tmp_path / "root")).run(compile_recipe("everyday"))
    assert evaluation_of(run, fetch)["blessed"]
    (pushed,) = pushed_models(server, "everyday")
    routed = fetch(run.artifact("Router", "routed_examples")["uri"])
    assert sum(len(rows_of(file)) for file in routed.glob("Split-*/*")) == 3602
    named = {"penguins": everyday.SPECIES, "weather": everyday.WEATHER, "digits": everyday.DIGITS}
    for route, names in named.items():
        rows = rows_of(next((routed / "Split-eval").glob(f"{route}-*")))
        found = predict(fetch(pushed), rows)
        order = found[route].argmax(axis=1)
        assert [name.decode() for name in found[f"{route}/class"]] == [names[i] for i in order]


def test_other_records_under_the_same_name_are_read_anew(kubeflow, compile_recipe, server):
    spec, key = compile_recipe("typed"), "records/a.jsonl"

    def put(*values) -> None:
        records = [{"record": i, "value": value, "label": 0.0} for i, value in enumerate(values)]
        lines = "\n".join(map(json.dumps, records))
        server.store.client.put_object(Bucket=server.bucket, Key=key, Body=lines.encode())

    def ingest() -> set[str]:
        data = {"data": f"minio://{server.bucket}/records"}
        return kubeflow.run(spec, data, until={"MixedExampleGen"}).executed

    put("a", 1, 2.5, "b", 2)
    assert ingest() == {"DataFingerprint", "MixedExampleGen"}
    assert ingest() == {"DataFingerprint"}
    put("a", 1, 2.5, "b", 3)
    assert ingest() == {"DataFingerprint", "MixedExampleGen"}


def test_an_image_without_branchline_is_told_so(compile_recipe, tmp_path):
    spec, _ = load_spec(compile_recipe("typed"))
    container = next(iter(spec["deploymentSpec"]["executors"].values()))["container"]
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')  # no site-packages
    python.chmod(0o755)
    done = subprocess.run(
        [*container["command"], *container["args"]],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "this image has no Python that can import branchline" in done.stderr
