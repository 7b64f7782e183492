"""Reading routed examples as what the branches get, and streams made of the rows."""

import functools
import weakref
from typing import Any

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import Trainer
from branchline.components.branch_trainer.streams import read_rows as rows_module
from branchline.components.branch_trainer.streams import route_streams as module
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.components.branch_trainer.streams.read_rows import num_bytes, padded
from branchline.components.branch_trainer.streams.route_streams import (
    first_batches,
    shuffled_batches,
)
from branchline.components.transform.groups import output_name
from branchline.schemas import Target

TARGETS = {"y": Target("regression")}
INPUTS = {"x": Input((2,), "float32"), "w": Input((None,), "string")}


def records(count):
    """Rows whose features both tell the label: x = [y, -y], and w has y % 4 words."""
    return [
        {"x": [float(i), -float(i)], "y": float(i)} | ({"w": ["a"] * (i % 4)} if i % 4 else {})
        for i in range(count)
    ]


def label(labels):
    return (labels["y"],)


def some_rows(tmp_path, count, *, in_memory=True, ragged=True):
    inputs = INPUTS if ragged else {"x": INPUTS["x"]}
    path = tmp_path / "rows.gz"
    return build.plain_rows(path, records(count), inputs, TARGETS, in_memory=in_memory)


def stream(rows, tmp_path, **options):
    options = {"skip": 0, "batch_size": 3, "seed": 3, "labels_fn": label} | options
    return shuffled_batches(rows, cache_file=str(tmp_path / "cache"), **options)


def taken(batches):
    """The labels of batches as one, once each row is seen to have its own features."""
    labels = []
    for features, of_batch in batches:
        of_batch = np.array(of_batch)
        np.testing.assert_array_equal(features["x"], np.stack([of_batch, -of_batch], axis=1))
        if "w" in features:
            words = [[w for w in row if w] for row in np.array(features["w"])]
            assert [len(row) for row in words] == [int(i) % 4 for i in of_batch]
        labels.append(of_batch)
    return np.concatenate(labels)


KINDS = pytest.mark.parametrize("ragged", [True, False], ids=["ragged", "dense"])
PLACES = pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "disk"])


@KINDS
@PLACES
def test_every_epoch_holds_every_row_once_with_its_features_in_another_order(
    tmp_path, in_memory, ragged
):
    rows = some_rows(tmp_path, 7, in_memory=in_memory, ragged=ragged)
    batches = list(stream(rows, tmp_path, skip=2).take(20))
    assert all(len(y) == 3 for _, y in batches)
    epochs = taken(batches).reshape(-1, 5)
    assert all(sorted(epoch) == [2, 3, 4, 5, 6] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 6


@KINDS
@PLACES
def test_a_stream_goes_on_where_it_was_left_and_another_seed_gives_another(
    tmp_path, in_memory, ragged
):
    rows = some_rows(tmp_path, 7, in_memory=in_memory, ragged=ragged)

    def labels(folder, seed=3, skip=0):
        (tmp_path / folder).mkdir()
        keras.utils.set_random_seed(0)
        return taken(stream(rows, tmp_path / folder, seed=seed).skip(skip).take(9 - skip))

    first = labels("a")
    np.testing.assert_array_equal(labels("b", skip=4), first[12:])
    assert labels("c", seed=4).tolist() != first.tolist()


@KINDS
@PLACES
@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_may_be_larger_than_all_the_rows(tmp_path, in_memory, ragged, count):
    rows = some_rows(tmp_path, count, in_memory=in_memory, ragged=ragged)
    batches = list(stream(rows, tmp_path, batch_size=5).take(4))
    labels = taken(batches)
    assert labels.shape == (20,)
    assert all(sorted(epoch) == list(range(count)) for epoch in labels.reshape(-1, count))


def test_rows_in_memory_have_many_orders(tmp_path):
    """Orders of three rows, by a pseudo-random permutation of their numbers: all six occur."""
    rows = some_rows(tmp_path, 3, ragged=False)
    epochs = taken(stream(rows, tmp_path).take(300)).reshape(-1, 3)
    counts = np.unique(epochs, axis=0, return_counts=True)[1]
    assert len(counts) == 6 and counts.min() > 20


@KINDS
def test_rows_that_do_not_fit_are_transformed_in_the_first_epoch_only(tmp_path, ragged):
    rows = some_rows(tmp_path, 10, in_memory=False, ragged=ragged)
    parsed = tf.Variable(0)

    def parse(serialized):
        parsed.assign_add(tf.size(serialized))
        return rows.parse_fn(serialized)

    batches = stream(rows._replace(parse_fn=parse), tmp_path, skip=1)
    looked = int(parsed)
    epochs = taken(batches.take(12)).reshape(4, 9)
    assert all(sorted(epoch) == list(range(1, 10)) for epoch in epochs)
    assert int(parsed) - looked == 9


def test_a_buffer_smaller_than_the_rows_still_gives_each_once_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BUFFER", 1)
    rows = some_rows(tmp_path, 100, in_memory=False)
    epochs = taken(stream(rows, tmp_path, batch_size=5).take(60)).reshape(3, 100)
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)
    assert epochs[1].tolist() != epochs[2].tolist()


