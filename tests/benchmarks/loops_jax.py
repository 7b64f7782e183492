"""A row of loops.py in JAX: windows of steps in one `lax.scan`, compiled.

Its argument is the row's name. Trains as many steps as each line of input says.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"

import jax  # pyright: ignore[reportMissingImports]
import keras
from loop_rows import BATCH, NUM_BATCHES, ROWS, WINDOW, data_of


def networks_of(branches):
    """Keras models that share their output layer, each with an Adam, and their stacked batches."""
    shared = keras.layers.Dense(1)
    for (_, make), columns in zip(branches, data_of(branches), strict=True):
        network = keras.Sequential([make(keras.layers.Embedding), shared])
        network(columns[0][:1])
        optimizer = keras.optimizers.Adam()
        optimizer.build(network.trainable_variables)
        stacked = [c.reshape([NUM_BATCHES, BATCH, *c.shape[1:]]) for c in columns]
        yield network, optimizer, jax.device_put(stacked)


def window_of(made):
    """Returns (state, first step) → state, the losses of a window; and the first state.

    The state has the value of each variable once, by its place among all.
    """
    variables = {}
    for network, optimizer, _ in made:
        for variable in [*network.variables, *optimizer.variables]:
            variables[id(variable)] = variable
    place = {key: number for number, key in enumerate(variables)}

    def step(network, optimizer, stacked, state, batch):
        x, y = (part[batch] for part in stacked)
        kinds = (
            network.trainable_variables,
            network.non_trainable_variables,
            optimizer.variables,
        )
        weights, others, slots = ([state[place[id(v)]] for v in kind] for kind in kinds)

        def loss_fn(weights):
            outputs, changed = network.stateless_call(weights, others, x, training=True)
            return jax.numpy.mean((outputs - y) ** 2), changed

        (loss, others), gradient = jax.value_and_grad(loss_fn, has_aux=True)(weights)
        weights, slots = optimizer.stateless_apply(slots, gradient, weights)
        state = list(state)
        for kind, values in zip(kinds, (weights, others, slots), strict=True):
            for variable, value in zip(kind, values, strict=True):
                state[place[id(variable)]] = value
        return state, loss

    fns = [lambda s, b, made=each: step(*made, s, b) for each in made]

    def one(state, i):
        return jax.lax.switch(i % 2, fns, state, i // 2 % NUM_BATCHES)

    @jax.jit
    def window(state, first):
        return jax.lax.scan(one, state, first + jax.numpy.arange(WINDOW))

    return window, [variable.value for variable in variables.values()]


def main():
    """Reads a number of steps from every line, trains, and answers with a line."""
    window, state = window_of(list(networks_of(ROWS[sys.argv[1]][1])))
    print("jax", jax.__version__, flush=True)
    step = 0
    for line in sys.stdin:
        for _ in range(int(line) // WINDOW):
            state, losses = window(state, step)
            jax.device_get(losses)
            step += WINDOW
        print("done", flush=True)


if __name__ == "__main__":
    main()
