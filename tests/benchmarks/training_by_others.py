"""The ways of training.py that do without the library: each returns a function that trains on."""

import keras
import numpy as np
import tensorflow as tf
from training_data import STEPS, batches, ids_branch, stream

layers = keras.layers
PER_EXAMPLE = 200  # steps, of an example each


def by_hand():
    """The same in-graph loop written out without the library."""
    shared = layers.Dense(1)
    branches = {"vector": layers.Dense(16, "relu"), "ids": ids_branch()}
    steps = []
    for path, columns in batches().items():
        network = keras.Sequential([branches[path], shared])
        network(columns[0][:1])
        optimizer = keras.optimizers.Adam()
        optimizer.build(network.trainable_variables)
        iterator = iter(stream(columns).repeat())
        steps.append(_hand_written_step(network, optimizer, iterator))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)])
    def loop(routes):
        losses = tf.TensorArray(tf.float32, tf.size(routes))
        return tf.while_loop(
            lambda i, _: i < tf.size(routes),
            lambda i, a: (i + 1, a.write(i, tf.switch_case(routes[i], steps))),
            (0, losses),
            parallel_iterations=1,
        )[1].stack()

    routes = np.arange(STEPS, dtype=np.int32) % 2
    loop(routes)
    return lambda: [loop(part) for part in np.split(routes, 20)]


def _hand_written_step(network, optimizer, iterator):
    variables = [v.value for v in network.trainable_variables]

    def step():
        x, y = next(iterator)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(network(x, training=True) - y))
        optimizer.apply(tape.gradient(loss, variables), network.trainable_variables)
        return loss

    return step


def per_example():
    """A tape loop in Python, example by example, as the published sketches have it."""
    shared = layers.Dense(1)
    branches = {"vector": layers.Dense(16, "relu"), "ids": ids_branch()}
    columns = batches()
    networks = {path: keras.Sequential([branches[path], shared]) for path in columns}
    for path, network in networks.items():
        network(columns[path][0][:1])
    every = [*branches["vector"].variables, *branches["ids"].variables, *shared.variables]
    optimizer = keras.optimizers.Adam()
    optimizer.build(every)

    def run():
        for i in range(PER_EXAMPLE):
            path = ("vector", "ids")[i % 2]
            x, y = (column[i : i + 1] for column in columns[path])
            variables = networks[path].trainable_variables
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(networks[path](x, training=True) - y))
            gradients = tape.gradient(loss, [v.value for v in variables])
            optimizer.apply(gradients, variables)

    run()
    return run


def two_fits():
    """Two separate Keras models, each with its own fit, 50 steps per execution."""
    models = []
    for path, columns in batches().items():
        branch = layers.Dense(16, "relu") if path == "vector" else ids_branch()
        model = keras.Sequential([branch, layers.Dense(1)])
        model.compile("adam", "mse", steps_per_execution=50)
        data = stream(columns).repeat()
        model.fit(data, steps_per_epoch=50, verbose=0)
        models.append((model, data))
    return lambda: [m.fit(d, steps_per_epoch=STEPS // 2, verbose=0) for m, d in models]


def where_fit(**compile_options):
    """One Keras model that computes both branches on every row and selects with where."""
    columns = batches()
    vector, ids, kind = keras.Input([10]), keras.Input([1], dtype="int64"), keras.Input([1])
    both = keras.ops.where(
        keras.ops.greater(kind, 0), layers.Dense(16, "relu")(vector), ids_branch()(ids)
    )
    model = keras.Model([vector, ids, kind], layers.Dense(1)(both))
    model.compile("adam", "mse", **compile_options)
    x, y = columns["vector"]
    of_row = (np.arange(len(x)) % 2).astype(np.float32)[:, None]
    data = stream(((x, columns["ids"][0], of_row), y)).repeat()
    model.fit(data, steps_per_epoch=50, verbose=0)
    return lambda: model.fit(data, steps_per_epoch=STEPS, verbose=0)
