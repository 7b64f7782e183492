import builders as build
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.transform.groups import groups_of, input_columns, output_name
from branchline.components.transform.preprocessing import preprocessing_fn
from branchline.schemas import Numeric, Route, RoutingTable, to_json, when

TABLE = build.MIXED_TABLE
ROUTES, GROUPS = TABLE.names, groups_of(TABLE)


@pytest.fixture(scope="module")
def routed():
    return build.mixed().routed


@pytest.fixture(scope="module")
def transformer():
    return build.Transformer(build.mixed().output)


def feature(outputs, route, key):
    """A feature as rows of lists, shorter where a row has no value."""
    found = outputs[output_name(TABLE, route, key)]
    return tf.RaggedTensor.from_sparse(found).to_list()


@pytest.fixture(scope="module")
def outputs(routed, transformer):
    """Route → feature → its rows, one list each."""
    found = {route: transformer(rows) for route, rows in routed.items()}
    return {
        name: {key: feature(found[name], name, key) for key in TABLE[name].features}
        for name in ROUTES
    }


def z_scores(values):
    values = np.asarray(values, np.float64)
    return (values - values.mean(axis=0)) / values.std(axis=0)


def test_numbers_are_scaled_by_their_own_routes_rows(outputs):
    want = z_scores([[1, 10], [2, 30], [6, 80]])
    np.testing.assert_allclose(outputs["meter-1"]["value"], want, rtol=1e-5)
    # The other route's x, hundreds of times as large, does not count, nor does a missing one.
    assert outputs["meter-1"]["x"] == [[1], [-1], []]
    first, second, third, fourth = outputs["text"]["x"]
    want = z_scores([100, 300, 800])
    np.testing.assert_allclose([*first, *second, *fourth], want, rtol=1e-5)
    assert third == []


def test_a_label_of_one_route_can_be_a_feature_of_another(outputs):
    assert outputs["text"]["days"] == [[-1], [1], [], []]


def test_a_constant_becomes_zero_and_not_nan(outputs):
    assert outputs["meter-1"]["flat"] == [[0], [0], [0]]


def test_a_picture_is_scaled_as_a_whole(outputs):
    np.testing.assert_allclose(outputs["scan"]["pixels"], [[0, 1], [0.2, 0.4]], rtol=1e-6)


def test_ids_stay_as_they_are(outputs):
    assert outputs["scan"]["value"] == [[8, 0], [3, 3]]


def test_a_row_of_an_unknown_route_has_no_outputs(transformer):
    found = transformer(
        [build.example({"_route": "other", "x": 3.0, "colour": "r", "a/b. ü": "red"})]
    )
    assert {group.name: found[group.name].values.shape[0] for group in GROUPS} == {
        group.name: 0 for group in GROUPS
    }


def test_what_a_row_holds_beside_its_routes_fields_does_not_appear(transformer, routed):
    more = {"x": 5.0, "flat": 1.0, "colour": "r", "a/b. ü": "red"}
    rows = [
        build.example({"_route": "scan", "pixels": pixels, "value.int": ids} | more)
        for pixels, ids in (([0.0, 255.0], [8, 0]), ([51.0, 102.0], [3, 3]))
    ]
    bare, found = transformer(routed["scan"]), transformer(rows)
    for group in GROUPS:
        want, got = (tf.sparse.to_dense(each[group.name]) for each in (bare, found))
        np.testing.assert_array_equal(got, want)


def test_a_batch_may_be_empty(transformer):
    found = transformer(tf.constant([], tf.string))
    for group in GROUPS:
        assert tf.sparse.to_dense(found[group.name]).shape == (0, group.width)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ROUTES), st.integers(0, 99)), min_size=1, max_size=20))
def test_a_row_is_transformed_alike_in_whatever_company(routed, transformer, outputs, drawn):
    drawn = [(route, number % len(routed[route])) for route, number in drawn]
    mixed = transformer([routed[route][number] for route, number in drawn])
    for name in ROUTES:
        for key in TABLE[name].features:
            rows = feature(mixed, name, key)
            for row, (route, number) in zip(rows, drawn, strict=True):
                if route == name:
                    assert row == outputs[name][key][number]


@pytest.mark.parametrize("route", ROUTES)
def test_a_routes_outputs_need_its_groups_columns_only(route, routed, outputs):
    columns = input_columns(TABLE, route)
    pruned = build.Transformer(build.mixed().output, columns)(routed[route])
    assert ("pixels" in columns) == (route == "scan")
    for key in TABLE[route].features:
        assert feature(pruned, route, key) == outputs[route][key]


