"""Artifacts of a pipeline's runs as Kubeflow lays them out, on a volume and in a store."""

import os

import pytest
from object_store import BUCKET, object_store, set_time
from tfx.types import standard_artifacts

from branchline.components.files.artifact_paths import VOLUME_VARIABLE

MODEL = {
    "Format-Serving/saved_model.pb": b"graph",
    "Format-Serving/variables/variables.data-00000-of-00001": bytes(range(256)) * 9000,
    "Format-Serving/assets/a [1].txt": b"",
}
PIPELINE = "v2/mixed"


class Artifacts:
    """Those of a pipeline's runs, under v2/mixed/<run>/<task>/<uuid>/<output>."""

    def __init__(self):
        self.clock = 1_000_000

    def write(self, path, content, seconds):
        """Writes a file as of that time."""
        raise NotImplementedError

    def seen(self, path):
        """The path where a step sees it."""
        raise NotImplementedError

    def put(self, path, content=b""):
        self.clock += 60
        self.write(f"{PIPELINE}/{path}", content, self.clock)

    def train(self, run, content=b"graph"):
        """Leaves a model of `run`; its URI as the next steps see it."""
        model = f"{run}/BranchTrainer/1a-1/model"
        for path, part in MODEL.items():
            self.put(f"{model}/{path}", part + content)
        return self.seen(f"{PIPELINE}/{model}")

    def summarize(self, run, content=b"stats"):
        """Leaves statistics of `run`; their URI as the next steps see it."""
        statistics = f"{run}/RouteStatistics/4d-4/statistics"
        for split in ("train", "eval"):
            self.put(f"{statistics}/Split-{split}/FeatureStats.pb", content)
        return self.seen(f"{PIPELINE}/{statistics}")

    def say(self, run, statistics):
        """Leaves what BaselineFinder wrote down in `run`."""
        path = f"{run}/Baseline/3c-3/previous_statistics/statistics_of_this_run"
        self.put(path, statistics.encode())

    def judge(self, run, model, verdict="BLESSED"):
        self.put(f"{run}/BranchEvaluator/2b-2/blessing/{verdict}", model.encode())


class OnVolume(Artifacts):
    def __init__(self, root, monkeypatch):
        super().__init__()
        self.root = root / "volume"
        monkeypatch.setenv(VOLUME_VARIABLE, str(self.root))

    def write(self, path, content, seconds):
        file = self.root / "bucket" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (seconds, seconds))

    def seen(self, path):
        return f"{self.root}/bucket/{path}"

    def remove(self, uri):
        for file in list((self.root / "bucket").rglob("*")):
            if file.is_file() and str(file).startswith(uri):
                file.unlink()


class InStore(Artifacts):
    """A step sees objects where Kubeflow's launcher copies them to; some stand for directories."""

    def __init__(self, client, scheme):
        super().__init__()
        self.client, self.scheme = client, scheme

    def write(self, path, content, seconds):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            self._put("/".join(parts[:depth]) + "/", b"", seconds)
        self._put(path, content, seconds)

    def _put(self, key, content, seconds):
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)
        set_time(key, seconds)

    def seen(self, path):
        return f"/{self.scheme}/{BUCKET}/{path}"

    def remove(self, uri):
        prefix = uri.removeprefix(f"/{self.scheme}/{BUCKET}/")
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        for each in listed["Contents"]:
            self.client.delete_object(Bucket=BUCKET, Key=each["Key"])


@pytest.fixture(params=["volume", "minio", "s3"])
def artifacts(request, tmp_path, monkeypatch):
    if request.param == "volume":
        yield OnVolume(tmp_path, monkeypatch)
    else:
        with object_store(monkeypatch) as client:
            yield InStore(client, request.param)


@pytest.fixture
def folder(tmp_path):
    """Where the copy goes; its parent is there, as the launcher makes it."""
    (tmp_path / "output").mkdir()
    return tmp_path / "output" / "model"


def artifacts_of(place, run="run-9", statistics=None):
    """The executor's inputs and outputs."""
    model, previous, inputs = standard_artifacts.Model(), standard_artifacts.ExampleStatistics(), {}
    model.uri = place.seen(f"{PIPELINE}/{run}/Baseline/3c-3/model")
    previous.uri = place.seen(f"{PIPELINE}/{run}/Baseline/3c-3/previous_statistics")
    if statistics:
        inputs["statistics"] = [standard_artifacts.ExampleStatistics()]
        inputs["statistics"][0].uri = statistics
    return inputs, {"model": [model], "previous_statistics": [previous]}
