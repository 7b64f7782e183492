"""Several targets of one route, from raw records to the served model, beside an ordinary route."""

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import BranchedModel, Head, Path, Switch
from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.check_heads import check_heads
from branchline.components.branch_trainer.recipe.export import ServedModel
from branchline.components.branch_trainer.recipe.train import _labels_fn, train
from branchline.components.branch_trainer.step.batch_loss import batch_loss
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.components.branch_trainer.streams.labels import Scale, scales_of
from branchline.components.route_validator.route_schema import RouteSchemas
from branchline.components.router.route_batch import BatchRouter
from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import (
    Alternate,
    BranchlineError,
    Numeric,
    Recipe,
    Route,
    RoutingTable,
    Target,
    Training,
    when,
)

NAN = float("nan")
TARGETS = {
    "labels.category_1": Target("multiclass", num_classes=4),
    "labels.category_2": Target("multiclass", num_classes=3, shape=(2,), optional=True),
    "mask": Target("binary", shape=(2, 2), loss="dice", loss_weight=0.5),
    "a/b. ü": Target("binary", optional=True),
    "sizes": Target("regression", shape=(2,), optional=True),
    "price": Target("regression", loss="mean_absolute_error", optional=True),
}
TABLE = RoutingTable(
    Route("many", when.present("x"), features={"x": Numeric((2,))}, targets=TARGETS),
    Route("one", when.present("z"), features={"z": Numeric()}, label="price", task="regression"),
)
MANY = TABLE["many"]
RECORDS = [
    {
        "x": [1.0, 2.0],
        "labels.category_1": 3,
        "labels.category_2": [2, 0],
        "mask": [1, 0, 0, 1],
        "a/b. ü": 1,
        "sizes": [10.0, 20.5],
    },
    {"x": [3.0, 1.0], "labels.category_1": 0, "mask": [0, 0, 0, 0], "price": 7.0},
    {"x": [2, 2], "labels.category_1": 1, "mask": [1, 1, 1, 1], "sizes": [30, 40], "price": 9},
    {"z": 1.0, "price": 5.0},
    {"z": 2.0, "price": 15.0},
]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """The transform's output."""
    folder = tmp_path_factory.mktemp("targets") / "t"
    return build.transform(folder, TABLE, build.route_rows(TABLE, RECORDS), materialize=False)[0]


@pytest.fixture(scope="module")
def inputs(learnt):
    return build.reader(TABLE, learnt)[1]


@pytest.fixture(scope="module")
def rows(learnt, tmp_path_factory):
    """Route → its rows as the trainer reads them."""
    folder = tmp_path_factory.mktemp("rows")
    reader, _ = build.reader(TABLE, learnt)
    of_route = build.route_rows(TABLE, RECORDS)
    files = {name: [build.write_rows(folder / f"{name}.gz", of)] for name, of in of_route.items()}
    return reader.read(files, 1 << 20)


@pytest.fixture(scope="module")
def batch(rows):
    return rows["many"].features, rows["many"].labels


@pytest.fixture(scope="module")
def model(inputs):
    keras.utils.set_random_seed(1)
    return default_model.build_model(Recipe("r", TABLE), inputs)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"labels.category_1": None}, "label_missing"),
        ({"labels.category_2": None, "a/b. ü": None, "sizes": None}, None),
        ({"labels.category_2": [1]}, "wrong_shape"),
        ({"labels.category_2": [1, 3]}, "label_out_of_range"),
        ({"labels.category_2": [1, -1]}, "label_out_of_range"),
        ({"mask": [0, 1, 2, 0]}, "label_out_of_range"),
        ({"mask": [0.0, 1.0, 0.5, 0.0]}, "wrong_type"),
        ({"sizes": [1.0, NAN]}, "not_finite"),
        ({"sizes": []}, None),
    ],
)
def test_a_record_is_set_aside_for_a_wrong_label_and_not_for_a_missing_optional_one(change, reason):
    record = {key: value for key, value in (RECORDS[0] | change).items() if value is not None}
    routed = BatchRouter(TABLE)([build.example(record)])
    assert [problem.reason for _, problem in routed.aside] == ([reason] if reason else [])
    assert list(routed.examples) == ([] if reason else ["many"])


