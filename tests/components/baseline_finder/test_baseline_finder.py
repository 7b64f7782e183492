"""BaselineFinder on artifacts as Kubeflow lays them out, on a volume and in an object store."""

import logging
import os

import pytest
from builders_baseline import MODEL, PIPELINE, InStore, OnVolume, artifacts_of
from builders_baseline import artifacts as artifacts
from builders_baseline import folder as folder
from object_store import BUCKET, object_store, reach

from branchline.components import BaselineFinder
from branchline.components.baseline_finder import find_baseline
from branchline.components.baseline_finder.component import Executor
from branchline.components.baseline_finder.find_baseline import copy_newest, own_place
from branchline.schemas import BranchlineError


def find(artifacts, folder, run="run-9"):
    """What the executor does for a run; gives the baseline's URI and the files of the copy."""
    uri = artifacts.seen(f"{PIPELINE}/{run}/Baseline/3c-3/model")
    found = copy_newest(own_place(uri, "mixed"), str(folder))
    files = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    assert [each.name for each in folder.parent.iterdir()] == ([folder.name] if files else [])
    return found, files


def test_the_model_of_the_newest_blessing_is_copied_whole(artifacts, folder):
    models = {run: artifacts.train(run, run.encode()) for run in ("run-1", "run-2", "run-3")}
    artifacts.judge("run-1", models["run-1"])
    artifacts.judge("run-3", models["run-3"], "NOT_BLESSED")
    artifacts.judge("run-2", models["run-2"])
    artifacts.put("run-3/Other/1-1/blessing/INFRA_BLESSED", models["run-3"].encode())
    found, files = find(artifacts, folder)
    assert found == models["run-2"]
    assert files == {path: part + b"run-2" for path, part in MODEL.items()}


def test_the_newest_blessing_counts_and_not_the_newest_model(artifacts, folder):
    first = artifacts.train("run-1", b"first")
    second = artifacts.train("run-2", b"second")
    artifacts.judge("run-2", second)
    artifacts.judge("run-3", first)  # a later run, whose training came out of the cache
    assert find(artifacts, folder)[0] == first


def test_a_runs_own_blessing_is_passed_over(artifacts, folder):
    first, own = artifacts.train("run-1"), artifacts.train("run-9")
    artifacts.judge("run-1", first)
    artifacts.judge("run-9", own)  # a step that is done again after the run was over
    assert find(artifacts, folder, "run-9")[0] == first
    assert find(artifacts, folder, "run-8")[0] == own


def test_a_run_whose_name_begins_like_the_own_one_is_not_the_own_one(artifacts, folder):
    model = artifacts.train("run-90")
    artifacts.judge("run-90", model)
    assert find(artifacts, folder, "run-9")[0] == model


@pytest.mark.parametrize("left", ["nothing", "a part"])
def test_a_model_that_is_gone_gives_way_to_the_one_before(artifacts, folder, left):
    first, second = artifacts.train("run-1", b"first"), artifacts.train("run-2")
    artifacts.judge("run-1", first)
    artifacts.judge("run-2", second)
    artifacts.remove(second if left == "nothing" else f"{second}/Format-Serving/saved_model.pb")
    found, files = find(artifacts, folder)
    assert found == first and files["Format-Serving/saved_model.pb"] == b"graphfirst"


def test_a_model_that_goes_while_it_is_copied_gives_way_to_the_one_before(
    artifacts, folder, monkeypatch
):
    first, second = artifacts.train("run-1"), artifacts.train("run-2")
    artifacts.judge("run-1", first)
    artifacts.judge("run-2", second)
    list_files = find_baseline.list_files

    def list_and_lose(root):
        found = list_files(root)
        if "run-2" in root:
            artifacts.remove(second)
        return found

    monkeypatch.setattr(find_baseline, "list_files", list_and_lose)
    found, files = find(artifacts, folder)
    assert found == first and len(files) == len(MODEL)


def test_a_blessing_that_names_no_model_is_passed_over(artifacts, folder):
    model = artifacts.train("run-1")
    artifacts.judge("run-1", model)
    artifacts.judge("run-2", "")  # of TFX's own Evaluator
    artifacts.judge("run-3", artifacts.seen("nowhere"))
    assert find(artifacts, folder)[0] == model


def test_without_a_blessing_there_is_no_baseline(artifacts, folder):
    assert find(artifacts, folder) == (None, {})
    artifacts.judge("run-1", artifacts.train("run-1"), "NOT_BLESSED")
    assert find(artifacts, folder) == (None, {})


def test_other_pipelines_models_are_not_looked_at(artifacts, folder):
    model = artifacts.train("run-1").replace("v2/mixed", "v2/mixed-2")
    artifacts.write("v2/mixed-2/run-1/E/1/blessing/BLESSED", model.encode(), 2_000_000)
    artifacts.write("v2/mixed-2/run-1/T/1/model/Format-Serving/saved_model.pb", b"", 2_000_000)
    assert find(artifacts, folder) == (None, {})


