"""A compiled pipeline compares with the statistics of the last blessed run, step by step."""

import json
import os
import uuid

import pytest
from kfp_driver import Kubeflow
from kfp_launcher import KfpLauncher, TfxLauncher, at_root
from s3_server import s3_server

from branchline.pipeline.kubeflow.main import main

pytestmark = pytest.mark.e2e
RECIPE = """
from branchline.schemas import Categorical, Numeric, Recipe, Route, RoutingTable, Training
from branchline.schemas import Validation, when

recipe = Recipe(
    name="gates",
    routing=RoutingTable(
        *(
            Route(name, when.equals("kind", name), label="y", task="regression",
                  features={"x": Numeric(), "colour": Categorical()})
            for name in ("up", "down")
        ),
    ),
    training=Training(steps=20, batch_size=16, learning_rate=0.01),
    thresholds={"up": {"mean_absolute_error": 99.0}},
    split_key="id",
    validation=Validation(drift=0.25),
)
"""
NEVER_BLESSED = json.dumps({"up": {"mean_absolute_error": 0.0}})


def records(rows, of_down=("red", "blue", "red", "blue")):
    """Rows of two routes; those of one have colours in these shares."""
    colours = {"up": ("red", "blue", "red", "blue"), "down": of_down}
    return [
        {"id": n, "kind": kind, "x": n % 10, "y": n % 10, "colour": of_kind[n // 10 % 4]}
        for n in range(rows)
        for kind, of_kind in colours.items()
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Records, parameters, and the steps that are wanted → a finished run of one pipeline."""
    folder = tmp_path_factory.mktemp("gates")
    recipe, compiled = folder / "gates.py", folder / "gates.yaml"
    recipe.write_text(RECIPE)
    with s3_server(f"branchline-{uuid.uuid4().hex[:12]}") as server:
        root = f"minio://{server.bucket}/root"
        options = ["--recipe", str(recipe), "--recipe-in-image", str(recipe)]
        options += ["--image", "example.com/branchline:1", "--output", str(compiled)]
        options += ["--pipeline-root", root, "--s3-endpoint", server.endpoint]
        assert main(["compile", *options, "--data", f"minio://{server.bucket}/records"]) == 0
        if at_root():
            launcher = KfpLauncher(root, server.store, custom_paths=False)
        else:
            launcher = TfxLauncher(folder / "root")
        secrets = {"mlpipeline-minio-artifact": {"accesskey": "reader", "secretkey": "secret"}}
        tested = {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
        kubeflow = Kubeflow(launcher, folder / "work", secrets=secrets, variables=tested)

        def run_with(rows, until, **parameters):
            lines = "\n".join(map(json.dumps, rows)).encode()
            key = "records/a.jsonl"
            server.store.client.put_object(Bucket=server.bucket, Key=key, Body=lines)
            done = kubeflow.run(compiled, parameters, until={until, "RouteValidator"})
            return done, anomalies_of(done, server, folder)

        yield run_with
        launcher.close()


def anomalies_of(done, server, folder):
    """Split → route → what its validator found in "colour"."""
    uri, place = done.artifact("RouteValidator", "anomalies")["uri"], folder / uuid.uuid4().hex
    if uri.startswith("minio://"):
        server.store.download(uri, str(place))
    else:
        place.symlink_to(uri)
    splits = json.loads((place / "anomalies.json").read_text())["splits"]
    return {
        (split, route): said["anomalies"]["colour"]
        for split, routes in splits.items()
        for route, said in routes.items()
        if "colour" in said["anomalies"]
    }


@pytest.fixture(scope="module")
def first(run):
    return run(records(400), "BranchEvaluator")


@pytest.fixture(scope="module")
def second(first, run):
    drifted = records(400, of_down=("red",) * 4)
    return run(drifted, "BranchEvaluator", thresholds=NEVER_BLESSED)


@pytest.fixture(scope="module")
def third(second, run):
    return run(records(401, of_down=("red",) * 4), "RouteValidator")


def test_the_first_run_has_nothing_to_compare_with(first):
    assert first[1] == {}
    assert first[0].artifact("Baseline", "previous_statistics")["metadata"]["absent"] == 1


def test_the_second_run_tells_drift_from_the_first_which_was_blessed(first, second):
    assert second[1].keys() == {("train", "down"), ("eval", "down")}
    told = second[1]["train", "down"]
    assert "this train split and the last blessed run's" in told
    assert came_from(second) == statistics_of(first)


def test_after_a_run_that_was_not_blessed_the_last_blessed_one_is_compared_with(
    first, second, third
):
    assert third[1].keys() == {("train", "down"), ("eval", "down")}
    assert came_from(third) == statistics_of(first) != statistics_of(second)


def came_from(run):
    metadata = run[0].artifact("Baseline", "previous_statistics")["metadata"]
    return metadata["copied_from"].partition("root/")[2]


def statistics_of(run):
    return run[0].artifact("RouteStatistics", "statistics")["uri"].partition("root/")[2]
