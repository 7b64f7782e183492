import math
import subprocess
import sys

import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.schemas import (
    Bound,
    Categorical,
    EarlyStopping,
    Embedding,
    Hashed,
    Ids,
    Image,
    Numeric,
    PathTraining,
    Proportional,
    Recipe,
    RecipeError,
    Route,
    RoutingTable,
    Sequence,
    Tags,
    Target,
    Text,
    Training,
    Validation,
    from_json,
    to_json,
    when,
)

NAN, INFINITY = float("nan"), float("inf")


def route(name="r", condition=None, **fields):
    fields = {"features": {"x": Numeric()}, "label": "y", "task": "binary"} | fields
    return Route(name, condition or when.present("x"), **fields)


def several(targets):
    return Route("r", when.present("x"), features={"x": Numeric()}, targets=targets)


def recipe(**fields):
    return Recipe(**({"name": "support", "routing": RoutingTable(route())} | fields))


WRONG = {
    # what is made: (field, value, what the message says is expected)
    "key-empty": (lambda: when.present(""), "when.present", "''", "non-empty str"),
    "key-no-text": (lambda: when.equals(3, 1), "when.isin", "3", "key of a field"),
    "key-reserved": (lambda: when.present("_route"), "when.present", "'_route'", "other than"),
    "dtype": (lambda: when.dtype("k", "double"), "when.dtype('k')", "'double'", "float, int, str"),
    "equals-none": (lambda: when.equals("k", None), "when.equals('k')", "None", "a str, int"),
    "equals-nan": (lambda: when.equals("k", NAN), "when.isin('k')", "nan", "finite"),
    "isin-infinity": (lambda: when.isin("k", [INFINITY]), "when.isin('k')", "inf", "finite"),
    "isin-text": (lambda: when.isin("k", "abc"), "when.isin('k')", "'abc'", "a list of values"),
    "isin-empty": (lambda: when.isin("k", []), "when.isin('k')", "()", "at least one value"),
    "isin-int": (lambda: when.isin("k", [2**63]), "when.isin('k')", str(2**63), "64 bits"),
    "isin-list": (lambda: when.isin("k", [[1]]), "when.isin('k')", "[1]", "a str, int, float"),
    "greater": (lambda: when.greater("k", "3"), "when.greater('k')", "'3'", "a finite number"),
    "greater-bool": (lambda: when.greater("k", True), "when.greater('k')", "True", "finite"),
    "greater-int": (lambda: when.greater("k", 2**63), "when.greater('k')", str(2**63), "64 bits"),
    "less": (lambda: when.less("k", NAN), "when.less('k')", "nan", "a finite number"),
    "all-empty": (lambda: when.all(), "when.all", "()", "at least one condition"),
    "any-no-condition": (lambda: when.any("x"), "when.any", "'x'", "conditions"),
    "not": (lambda: when.not_("x"), "when.not_", "'x'", "a condition"),
    "numeric": (lambda: Numeric((0,)), "Numeric.shape", "0", "at least 1"),
    "numeric-text": (lambda: Numeric("3"), "Numeric.shape", "'3'", "a tuple of ints"),
    "categorical": (lambda: Categorical(0), "Categorical.max_values", "0", "at least 1"),
    "text": (lambda: Text(length=1.5), "Text.length", "1.5", "an int"),
    "text-tokens": (lambda: Text(tokens="bytes"), "Text.tokens", "'bytes'", "words, characters"),
    "tags": (lambda: Tags(length=0), "Tags.length", "0", "at least 1"),
    "tags-separator": (lambda: Tags(separator=""), "Tags.separator", "''", 'a text such as ";"'),
    "sequence": (lambda: Sequence(Text()), "Sequence.kind", "Text(", "a kind of one value"),
    "sequence-pair": (lambda: Sequence(Ids(3, 2)), "Sequence.kind", "Ids(", "a kind of one value"),
    "sequence-shape": (
        lambda: Sequence(Numeric((2,))),
        "Sequence.kind",
        "Numeric(",
        "of one value",
    ),
    "sequence-class": (lambda: Sequence(Numeric), "Sequence.kind", "<class", "a kind of one value"),
    "sequence-length": (lambda: Sequence(Ids(3), 0), "Sequence.max_length", "0", "at least 1"),
    "hashed": (lambda: Hashed(0), "Hashed.buckets", "0", "at least 1"),
    "embedding": (lambda: Embedding(1.0), "Embedding.dim", "1.0", "an int"),
    "image": (lambda: Image(8, True), "Image.width", "True", "an int"),
    "ids": (lambda: Ids(-1), "Ids.num_ids", "-1", "at least 1"),
    "route-name": (lambda: route("a b"), "Route.name", "'a b'", "letters, digits"),
    "route-name-taken": (lambda: route("route"), "Route.name", "'route'", "other than"),
    "route-condition": (lambda: route(condition="x"), "Route('r').condition", "'x'", "`when`"),
    "route-no-features": (lambda: route(features={}), "Route('r').features", "{}", "at least one"),
    "route-feature": (
        lambda: route(features={"x": float}),
        "Route('r').features['x']",
        "<class 'float'>",
        "a kind such as",
    ),
    "route-feature-key": (
        lambda: route(features={"branchline.offset": Numeric()}),
        "Route('r').features",
        "'branchline.offset'",
        "reserved",
    ),
    "route-label": (lambda: route(label=None), "Route('r').label", "None", "key of a field"),
    "route-label-feature": (lambda: route(label="x"), "Route('r').label", "'x'", "not one of"),
    "route-task": (lambda: route(task="rank"), "Route('r').task", "'rank'", "binary, multiclass"),
    "route-classes": (
        lambda: route(task="multiclass"),
        "Route('r').num_classes",
        "None",
        "at least 2",
    ),
    "route-classes-binary": (
        lambda: route(num_classes=2),
        "Route('r').num_classes",
        "2",
        'unless task="multiclass"',
    ),
    "route-label-and-targets": (
        lambda: route(targets={"z": Target("binary")}),
        "Route('r').label",
        "'y'",
        "either label=, task= or targets=",
    ),
    "route-targets": (
        lambda: several([Target("binary")]),
        "Route('r').targets",
        "[Target(",
        "a dict of at least one key",
    ),
    "route-targets-feature": (
        lambda: several({"x": Target("binary")}),
        "Route('r').targets",
        "'x'",
        "not the route's features",
    ),
    "route-target": (
        lambda: several({"z": "binary"}),
        "Route('r').targets['z']",
        "'binary'",
        'Target("binary")',
    ),
    "target-task": (lambda: Target("rank"), "Target.task", "'rank'", "binary, multiclass"),
    "target-classes": (lambda: Target("multiclass"), "Target.num_classes", "None", "at least 2"),
    "target-shape": (lambda: Target("binary", shape="5"), "Target.shape", "'5'", "a tuple of ints"),
    "target-size": (lambda: Target("binary", shape=(0,)), "Target.shape", "0", "at least 1"),
    "target-loss": (
        lambda: Target("regression", loss="dice"),
        "Target.loss",
        "'dice'",
        "mean_squared_error, mean_absolute_error, for the task regression",
    ),
    "target-dice": (
        lambda: Target("binary", loss="dice"),
        "Target.loss",
        "'dice'",
        "unless the target has a shape",
    ),
    "target-weight": (
        lambda: Target("binary", loss_weight=0),
        "Target.loss_weight",
        "0",
        "above 0",
    ),
    "target-optional": (lambda: Target("binary", optional=1), "Target.optional", "1", "True or"),
    "table-empty": (lambda: RoutingTable(), "RoutingTable", "()", "at least one Route"),
    "table-no-route": (lambda: RoutingTable("r"), "RoutingTable", "'r'", "routes"),
    "optimizer": (lambda: Training(optimizer="sga"), "Training.optimizer", "'sga'", "adam, "),
    "learning-rate": (lambda: Training(learning_rate=0), "Training.learning_rate", "0", "above 0"),
    "decay": (lambda: Training(decay="exp"), "Training.decay", "'exp'", "constant, cosine"),
    "warmup": (lambda: Training(warmup_steps=-1), "Training.warmup_steps", "-1", "at least 0"),
    "clip": (lambda: Training(clip_norm=0), "Training.clip_norm", "0", "above 0"),
    "early": (lambda: Training(early_stopping=5), "Training.early_stopping", "5", "EarlyStopping"),
    "patience": (lambda: EarlyStopping(0), "EarlyStopping.patience", "0", "at least 1"),
    "steps": (lambda: Training(steps=0), "Training.steps", "0", "at least 1"),
    "owner": (
        lambda: Training(optimizer_state="each"),
        "Training.optimizer_state",
        "'each'",
        "path, shared",
    ),
    "owner of several": (
        lambda: Training(optimizer_state="shared", routes={"r": {"optimizer": "sgd"}}),
        "Training.routes['r']",
        "{'optimizer': 'sgd'}",
        "optimizer and weight_decay of all routes, as optimizer_state is 'shared'",
    ),
    "compiled": (
        lambda: Training(jit_compile="always"),
        "Training.jit_compile",
        "'always'",
        "True, False or 'auto'",
    ),
    "schedule": (lambda: Training(schedule="aab"), "Training.schedule", "'aab'", "a schedule"),
    "share": (lambda: Training(validation_share=1), "Training.validation_share", "1", "below 1"),
    "path-fields": (
        lambda: Training(routes={"r": {"steps": 3}}),
        "Training.routes['r']",
        "{'steps': 3}",
        "some of optimizer",
    ),
    "path-value": (
        lambda: Training(routes={"r": {"accumulate": 0}}),
        "PathTraining.accumulate",
        "0",
        "at least 1",
    ),
    "recipe-name": (lambda: recipe(name="a/b"), "Recipe.name", "'a/b'", "letters, digits"),
    "long-name": (lambda: recipe(name="a" * 64), "Recipe.name", "'aaa", "at most 63 characters"),
    "recipe-routing": (lambda: recipe(routing=[]), "Recipe.routing", "[]", "a RoutingTable"),
    "recipe-training": (lambda: recipe(training={}), "Recipe.training", "{}", "Training"),
    "recipe-path": (
        lambda: recipe(training=Training(routes={"q": {}})),
        "Recipe.training.routes",
        "'q'",
        "one of the routes r",
    ),
    "threshold-route": (
        lambda: recipe(thresholds={"q": {"auc": 0.5}}),
        "Recipe.thresholds",
        "'q'",
        "one of the routes r",
    ),
    "threshold-value": (
        lambda: recipe(thresholds={"r": {"auc": "high"}}),
        "Recipe.thresholds['r']['auc']",
        "'high'",
        "a finite number",
    ),
    "threshold-direction": (
        lambda: recipe(thresholds={"r": {"Mean": 0.5}}),
        "Recipe.thresholds['r']['Mean']",
        "0.5",
        "Bound(least=…)",
    ),
    "bound": (lambda: Bound(), "Bound", "(None, None)", "a least or a greatest"),
    "metrics": (
        lambda: recipe(metrics={"r": "auc"}),
        "Recipe.metrics['r']",
        "'auc'",
        "a list of metric names",
    ),
    "reason": (
        lambda: recipe(reason_limits={"unrouted": 0}),
        "Recipe.reason_limits",
        "'unrouted'",
        "no_route",
    ),
    "reason limit": (
        lambda: recipe(reason_limits={"no_route": 2}),
        "Recipe.reason_limits['no_route']",
        "2",
        "in [0, 1]",
    ),
    "limit": (lambda: recipe(quarantine_limit=5), "Recipe.quarantine_limit", "5", "in [0, 1]"),
    "splits": (lambda: recipe(splits={"train": 1}), "Recipe.splits", "{'train': 1}", '"eval": 1'),
    "split-parts": (
        lambda: recipe(splits={"train": 1, "eval": 0}),
        "Recipe.splits['eval']",
        "0",
        "at least 1",
    ),
    "least-rows": (lambda: recipe(least_rows=0), "Recipe.least_rows", "0", "at least 1"),
    "scarce": (lambda: recipe(scarce="skip"), "Recipe.scarce", "'skip'", "a dict of route"),
    "scarce-route": (lambda: recipe(scarce={"q": "skip"}), "Recipe.scarce", "'q'", "'*' for all"),
    "scarce-policy": (lambda: recipe(scarce={"*": 1}), "Recipe.scarce['*']", "1", '"fail" or "sk'),
    "missing-cells": (
        lambda: recipe(missing_cells="NA"),
        "Recipe.missing_cells",
        "'NA'",
        "a list of texts such as",
    ),
    "missing-cell": (
        lambda: recipe(missing_cells=["NA", " "]),
        "Recipe.missing_cells",
        "' '",
        "a text that is not empty, without spaces around it",
    ),
    "split-key": (lambda: recipe(split_key=3), "Recipe.split_key", "3", "a str or None"),
    "data": (lambda: recipe(data=3), "Recipe.data", "3", "a path, or a function"),
    "validation": (lambda: recipe(validation=1), "Recipe.validation", "1", "Validation(…)"),
    "drift": (lambda: Validation(drift=2), "Validation.drift", "2", "a share in [0, 1]"),
    "skew": (lambda: Validation(skew="low"), "Validation.skew", "'low'", "a share in [0, 1]"),
    "block": (lambda: Validation(block="drift"), "Validation.block", "'drift'", "a list such as"),
    "block-kind": (lambda: Validation(block=["x"]), "Validation.block", "'x'", "anomalies, drift"),
    "block-limit": (lambda: Validation(block=["skew"]), "Validation.skew", "None", "block has"),
    "materialize": (lambda: recipe(materialize=1), "Recipe.materialize", "1", "True or False"),
    "no-spans": (lambda: recipe(spans=0), "Recipe.spans", "0", "an int of at least 1"),
    "spans": (lambda: recipe(spans=(5, 3)), "Recipe.spans", "(5, 3)", "the first and the last"),
    "span": (lambda: recipe(spans=(5, "x")), "Recipe.spans", "'x'", "an int of at least 0"),
    "inputs": (lambda: recipe(data_inputs="a"), "Recipe.data_inputs", "'a'", "a list of paths"),
}