def test_first_batches_give_the_first_rows_once_and_in_order(tmp_path):
    rows = some_rows(tmp_path, 9)
    for _ in range(2):
        batches = list(first_batches(rows, take=7, batch_size=3, labels_fn=label))
        assert [len(y) for _, y in batches] == [3, 3, 1]
        np.testing.assert_array_equal(taken(batches), np.arange(7))


def test_training_on_disk_is_resumed_exactly(tmp_path, typed_model):
    """Cut off in the middle of the first epoch, and of the third."""
    targets = {"y": Target("regression")}
    of_path = {
        "vector": {"x": Input((4,), "float32")},
        "token": {"x": Input((1,), "int64")},
    }
    values = {
        "vector": lambda i: [float(i), 1.0, -float(i), 0.5],
        "token": lambda i: i % 6,
    }

    def train(name, steps):
        folder = tmp_path / f"{name}-{steps}"
        folder.mkdir()
        model = typed_model()
        keras.utils.set_random_seed(3)
        streams = {}
        for path, inputs in of_path.items():
            made = [{"x": values[path](i), "y": float(i % 5)} for i in range(8)]
            rows = build.plain_rows(folder / f"{path}.gz", made, inputs, targets, in_memory=False)
            batches = shuffled_batches(
                rows,
                skip=1,
                batch_size=2,
                seed=0,
                labels_fn=lambda labels: (labels["y"][:, None],),
                cache_file=str(folder / path),
            )
            streams[path] = batches.map(lambda x, y: (x["x"], y)).prefetch(2)
        trainer = Trainer(
            model,
            streams=streams,
            steps=steps,
            steps_per_loop=3,
            checkpoint_dir=tmp_path / name,
        )
        trainer.run()
        return [np.array(v) for v in model.variables]

    train("cut", 3)
    train("cut", 18)
    for whole, resumed in zip(train("whole", 26), train("cut", 26), strict=True):
        np.testing.assert_array_equal(whole, resumed)


# The real thing: routed examples, the default Transform, all kinds of feature.


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    files = {
        name: [
            build.write_rows(folder / f"{name}-{i}.gz", part)
            for i, part in enumerate((rows[:2], rows[2:]))
        ]
        for name, rows in build.mixed().routed.items()
    }
    reader, inputs = build.reader(build.MIXED_TABLE, build.mixed().output)
    return reader, inputs, files


def materialised(route, key, width):
    """What Transform itself wrote of a feature, dense and filled with 0."""
    table = build.MIXED_TABLE
    name = output_name(table, route, key)
    values = [build.read_example(row)[name][1] for row in build.mixed().rows[route]]
    return [row + [0] * (width - len(row)) for row in values]


def test_features_are_what_transform_would_have_written(real):
    reader, inputs, files = real
    read = reader.read(files, 1 << 20)
    for route in build.MIXED_TABLE.routes:
        rows = read[route.name]
        assert rows.count == len(build.mixed().rows[route.name])
        for key in inputs[route.name]:
            found = rows.features[key]
            assert isinstance(found, tf.RaggedTensor) == (None in inputs[route.name][key].shape)
            dense = found.to_tensor() if isinstance(found, tf.RaggedTensor) else found
            flat = np.reshape(dense, [rows.count, -1])
            want = materialised(route.name, key, flat.shape[1])
            np.testing.assert_allclose(flat, want, rtol=1e-6, err_msg=f"{route.name} {key}")


def test_labels_are_the_raw_ones_and_in_order(real):
    reader, _, files = real
    found = {
        name: next(iter(rows.labels.values())).numpy().tolist()
        for name, rows in reader.read(files, 1 << 20).items()
    }
    assert found == {"text": [1, 0, 0, 1], "meter-1": [3, 4.5, 5], "scan": [2, 0]}


