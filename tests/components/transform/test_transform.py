import builders as build
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer.inputs import describe_inputs, parse_batch
from branchline.components.transform.preprocessing import vocabulary_name
from branchline.schemas import Recipe, RoutingTable

TABLE, RECORDS = build.MIXED_TABLE, build.MIXED_RECORDS


@pytest.fixture(scope="module")
def routed():
    return build.mixed().routed


@pytest.fixture(scope="module")
def transformed():
    return build.mixed().output, build.mixed().rows


@pytest.fixture(scope="module")
def batches(transformed):
    """Route → features and labels of all its rows, as its branch gets them."""
    output, rows = transformed
    inputs = describe_inputs(Recipe("r", TABLE), output, own_preprocessing=False)
    return {
        route.name: parse_batch(tf.constant(rows[route.name]), route, inputs[route.name])
        for route in TABLE.routes
    }


def z_scores(values):
    values = np.asarray(values, np.float64)
    return (values - values.mean(axis=0)) / values.std(axis=0)


def test_numbers_are_scaled_by_their_own_routes_rows(batches):
    np.testing.assert_allclose(
        batches["meter-1"][0]["value"], z_scores([[1, 10], [2, 30], [6, 80]]), rtol=1e-5
    )
    # The other route's x, hundreds of times as large, does not count, nor does a missing one.
    np.testing.assert_allclose(batches["meter-1"][0]["x"][:, 0], [1, -1, 0], atol=1e-6)
    one, two, four = z_scores([100, 300, 800])
    np.testing.assert_allclose(batches["text"][0]["x"][:, 0], [one, two, 0, four], rtol=1e-5)


def test_a_label_of_one_route_can_be_a_feature_of_another(batches):
    np.testing.assert_allclose(batches["text"][0]["days"][:, 0], [-1, 1, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(batches["meter-1"][1], [3.0, 4.5, 5.0])


def test_a_constant_becomes_zero_and_not_nan(batches):
    np.testing.assert_array_equal(batches["meter-1"][0]["flat"], np.zeros((3, 1)))


def test_a_picture_is_scaled_as_a_whole(batches):
    want = np.reshape([0, 1, 0.2, 0.4], (2, 1, 2, 1))
    np.testing.assert_allclose(batches["scan"][0]["pixels"], want, rtol=1e-6)


def test_ids_stay_as_they_are(batches):
    np.testing.assert_array_equal(batches["scan"][0]["value"], [[8, 0], [3, 3]])


def words_of(output, position):
    return [w.decode() for w in output.vocabulary_by_name(vocabulary_name("text", position))]


def test_a_category_is_its_place_in_its_routes_vocabulary(transformed, batches):
    known = words_of(transformed[0], 1)
    assert known[0] == "r" and len(known) == 2 and known[1] in {"g", "7"}
    ids = {word: place + 1 for place, word in enumerate(known)}
    want = [[ids.get(word, 3)] for word in ("r", "g", "7", "r")]
    np.testing.assert_array_equal(batches["text"][0]["colour"], want)


def test_a_text_is_its_words_and_pairs_in_lower_case(transformed, batches):
    known = words_of(transformed[0], 0)
    # red: 4, blue: 2, "red red", "red blue" (twice), …: the four most frequent.
    assert known[0] == "red" and set(known[1:3]) == {"blue", "red blue"} and len(known) == 4
    ids = {word: place + 1 for place, word in enumerate(known)}
    texts = [
        ["red", "red red", "red", "red blue", "blue"],
        ["red", "red äpfel", "äpfel", "äpfel x9", "x9", "x9 y", "y"],
        [],
        ["red", "red blue", "blue"],
    ]
    want = [sorted(ids.get(word, 5) for word in words) for words in texts]
    found = batches["text"][0]["a/b. ü"].numpy()
    assert found.shape == (4, 3)  # length=3
    for row, (ours, all_words) in enumerate(zip(found, want, strict=True)):
        kept = [int(i) for i in ours if i]
        assert len(kept) == min(3, len(all_words)), row
        assert not set(kept) - set(all_words), row
    assert found[0][0] == found[1][0] == found[3][0] == ids["red"]


def test_a_text_that_no_row_has_is_empty(batches):
    note = batches["text"][0]["note"].numpy()
    assert note.shape[0] == 4 and not note.any()


def test_labels_stay_as_they_are(batches):
    labels = {name: (y.numpy().tolist(), y.dtype) for name, (_, y) in batches.items()}
    assert labels == {
        "text": ([1, 0, 0, 1], tf.int64),
        "meter-1": ([3.0, 4.5, 5.0], tf.float32),
        "scan": ([2, 0], tf.int64),
    }


def test_a_routes_rows_hold_nothing_of_the_others(transformed):
    for route, rows in transformed[1].items():
        for row in map(build.read_example, rows):
            foreign = {k: v for k, (_, v) in row.items() if v and not k.startswith(f"{route}/")}
            assert foreign == {}


def test_a_route_of_a_single_row_is_scaled_to_zero(tmp_path):
    table = RoutingTable(TABLE["meter-1"])
    (row,) = build.route_rows(table, RECORDS[4:5])["meter-1"]
    output, rows = build.transform(tmp_path / "t", table, {"meter-1": [row]})
    inputs = describe_inputs(Recipe("r", table), output, own_preprocessing=False)
    features, labels = parse_batch(tf.constant(rows["meter-1"]), table.routes[0], inputs["meter-1"])
    np.testing.assert_array_equal(features["value"], [[0.0, 0.0]])
    np.testing.assert_array_equal(labels, [3.0])