def test_what_an_attempt_before_left_is_replaced(artifacts, folder):
    artifacts.judge("run-1", artifacts.train("run-1"))
    (folder / "Format-Serving").mkdir(parents=True)
    (folder / "Format-Serving" / "left.pb").touch()
    assert sorted(find(artifacts, folder)[1]) == sorted(MODEL)


@pytest.fixture
def execute(tmp_path, monkeypatch, caplog):
    """Runs the executor on a volume; gives the output artifact and what the progress log says."""
    volume = OnVolume(tmp_path, monkeypatch)

    def execute_for(run="run-9"):
        inputs, outputs = artifacts_of(volume, run)
        (output,) = outputs["model"]
        (tmp_path / output.uri).parent.mkdir(parents=True, exist_ok=True)
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="branchline.progress"):
            Executor().Do(inputs, outputs, BaselineFinder("mixed").exec_properties)
        told = [each.message for each in caplog.records if each.name == "branchline.progress"]
        return output, told

    return volume, execute_for


def test_the_executor_says_which_baseline_it_took(execute):
    volume, run = execute
    model = volume.train("run-1")
    volume.judge("run-1", model)
    output, told = run()
    assert told == [f"the baseline is the model blessed last, {model}"]
    assert output.get_string_custom_property("copied_from") == model
    assert not output.has_custom_property("absent")
    assert os.path.isfile(f"{output.uri}/Format-Serving/saved_model.pb")


def test_the_executor_says_that_there_is_none(execute):
    output, told = execute[1]()
    assert told == ["no earlier run has blessed a model; there is nothing to compare with"]
    assert output.get_int_custom_property("absent") == 1
    assert not os.path.exists(output.uri)


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_under_a_remote_root_the_executor_works_on_uris(scheme, monkeypatch):
    with object_store(monkeypatch) as client:
        store = InStore(client, scheme)
        store.seen = lambda path: f"{scheme}://{BUCKET}/{path}"
        model = store.train("run-1")
        store.judge("run-1", model)
        inputs, outputs = artifacts_of(store)
        (output,) = outputs["model"]
        store.put("run-9/Baseline/3c-3/model/left.pb", b"of an attempt before")
        Executor().Do(inputs, outputs, BaselineFinder("mixed").exec_properties)
        assert output.get_string_custom_property("copied_from") == model
        own = f"{PIPELINE}/run-9/Baseline/3c-3/model/"
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=own)["Contents"]
        copied = {
            each["Key"].removeprefix(own): client.get_object(Bucket=BUCKET, Key=each["Key"])
            for each in listed
        }
        contents = {name: found["Body"].read() for name, found in copied.items()}
        assert contents == {path: part + b"graph" for path, part in MODEL.items()}


@pytest.mark.parametrize(
    ("uri", "name", "root", "run"),
    [
        ("/minio/b/v2/mixed/r/Baseline/1-2/model", "mixed", "s3://b/v2/mixed", "r"),
        ("/s3/mixed/mixed/r/baseline/model", "mixed", "s3://mixed/mixed", "r"),
        ("/gcs/b/mixed/r/Baseline/1-2/model/", "mixed", "gs://b/mixed", "r"),
        ("/s3/b/Baseline/r/Baseline/1-2/model", "Baseline", "s3://b/Baseline", "r"),
        ("/s3/b/model/r/Baseline/1-2/model", "model", "s3://b/model", "r"),
        ("minio://b/mixed/r/Baseline/1-2/model", "mixed", "s3://b/mixed", "r"),
        ("/claim/b/mixed/r/Baseline/1-2/model", "mixed", "/claim/b/mixed", "r"),
    ],
    ids=["minio", "name-twice", "gcs", "named-as-the-step", "named-as-the-output", "uri", "volume"],
)
def test_the_runs_are_looked_for_beside_the_own_one(uri, name, root, run):
    assert own_place(uri, name) == (root, f"{root}/{run}")


def test_an_output_elsewhere_than_kubeflow_puts_it_is_told():
    with pytest.raises(BranchlineError, match="does not lie in a directory 'mixed'"):
        own_place("/minio/b/v2/mixed-2/r/Baseline/1-2/model", "mixed")


def test_a_store_that_cannot_be_reached_is_told_within_seconds(monkeypatch, folder):
    reach(monkeypatch, "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(BranchlineError) as error:
        copy_newest(own_place("/minio/b/mixed/r/Baseline/1-2/model", "mixed"), str(folder))
    message = str(error.value)
    assert message.startswith("s3://b/mixed: cannot be listed or read: Could not connect")
    assert "--secret" in message and "--s3-endpoint" in message and "\n" not in message


def test_a_store_without_credentials_is_told_within_seconds(monkeypatch, folder, tmp_path):
    reach(monkeypatch, "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(BranchlineError, match="s3://b/mixed: .*credentials.*--secret"):
        copy_newest(own_place("/s3/b/mixed/r/Baseline/1-2/model", "mixed"), str(folder))


def test_a_bucket_that_is_not_there_is_told(monkeypatch, folder):
    with object_store(monkeypatch):
        with pytest.raises(BranchlineError, match="s3://other/mixed: .*NoSuchBucket"):
            copy_newest(own_place("/s3/other/mixed/r/Baseline/1-2/model", "mixed"), str(folder))