@pytest.mark.parametrize(("make", "field", "value", "expected"), WRONG.values(), ids=WRONG)
def test_an_error_names_the_field_the_value_and_what_is_expected(make, field, value, expected):
    with pytest.raises(RecipeError) as error:
        make()
    message = str(error.value)
    assert message.startswith(f"{field}: got {value}"), message
    assert expected in message.partition("expected")[2], message
    assert "\n" not in message


def test_two_routes_of_one_name_are_refused():
    with pytest.raises(RecipeError, match="more than one route is named r"):
        RoutingTable(route(), route())


@given(strategies.recipes())
@settings(max_examples=150, deadline=None)
def test_a_recipe_survives_json_byte_for_byte(made):
    text = to_json(made)
    read = from_json(text)
    assert read == made
    assert to_json(read) == text
    # What equality does not see: dicts have an order, and 1 == 1.0 == True.
    for ours, theirs in zip(made.routing.routes, read.routing.routes, strict=True):
        assert list(ours.features) == list(theirs.features)
        assert list(ours.labels.items()) == list(theirs.labels.items())
        assert repr(ours.condition) == repr(theirs.condition)


def test_the_order_in_which_a_dict_was_filled_does_not_show_in_the_json():
    a = {"r": {"auc": 0.5, "accuracy": 0.5}}
    b = {"r": {"accuracy": 0.5, "auc": 0.5}}
    assert to_json(recipe(thresholds=a)) == to_json(recipe(thresholds=b))


