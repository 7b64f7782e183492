import numpy as np
import pytest

from branchline.schemas.draws import pick, uniform_draws
from branchline.schemas.schedules import (
    Alternate,
    Custom,
    Proportional,
    Sequential,
    Situation,
    Weighted,
    as_schedule,
)

PATHS = ("text", "meter", "scan")


def situation(active=PATHS, seed=0, sizes=None, **steps_done):
    return Situation(PATHS, tuple(active), steps_done, sizes or {}, seed)


def test_a_pattern_is_repeated_from_any_step():
    assert Alternate("aab").routes(situation(), 5) == ["text", "text", "meter", "text", "text"]
    assert Alternate("aab").routes(situation(text=4), 3) == ["text", "meter", "text"]


def test_a_pattern_may_name_paths():
    assert Alternate(["scan", "text"]).routes(situation(), 3) == ["scan", "text", "scan"]


def test_without_a_pattern_all_paths_take_turns():
    assert Alternate().routes(situation(), 4) == ["text", "meter", "scan", "text"]


def test_a_stopped_path_leaves_the_pattern():
    assert Alternate("abc").routes(situation(active=["text", "scan"]), 3) == [
        "text",
        "scan",
        "text",
    ]


def test_turns_last_their_number_of_steps_and_then_end():
    turns = Sequential([("meter", 2), ("text", 1), ("meter", 1)])
    assert turns.routes(situation(), 9) == ["meter", "meter", "text", "meter"]
    assert turns.routes(situation(meter=2, text=1), 9) == ["meter"]
    assert turns.routes(situation(meter=3, text=1), 9) == []


def test_the_turn_of_a_stopped_path_is_over_and_others_keep_theirs():
    turns = Sequential([("meter", 5), ("text", 2)])
    assert turns.routes(situation(active=["text"], meter=3), 9) == ["text", "text"]


@pytest.mark.parametrize(
    "schedule",
    [Weighted({"text": 1, "meter": 2, "scan": 3}), Proportional(), Alternate("aabc")],
    ids=lambda s: type(s).__name__,
)
def test_routes_do_not_depend_on_how_they_are_asked_for(schedule):
    sizes = {"text": 5, "meter": 50, "scan": 500}
    at_once = schedule.routes(situation(sizes=sizes), 40)
    piecewise = [schedule.routes(situation(sizes=sizes, text=step), 1)[0] for step in range(40)]
    assert at_once == piecewise


def test_weighted_draws_follow_the_weights_and_skip_zero():
    routes = Weighted({"text": 3, "meter": 0, "scan": 1}).routes(situation(), 4000)
    assert routes.count("meter") == 0
    assert abs(routes.count("text") / 4000 - 0.75) < 0.03


def test_weights_of_stopped_paths_are_shared_among_the_others():
    routes = Weighted({"text": 2, "meter": 1, "scan": 1}).routes(situation(active=PATHS[1:]), 4000)
    assert routes.count("text") == 0
    assert abs(routes.count("meter") / 4000 - 0.5) < 0.03


def test_nothing_is_left_when_only_unweighted_paths_are():
    assert Weighted({"text": 1}).routes(situation(active=["scan"]), 3) == []


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.9), (2.0, 0.75), (np.inf, 0.5)])
def test_temperature_evens_out_the_sizes(temperature, share):
    at = situation(active=["text", "scan"], sizes={"text": 900, "meter": 1, "scan": 100})
    routes = Proportional(temperature).routes(at, 4000)
    assert abs(routes.count("text") / 4000 - share) < 0.03


def test_seeds_give_different_routes():
    weights = Weighted(dict.fromkeys(PATHS, 1.0))
    assert weights.routes(situation(seed=1), 20) != weights.routes(situation(seed=2), 20)


def test_every_draw_falls_on_a_path_however_the_sum_is_rounded():
    largest = np.array([np.nextafter(1.0, 0.0)])
    for n in range(1, 200):
        assert pick([1 / n] * n + [0.0], largest)[0] == n - 1


def test_draws_are_uniform():
    draws = uniform_draws(0, 0, 10_000)
    assert draws.min() >= 0 and draws.max() < 1
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    assert np.abs(counts - 1000).max() < 120


def test_a_function_is_a_schedule_and_a_stopped_path_passes_its_steps_on():
    schedule = as_schedule(lambda step: PATHS[step % 2])
    assert isinstance(schedule, Custom)
    assert schedule.routes(situation(), 3) == ["text", "meter", "text"]
    assert schedule.routes(situation(active=["scan", "text"]), 2) == ["text", "scan"]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Alternate("abx"), "names paths .'x'."),
        (Alternate("ab", on_end="wait"), "on_end='wait'"),
        (Weighted({"text": -1.0}), "weights ≥ 0"),
        (Weighted({"text": 0.0}), "at least one of them positive"),
        (Weighted({"video": 1.0}), "names paths .'video'."),
        (Proportional(0.0), "temperature > 0"),
        (Proportional(), "needs the sizes of all streams"),
        (Sequential([("text", 0)]), "at least one step"),
        (Sequential([("video", 3)]), "names paths .'video'."),
        (Custom(lambda _: "video"), "names paths .'video'."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_schedule_that_cannot_work_is_refused_with_the_reason(schedule, message):
    with pytest.raises(ValueError, match=message):
        schedule.check(situation())


def test_what_is_no_schedule_is_refused():
    with pytest.raises(TypeError, match="function step → path"):
        as_schedule("aab")