def test_f35_what_does_not_fit_the_budget_is_left_on_disk_and_streams_the_same(real, tmp_path):
    reader, inputs, files = real
    for name in build.MIXED_TABLE.names:
        own = {name: files[name]}
        all_of_it = reader.read(own, 1 << 20)[name]
        size = num_bytes(all_of_it.features)
        assert reader.read(own, size)[name].features is not None
        on_disk = reader.read(own, size - 1)[name]
        assert on_disk.features is None and on_disk.count == all_of_it.count
        np.testing.assert_array_equal(
            next(iter(on_disk.labels.values())), next(iter(all_of_it.labels.values()))
        )
        made = functools.partial(
            shuffled_batches,
            skip=0,
            batch_size=all_of_it.count,
            seed=1,
            labels_fn=lambda labels: (next(iter(labels.values())),),
        )
        rows = {}
        for where, source in {"memory": all_of_it, "disk": on_disk}.items():
            features, labels = next(iter(made(source, cache_file=str(tmp_path / f"{name}{where}"))))
            order = np.argsort(labels, kind="stable")
            if len(set(np.array(labels).tolist())) == len(order):
                rows[where] = {key: np.array(features[key])[order] for key in inputs[name]}
        if rows:
            tf.nest.map_structure(np.testing.assert_allclose, rows["memory"], rows["disk"])


def test_a_route_without_files_has_no_rows(real):
    rows = real[0].read({"text": []}, 1 << 20)["text"]
    assert (rows.count, rows.features) == (0, None) and list(rows.labels) == ["good"]


def test_a_route_that_does_not_fit_leaves_the_room_to_those_behind_it(real):
    reader, _, files = real
    sizes = {name: num_bytes(r.features) for name, r in reader.read(files, 1 << 20).items()}
    largest = max(sizes, key=sizes.__getitem__)
    room = sum(sizes.values()) - sizes[largest]
    rows = reader.read({largest: files[largest]} | files, room)
    assert [name for name in files if rows[name].features is None] == [largest]


def test_f35_rows_are_parsed_by_their_bytes():
    """Of pictures, 224 × 224 × 3 in float32, few at a time; of numbers, many."""
    picture, number = Input((224, 224, 3), "float32"), Input((1,), "float32")
    assert rows_module._rows_at_a_time({"small": {"n": number}}) == 4096
    assert rows_module._rows_at_a_time({"small": {"n": number}, "r": {"p": picture}}) == 111
    assert num_bytes({"p": tf.zeros([2, 224, 224, 3])}) == 2 * 224 * 224 * 3 * 4


def test_f35_rows_are_not_in_memory_twice_once_they_are_joined(real, monkeypatch):
    reader, _, files = real
    monkeypatch.setattr(rows_module, "BATCH", 1)  # so that there is something to join
    seen, alive, join = [], [], rows_module._concat

    def watched(parts):
        flat = tf.nest.flatten(parts, expand_composites=True)
        seen.extend(weakref.ref(each) for each in flat if isinstance(each, tf.Tensor))
        del flat
        joined = join(parts)
        alive.append(sum(part() is not None for part in seen))
        return joined

    want = {name: rows.count for name, rows in reader.read(files, 1 << 20).items()}
    monkeypatch.setattr(rows_module, "_concat", watched)
    found = reader.read(files, 1 << 20)
    assert {name: rows.count for name, rows in found.items()} == want
    assert len(seen) > len(alive) > 3 and max(alive) <= 2, alive  # the last that was parsed


def test_f35_rows_on_disk_are_watched_from_disk_and_large_ones_few_at_a_time(tmp_path, monkeypatch):
    rows = some_rows(tmp_path, 9, in_memory=False, ragged=False)
    monkeypatch.setattr(module, "_WATCHED_BYTES", 4 * 2 * 4)
    cache = tmp_path / "watched"
    watched = first_batches(rows, take=7, batch_size=1024, labels_fn=label, cache_file=str(cache))
    for _ in range(2):
        assert [len(y) for _, y in watched] == [4, 3]
        assert taken(watched).tolist() == list(range(7))
    assert list(tmp_path.glob("watched*"))


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 4096])
def test_rows_are_those_of_their_route_however_they_fall_into_batches(real, batch, monkeypatch):
    reader, _, files = real
    want = {name: reader.read({name: of}, 1 << 20)[name] for name, of in files.items()}
    monkeypatch.setattr(rows_module, "BATCH", batch)
    traced: Any = rows_module.batches_of
    monkeypatch.setattr(rows_module, "batches_of", tf.function(traced.python_function))
    for name, rows in reader.read(files, 1 << 20).items():
        assert rows.count == want[name].count
        tf.nest.map_structure(
            lambda found, due: np.testing.assert_array_equal(padded(found), padded(due)),
            (rows.features, rows.labels),
            (want[name].features, want[name].labels),
        )


def test_one_function_parses_for_all_routes(real):
    reader, _, files = real
    reader.read(files, 1 << 20)
    for name in build.MIXED_TABLE.names:
        reader.read({name: files[name]}, 1 << 20)
    assert reader._parse.experimental_get_tracing_count() == 1