def test_the_order_of_features_and_routes_does_show():
    ab = route(features={"a": Numeric(), "b": Numeric()})
    ba = route(features={"b": Numeric(), "a": Numeric()})
    assert to_json(ab) != to_json(ba)
    other = route("s")
    assert to_json(RoutingTable(ab, other)) != to_json(RoutingTable(other, ab))


def test_label_is_short_for_one_required_target_of_one_value():
    short = route(label="a.b", task="multiclass", num_classes=3)
    assert short.labels == {"a.b": Target("multiclass", num_classes=3)}
    assert (short.output("a.b"), short.metric("a.b", "accuracy")) == ("r", "accuracy")
    named = several(short.labels)
    assert named.labels == short.labels and named.dtypes == short.dtypes
    assert (named.output("a.b"), named.metric("a.b", "accuracy")) == ("r/a.b", "a.b/accuracy")


def test_a_label_that_may_be_missing_has_a_value_that_says_so():
    assert Target("multiclass", num_classes=3, optional=True).missing == -1
    assert math.isnan(Target("regression", optional=True).missing)
    assert Target("binary").missing is None


def test_how_strictly_data_are_validated_travels():
    made = recipe(validation=Validation(drift=0.1, skew=0.2, block=["anomalies", "drift"]))
    assert from_json(to_json(made)).validation == made.validation
    assert recipe().validation == Validation()