def test_a_record_without_any_label_is_set_aside_with_their_names():
    targets = {key: Target("binary", optional=True) for key in ("p", "q")}
    route = Route("r", when.present("x"), features={"x": Numeric()}, targets=targets)
    records = [{"x": 1.0}, {"x": 1.0, "q": 1}]
    routed = BatchRouter(RoutingTable(route))([build.example(record) for record in records])
    assert len(routed.examples["r"]) == 1
    ((row, problem),) = routed.aside
    assert (row, problem.reason) == (0, "label_missing")
    assert problem.detail == "p, q: all labels are missing"


def test_the_schema_says_how_many_values_a_label_has_and_which_are_required():
    (route,) = [name for name in TABLE.names if set(TARGETS) <= set(TABLE[name].labels)]
    schema = RouteSchemas(declared_schema(TABLE), TABLE).of(route, ())
    by_name = {feature.name: feature for feature in schema.feature}
    sizes = {key: by_name[key].value_count.max for key in TARGETS}
    assert list(sizes.values()) == [1, 2, 4, 1, 2, 1]
    assert by_name["labels.category_2"].int_domain.max == 2
    required = [key for key in TARGETS if by_name[key].presence.min_fraction == 1]
    assert required == ["labels.category_1", "mask"]


def test_labels_have_their_shape_and_missing_ones_their_mark(batch):
    labels = {key: value.numpy() for key, value in batch[1].items()}
    want = {
        "labels.category_1": [3, 0, 1],
        "labels.category_2": [[2, 0], [-1, -1], [-1, -1]],
        "mask": [[[1, 0], [0, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]],
        "a/b. ü": [1, -1, -1],
        "sizes": [[10, 20.5], [NAN, NAN], [30, 40]],
        "price": [NAN, 7, 9],
    }
    assert list(labels) == list(want)
    for key, values in want.items():
        assert labels[key].dtype == (np.float32 if TARGETS[key].dtype == "float" else np.int64)
        np.testing.assert_array_equal(labels[key], values)


def test_the_losses_of_an_ordinary_route_take_a_bare_label_and_of_targets_a_dict(rows):
    labels = _labels_fn(TABLE["one"], {"price": Scale(5.0, 10.0)})(rows["one"].labels)[0]
    np.testing.assert_array_equal(labels, [[0.0], [1.0]])
    labels = _labels_fn(MANY, dict.fromkeys(TARGETS, Scale()))(rows["many"].labels)[0]
    assert list(labels) == list(TARGETS)


def test_every_regression_has_a_scale_of_its_own_over_the_labels_that_are_there(rows):
    scales = scales_of(rows["many"], MANY)
    sizes = np.array([10, 20.5, 30, 40])
    np.testing.assert_allclose(scales["sizes"], (sizes.mean(), sizes.std()))
    np.testing.assert_allclose(scales["price"], (8, 1))
    assert scales["mask"] == Scale()


def test_a_target_that_no_row_has_is_named(tmp_path):
    records = [{"labels.category_1": 1, "mask": [0, 0, 0, 0]}]
    rows = build.plain_rows(tmp_path / "a.gz", records, {}, TARGETS)
    with pytest.raises(BranchlineError, match="1 examples of route 'many' in train has the label"):
        scales_of(rows, MANY)


def softplus(values):
    return np.log1p(np.exp(-np.abs(values))) + np.maximum(values, 0)


def test_the_loss_is_over_the_labels_that_are_there_and_no_others(batch, model, rows):
    features, labels = batch
    scales = scales_of(rows["many"], MANY)
    given = _labels_fn(MANY, scales)(labels)[0]
    loss = batch_loss(model, "many", (features, given), training=False)
    outputs = {
        head.label: np.array(model(features, path="many")[head.name], np.float64)
        for head in model.heads_of("many")
    }

    def cross_entropy(logits, classes):
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return -np.take_along_axis(logs, np.array(classes)[..., None], -1).mean()

    guess = 1 / (1 + np.exp(-outputs["mask"]))
    mask = labels["mask"].numpy()
    common, size = (guess * mask).sum((1, 2)), (guess + mask).sum((1, 2))
    sizes = (np.array([[10, 20.5], [30, 40]]) - scales["sizes"].mean) / scales["sizes"].std
    want = cross_entropy(outputs["labels.category_1"], [3, 0, 1])
    want += cross_entropy(outputs["labels.category_2"][:1], [[2, 0]])
    want += 0.5 * np.mean(1 - 2 * common / size)
    want += softplus(-outputs["a/b. ü"][0, 0])
    want += np.mean((outputs["sizes"][[0, 2]] - sizes) ** 2)
    want += np.mean(np.abs(outputs["price"][1:, 0] - [-1, 1]))
    np.testing.assert_allclose(loss, want, rtol=1e-4)


def test_a_batch_without_a_label_leaves_its_head_without_gradient(batch, model):
    features, labels = tf.nest.map_structure(lambda rows: rows[1:2], batch)
    labels = _labels_fn(MANY, dict.fromkeys(TARGETS, Scale()))(labels)[0]
    (head,) = [head for head in model.heads_of("many") if head.label == "sizes"]
    weights = [variable.value for variable in head.trainable_variables]
    with tf.GradientTape() as tape:
        loss = batch_loss(model, "many", (features, labels), training=True)
    assert np.isfinite(loss)
    for gradient in tape.gradient(loss, weights):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


@pytest.fixture(scope="module")
def served(tmp_path_factory, learnt, model, inputs):
    directory = str(tmp_path_factory.mktemp("serving") / "1")
    scales = {
        "many": dict.fromkeys(TARGETS, Scale()) | {"sizes": Scale(3.0, 2.0)},
        "one": {"price": Scale(100.0, 10.0)},
    }
    ServedModel(TABLE, model, inputs, scales, learnt).save(directory)
    return tf.saved_model.load(directory)


def raw(records):
    return tf.constant([build.example(record) for record in records])


def test_the_served_model_has_an_output_per_target(served, batch, model):
    outputs = served.signatures["serving_default"](examples=raw([*RECORDS[::-1], {}]))
    outputs = {name: value.numpy() for name, value in outputs.items()}
    names = [f"many/{key}" for key in TARGETS]
    assert set(outputs) == {"route", "one", *names}
    shapes = [outputs[name].shape for name in names]
    assert shapes == [(6, 4), (6, 2, 3), (6, 2, 2), (6,), (6, 2), (6,)]
    mine = [4, 3, 2]
    for name in names:
        assert np.isfinite(outputs[name][mine]).all()
        assert np.isnan(np.delete(outputs[name], mine, axis=0)).all()
    assert np.isfinite(outputs["one"]).tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(outputs["many/labels.category_2"][mine].sum(-1), 1, rtol=1e-5)
    heads = {head.label: head.name for head in model.heads_of("many")}
    logits = model(batch[0], path="many")
    want = 1 / (1 + np.exp(-np.array(logits[heads["mask"]])))
    np.testing.assert_allclose(outputs["many/mask"][mine], want, rtol=1e-4)
    want = np.array(logits[heads["sizes"]]) * 2 + 3
    np.testing.assert_allclose(outputs["many/sizes"][mine], want, rtol=1e-4)


def test_a_routes_own_signature_gives_its_targets_only(served):
    outputs = served.signatures["many"](examples=raw(RECORDS[:3]))
    assert set(outputs) == {f"many/{key}" for key in TARGETS}
    assert all(np.isfinite(value).all() for value in outputs.values())
    assert list(served.signatures["one"](examples=raw(RECORDS[3:]))) == ["one"]


TANGLED = {"bits": Target("binary", shape=(5,)), "digit": Target("multiclass", num_classes=3)}


def tangled(heads, paths=("p", "q")):
    """Two routes of the same targets, whose heads they share."""
    layers = {name: keras.layers.Dense(4) for name in paths}
    return BranchedModel(
        [Switch("encoder", **layers)],
        heads=heads,
        paths={name: Path(encoder=name) for name in paths},
    )


def head(name, units, **fields):
    return Head(name, keras.layers.Dense(units), loss="mse", **fields)


FAST = {"learning_rate": 0.02, "schedule": Alternate()}
ROUTE = Route("p", when.present("x"), features={"x": Numeric()}, targets=TANGLED)
OPTIONAL = Route(
    "p",
    when.present("x"),
    features={"x": Numeric()},
    targets={"y": Target("binary", optional=True)},
)
SPEC = tf.TensorSpec([None, 1])


def test_heads_are_found_by_their_label_and_may_be_shared():
    check_heads(tangled([head("bits", 5), head("d", 3, label="digit")]), ROUTE, SPEC)
    check_heads(tangled([head("y", 1, missing=-1)]), OPTIONAL, SPEC)


def test_two_routes_train_the_heads_they_share(tmp_path):
    """Numbers as bits or as a value; every head learns from both routes (system S7)."""
    kinds = {"value": Numeric(), "bits_in": Numeric((2,))}
    paths = dict(zip("pq", kinds, strict=True))
    targets = {"bits": Target("binary", shape=(2,)), "digit": Target("multiclass", num_classes=4)}
    routes = [
        Route(name, when.present(key), features={key: kinds[key]}, targets=targets)
        for name, key in paths.items()
    ]
    recipe = Recipe("r", RoutingTable(*routes), training=Training(steps=300, batch_size=8, **FAST))

    def build_model(recipe, inputs):
        encoders = {
            name: keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(8)])
            for name in paths
        }
        losses = keras.losses
        heads = [
            Head("bits", keras.layers.Dense(2), loss=losses.BinaryCrossentropy(from_logits=True)),
            Head(
                "digit",
                keras.layers.Dense(4),
                loss=losses.SparseCategoricalCrossentropy(from_logits=True),
            ),
        ]
        return BranchedModel(
            [Switch("encoder", **encoders)],
            heads=heads,
            paths={n: Path(encoder=n, features=key) for n, key in paths.items()},
        )

    shapes = {"value": (1,), "bits_in": (2,)}
    inputs = {name: {key: Input(shapes[key], "float32")} for name, key in paths.items()}
    rows = {}
    for name, key in paths.items():
        records = [
            {key: 1.0 * n if name == "p" else [1.0 * (n // 2), 1.0 * (n % 2)]}
            | {"bits": [n // 2, n % 2], "digit": n}
            for n in range(4)
        ]
        path = tmp_path / f"{name}.gz"
        rows[name] = build.plain_rows(path, records, inputs[name], targets)
    scales = {route.name: scales_of(rows[route.name], route) for route in routes}
    model, _ = train(recipe, build_model, rows, inputs, scales, cache_dir=str(tmp_path))
    for route in routes:
        features, want = rows[route.name].features, rows[route.name].labels
        outputs = model(features, path=route.name)
        np.testing.assert_array_equal(np.array(outputs["digit"]).argmax(-1), want["digit"])
        np.testing.assert_array_equal(np.array(outputs["bits"]) > 0, want["bits"])


@pytest.mark.parametrize(
    ("make", "route", "says"),
    [
        (lambda: tangled([head("bits", 5)]), ROUTE, "one with label='digit'.*'digit' of the route"),
        (
            lambda: tangled([head("bits", 5), head("digit", 3), head("d", 3, label="digit")]),
            ROUTE,
            "has the heads bits .label 'bits'., digit .*expected exactly one with label='digit'",
        ),
        (
            lambda: tangled([head("bits", 5), head("digit", 3), head("other", 3)]),
            ROUTE,
            "head 'other' .* has label='other'; expected one of the route's targets, bits, digit",
        ),
        (lambda: tangled([head("bits", 4), head("digit", 3)]), ROUTE, r"'bits' gives .*expected 5"),
        (lambda: tangled([head("bits", 5)], ["q"]), ROUTE, "the paths q; expected one named 'p'"),
        (lambda: tangled([head("y", 1)]), OPTIONAL, "'y' has missing=None; expected missing=-1"),
        (lambda: tangled([head("y", 1, missing=NAN)]), OPTIONAL, "expected missing=-1"),
    ],
    ids=["none", "two", "stray", "size", "path", "missing", "wrong-missing"],
)
def test_heads_that_do_not_fit_are_named_before_the_training(make, route, says):
    with pytest.raises(BranchlineError, match=says):
        check_heads(make(), route, SPEC)
