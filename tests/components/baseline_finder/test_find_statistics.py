"""The statistics of the last blessed run, as BaselineFinder finds them on Kubeflow."""

import pytest
from builders_baseline import PIPELINE, OnVolume, artifacts_of
from builders_baseline import artifacts as artifacts
from builders_baseline import folder as folder

from branchline.components import BaselineFinder
from branchline.components.baseline_finder import find_statistics as find_statistics_module
from branchline.components.baseline_finder.component import Executor
from branchline.components.baseline_finder.find_baseline import own_place
from branchline.components.baseline_finder.find_statistics import copy_statistics


def find_statistics(artifacts, folder, current, run="run-9"):
    """What the executor does for a run: what was found, and the files of the copy."""
    uri = artifacts.seen(f"{PIPELINE}/{run}/Baseline/3c-3/previous_statistics")
    found = copy_statistics(own_place(uri, "mixed"), current, str(folder))
    files = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    assert files.pop("statistics_of_this_run") == current.encode()
    return found, files


def blessed_run(artifacts, run, statistics=None, verdict="BLESSED"):
    artifacts.say(run, statistics or artifacts.summarize(run, run.encode()))
    artifacts.judge(run, artifacts.train(run), verdict)
    return statistics or artifacts.seen(f"{PIPELINE}/{run}/RouteStatistics/4d-4/statistics")


def test_the_statistics_of_the_run_that_blessed_last_are_copied(artifacts, folder):
    _, last = blessed_run(artifacts, "run-1"), blessed_run(artifacts, "run-2")
    blessed_run(artifacts, "run-3", verdict="NOT_BLESSED")
    found, files = find_statistics(artifacts, folder, "/here/now")
    assert found == (last, ["eval", "train"])
    assert files == {f"Split-{split}/FeatureStats.pb": b"run-2" for split in ("train", "eval")}


def test_statistics_that_came_from_the_cache_are_those_of_the_run_that_used_them(artifacts, folder):
    first = blessed_run(artifacts, "run-1")
    blessed_run(artifacts, "run-2")
    blessed_run(artifacts, "run-3", first)  # which made no statistics of its own
    assert find_statistics(artifacts, folder, "/here/now")[0].uri == first


def test_statistics_are_not_compared_with_themselves_but_with_those_before(artifacts, folder):
    first, second = blessed_run(artifacts, "run-1"), blessed_run(artifacts, "run-2")
    assert find_statistics(artifacts, folder, second)[0].uri == first


@pytest.mark.parametrize("lost", ["what it used", "all statistics", "where they were"])
def test_a_run_whose_statistics_are_not_known_or_gone_gives_way_to_the_one_before(
    artifacts, folder, lost
):
    first = blessed_run(artifacts, "run-1")
    if lost == "what it used":
        artifacts.judge("run-2", artifacts.train("run-2"))
    elif lost == "all statistics":
        artifacts.remove(blessed_run(artifacts, "run-2"))
    else:
        blessed_run(artifacts, "run-2", artifacts.seen("nowhere"))
    assert find_statistics(artifacts, folder, "/here/now")[0].uri == first


def test_statistics_that_go_while_they_are_copied_give_way_to_those_before(
    artifacts, folder, monkeypatch
):
    first, second = blessed_run(artifacts, "run-1"), blessed_run(artifacts, "run-2")
    list_files, lost = find_statistics_module.list_files, []

    def list_and_lose(root):
        found = list_files(root)
        if "run-2/RouteStatistics" in root and found and not lost:
            artifacts.remove(second)
            lost.append(second)
        return found

    monkeypatch.setattr(find_statistics_module, "list_files", list_and_lose)
    assert find_statistics(artifacts, folder, "/here/now")[0].uri == first


def test_without_a_blessed_run_there_are_no_statistics_to_compare_with(artifacts, folder):
    assert find_statistics(artifacts, folder, "/here/now") == (None, {})
    blessed_run(artifacts, "run-1", verdict="NOT_BLESSED")
    blessed_run(artifacts, "run-9")  # the own one, whose step is done again
    assert find_statistics(artifacts, folder, "/here/now") == (None, {})


def test_the_executor_gives_statistics_that_say_their_splits_or_that_there_are_none(
    tmp_path, monkeypatch
):
    volume = OnVolume(tmp_path, monkeypatch)
    properties = BaselineFinder("mixed").exec_properties
    current = volume.summarize("run-9")
    for given in (None, current):
        inputs, outputs = artifacts_of(volume, statistics=given)
        Executor().Do(inputs, outputs, properties)
        (previous,) = outputs["previous_statistics"]
        assert previous.get_int_custom_property("absent") == 1
    earlier = blessed_run(volume, "run-1")
    inputs, outputs = artifacts_of(volume, "run-9", current)
    Executor().Do(inputs, outputs, properties)
    (previous,) = outputs["previous_statistics"]
    assert previous.split_names == '["eval", "train"]'
    assert previous.get_string_custom_property("copied_from") == earlier
    assert not previous.has_custom_property("absent")


def test_a_run_is_found_by_what_its_own_step_wrote_down(tmp_path, monkeypatch):
    volume = OnVolume(tmp_path, monkeypatch)
    properties = BaselineFinder("mixed").exec_properties
    first = volume.summarize("run-1")
    Executor().Do(*artifacts_of(volume, "run-1", first), properties)
    volume.judge("run-1", volume.train("run-1"))
    inputs, outputs = artifacts_of(volume, "run-2", volume.summarize("run-2"))
    Executor().Do(inputs, outputs, properties)
    (previous,) = outputs["previous_statistics"]
    assert previous.get_string_custom_property("copied_from") == first