def test_functions_do_not_travel():
    made = recipe(data=lambda folder: None, training=Training(schedule=lambda step: "r"))
    read = from_json(to_json(made))
    assert read.data is None
    assert read.training.schedule == Training().schedule == Proportional(temperature=2.0)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"type":"Nothing"}', '{"type":"Route"}', '{"type":"RoutingTable"}'],
    ids=["empty", "cut-off", "unknown-type", "no-name", "no-routes"],
)
def test_what_is_no_json_of_a_recipe_is_refused(text):
    with pytest.raises(RecipeError):
        from_json(text)


def test_a_wrong_value_in_json_is_refused_like_one_in_python():
    text = to_json(recipe()).replace('"quarantine_limit":0.05', '"quarantine_limit":7')
    with pytest.raises(RecipeError, match="Recipe.quarantine_limit: got 7"):
        from_json(text)


def test_the_schemas_import_neither_tensorflow_nor_tfx():
    code = (
        "import sys, branchline.schemas\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_key_of_one_type_keeps_its_name_and_a_key_of_several_gets_the_type():
    table = RoutingTable(
        route("f", features={"value": Numeric(), "age": Numeric()}),
        route("i", features={"value": Ids(9), "age": Image(1, 1, 1)}, task="regression"),
        route("s", features={"value": Categorical()}, label="age"),
    )
    assert [table.column(name, "value") for name in "fis"] == [
        "value.float",
        "value.int",
        "value.string",
    ]
    assert table.columns("f") == {"value": "value.float", "age": "age.float", "y": "y.int"}
    assert table.columns("s") == {"value": "value.string", "age": "age.int"}
    assert table.column("i", "y") == "y.float"
    alone = RoutingTable(route("f", features={"value": Numeric()}))
    assert alone.column("f", "value") == "value"


def test_two_columns_of_one_table_never_share_a_name():
    with pytest.raises(RecipeError, match="value.float"):
        RoutingTable(
            route("f", features={"value": Numeric(), "value.float": Text()}),
            route("i", features={"value": Ids(9)}),
        )


def test_d7_columns_that_tensorflow_would_take_for_one_are_told_apart():
    odd = ["price/usd", "price_usd", "price usd", "Price.usd", "price_usd.2", "x"]
    table = RoutingTable(route("f", features={key: Numeric() for key in odd}))
    columns = table.columns("f")
    assert columns["Price.usd"] == "Price.usd" and columns["x"] == "x"
    letters = {"".join(c if c.isalnum() else "_" for c in name) for name in columns.values()}
    assert len({name.lower() for name in letters}) == len(columns)


def test_text_keys_are_those_that_no_route_reads_as_a_number():
    table = RoutingTable(
        route("f", features={"id": Numeric(), "name": Text()}),
        route("s", features={"id": Categorical(), "name": Categorical()}),
    )
    assert table.text_keys == ("name",) and table.number_keys == ("y",)


def test_d14_a_key_that_a_condition_compares_with_a_number_is_no_text():
    one = when.any(when.equals("kind", 1), when.not_(when.equals("size", "s")))
    table = RoutingTable(
        route("f", features={"kind": Categorical(), "size": Numeric(), "x": Numeric()}),
        Route("s", one, features={"kind": Categorical()}, label="y", task="binary"),
    )
    assert table.text_keys == () and table.number_keys == ("x", "y")


def test_d14_a_key_that_conditions_alone_read_is_a_text_or_a_number_by_what_it_is_compared_with():
    reads = when.any(
        when.equals("flag", True),
        when.greater("size", 2.5),
        when.isin("kind", ["7", "x"]),
        when.isin("both", [7, "x"]),
        when.all(when.equals("typed", 1), when.dtype("typed", "int")),
        when.present("there"),
    )
    table = RoutingTable(Route("f", reads, features={"x": Text()}, label="y", task="binary"))
    assert table.number_keys == ("flag", "size", "y") and table.text_keys == ("kind", "x")


def test_k7_whole_keys_are_those_that_some_route_stores_as_whole_and_nobody_asks_the_type_of():
    features = {"t": Numeric(whole=True), "u": Numeric(whole=True), "v": Numeric()}
    table = RoutingTable(
        route("f", features=features),
        Route("s", when.dtype("u", "int"), features={"t": Numeric()}, label="y", task="binary"),
    )
    assert table.whole_keys == ("t", "y")


def test_a_paths_own_training_lies_over_what_holds_for_all():
    common = {"optimizer": "sgd", "learning_rate": 0.5, "clip_norm": 2.0}
    training = Training(**common, routes={"r": {"learning_rate": 0.25, "clip_norm": None}})
    assert training.path("r") == PathTraining(optimizer="sgd", learning_rate=0.25)
    assert training.path("another") == PathTraining(**common)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_every_field_of_a_path_can_be_its_own(data):
    name, strategy = data.draw(st.sampled_from(sorted(strategies.path_fields().items())))
    value = data.draw(strategy)
    assert getattr(Training(routes={"r": {name: value}}).path("r"), name) == value


@pytest.mark.parametrize(
    ("metric", "bad", "good"),
    [
        ("auc", 0.4, 0.6),
        ("accuracy", 0.4, 0.5),
        ("SparseCategoricalAccuracy", 0.4, 0.6),
        ("mean_absolute_error", 0.6, 0.5),
        ("RootMeanSquaredError", 0.6, 0.4),
        ("binary_crossentropy", 0.6, 0.4),
        ("my_loss", 0.6, 0.4),
        ("loss/exact_match", 0.4, 0.6),
        ("accuracy/mse", 0.6, 0.4),
    ],
)
def test_a_threshold_bounds_a_metric_on_its_bad_side(metric, bad, good):
    bound = recipe(thresholds={"r": {metric: 0.5}}).thresholds["r"][metric]
    assert isinstance(bound, Bound)
    assert bound.holds(good) and not bound.holds(bad) and not bound.holds(NAN)


def test_a_bound_has_two_sides():
    bound = Bound(least=1, greatest=2)
    assert [bound.holds(value) for value in (0.9, 1, 1.5, 2, 2.1, NAN)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("spans", [3, (4, 6), [4, 6]], ids=["newest", "range", "range-of-json"])
def test_which_spans_are_read_survives_json(spans):
    made = recipe(spans=spans)
    assert made.spans == (spans if spans == 3 else (4, 6))
    assert from_json(to_json(made)) == made