def wide(num_routes, distinct):
    """Routes of a number and a pair, under the same keys or under keys of their own."""

    def features(number):
        return {f"x{number * distinct}": Numeric(), f"y{number * distinct}": Numeric((2,))}

    return RoutingTable(
        *(
            Route(
                f"r{number}",
                when.equals("kind", f"k{number}"),
                features=features(number),
                label="label",
                task="binary",
            )
            for number in range(num_routes)
        )
    )


@pytest.fixture(scope="module", params=[False, True], ids=["same keys", "distinct keys"])
def many(request, tmp_path_factory):
    """A table of 2 and one of 12 routes, random rows of them, and what is learnt from these."""
    found, random = [], np.random.default_rng(0)
    for num_routes in (2, 12):
        table = wide(num_routes, request.param)
        values, rows = {}, {}
        for number, name in enumerate(table.names):
            x, y = table[name].features
            drawn = random.normal(number * 100, number + 1, [20, 3]).astype(np.float32)
            values[name] = drawn
            rows[name] = [
                build.example({"_route": name, x: row[:1].tolist(), y: row[1:].tolist()})
                for row in drawn
            ]
        root = tmp_path_factory.mktemp("many") / "t"
        output, _ = build.transform(root, table, rows, materialize=False)
        found.append((table, values, rows, output))
    return found


def test_each_of_many_routes_has_statistics_of_its_own(many):
    for table, values, rows, output in many:
        everything = [(name, number) for name in table.names for number in range(20)]
        np.random.default_rng(1).shuffle(everything)
        found = build.Transformer(output)([rows[name][number] for name, number in everything])
        want = {name: z_scores(values[name]) for name in table.names}
        x, y = (
            tf.sparse.to_dense(found[output_name(table, "r0", key)]).numpy()
            for key in table["r0"].features
        )
        for row, (name, number) in enumerate(everything):
            got = [*x[row], *y[row]]
            np.testing.assert_allclose(got, want[name][number], rtol=1e-4, atol=1e-4)


def operations(output):
    """How many operations the outputs take, without the inputs' own."""
    graph = build.Transformer(output).loader._func_graph
    return sum(each.type not in {"Placeholder", "Identity"} for each in graph.get_operations())


def test_more_routes_make_no_more_outputs_and_hardly_more_operations(many):
    few, lots = (output for _, _, _, output in many)
    assert len(few.transformed_feature_spec()) == len(lots.transformed_feature_spec()) == 2
    assert operations(lots) <= operations(few) + 12


@pytest.mark.parametrize("compat", [True, False], ids=["v1", "v2"])
def test_an_exported_model_transforms_as_training_did(compat, tmp_path, routed, outputs):
    output, _ = build.transform(
        tmp_path / "t", TABLE, routed, materialize=False, force_tf_compat_v1=compat
    )
    model = build.Transformer(output)
    tf.saved_model.save(model, str(tmp_path / "model"))
    again = tf.saved_model.load(str(tmp_path / "model"))
    batches = tf.data.Dataset.from_tensors(routed["text"])
    for found in (again(routed["text"]), next(iter(batches.map(model)))):
        for key in TABLE["text"].features:
            assert feature(found, "text", key) == outputs["text"][key]


def test_materialised_rows_hold_labels_and_routes_as_they_were(routed):
    for name, rows in build.mixed().rows.items():
        for before, after in zip(routed[name], map(build.read_example, rows), strict=True):
            raw = build.read_example(before)
            assert after["_route"] == ("string", [name.encode()])
            for label in TABLE[name].labels:
                assert after[TABLE.column(name, label)] == raw[TABLE.column(name, label)]


def test_labels_are_no_outputs_unless_materialised(many):
    for _, _, _, output in many:
        assert not {"label", "_route"} & set(output.transformed_feature_spec())


OWN = """
def preprocessing_fn(inputs):
    assert "_route" not in inputs
    return {"r0/twice": inputs["x0"] * 2}
"""


@pytest.mark.parametrize(
    ("materialize", "names"),
    [(False, {"r0/twice"}), (True, {"r0/twice", "_route", "label"})],
    ids=["plain", "materialised"],
)
def test_a_recipes_own_function_makes_all_features(materialize, names, tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(OWN)
    inputs = {
        "x0": tf.constant([[1.0]]),
        "label": tf.constant([[1]], tf.int64),
        "_route": tf.constant([["r0"]]),
    }
    config = {"routing": to_json(wide(2, False)), "recipe_file": str(recipe)}
    found = preprocessing_fn(inputs, config | {"materialize": materialize})
    assert set(found) == names
    assert found["r0/twice"].numpy().tolist() == [[2.0]]
