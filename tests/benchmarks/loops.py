"""Measures `Trainer.run` against the fastest loops that can be written by hand, model by model.

    python tests/benchmarks/loops.py [--output FILE.json] [--rows NAME …] [--repeats 5]
        [--jax PYTHON] [--torch PYTHON]

Every model has two branches and an output layer that they share; batches of 256 rows come from
memory, Adam, the branches in turn. By hand: a loop of operations in one graph, and whole windows
compiled by XLA from stacked batches. Ratios are of medians of one run, in which the ways take
turns. What the library does and the others do not: it stops at a step that is not finite and
keeps its batch, writes loss and norm of each step, and asks a schedule whose turn it is.
`--jax` names a Python that has JAX and Keras, `--torch` one that has PyTorch.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from loop_rows import BATCH, ROWS, WINDOW, data_of

from branchline.components.branch_trainer import (
    BranchedModel,
    Embedding,
    Head,
    Path,
    Switch,
    Trainer,
)

layers = keras.layers


def stream(columns):
    """A dataset of batches, from memory."""
    return tf.data.Dataset.from_tensor_slices(columns).batch(BATCH, drop_remainder=True).cache()


def library(branches, steps, **options):
    """Returns a function that trains `steps` steps with `Trainer.run`."""
    names = ["a", "b"]
    model = BranchedModel(
        [
            Switch(
                "type", **{n: make(Embedding) for n, (_, make) in zip(names, branches, strict=True)}
            )
        ],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={name: Path(type=name) for name in names},
    )
    streams = {n: stream(c) for n, c in zip(names, data_of(branches), strict=True)}
    trainer = Trainer(model, streams=streams, steps=10**9, steps_per_loop=WINDOW, **options)

    def run():
        trainer.steps = trainer.history.step + steps
        trainer.history.stopped.clear()
        trainer.run()

    return run


def networks_of(branches, embedding=layers.Embedding):
    """Keras models that share their output layer, each with an Adam that is built."""
    shared = layers.Dense(1)
    for (_, make), columns in zip(branches, data_of(branches), strict=True):
        network = keras.Sequential([make(embedding), shared])
        network(columns[0][:1])
        optimizer = keras.optimizers.Adam()
        optimizer.build(network.trainable_variables)
        yield network, optimizer, columns


def update_of(network, optimizer, x, y):
    """One step, as Keras makes it."""
    variables = [v.value for v in network.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(network(x, training=True) - y))
    optimizer.apply(tape.gradient(loss, variables), network.trainable_variables)
    return loss


def operations(branches, steps):
    """The loop written out, in one graph."""

    def step(network, optimizer, iterator):
        return lambda: update_of(network, optimizer, *next(iterator))

    fns = [step(n, o, iter(stream(c).repeat())) for n, o, c in networks_of(branches)]

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)])
    def loop(routes):
        losses = tf.TensorArray(tf.float32, tf.size(routes))
        return tf.while_loop(
            lambda i, _: i < tf.size(routes),
            lambda i, a: (i + 1, a.write(i, tf.switch_case(routes[i], fns))),
            (0, losses),
            parallel_iterations=1,
        )[1].stack()

    parts = np.split(np.arange(steps, dtype=np.int32) % 2, steps // WINDOW)
    return lambda: [loop(part).numpy() for part in parts]


def compiled(branches, steps):
    """Windows of steps compiled by XLA; their batches are stacked by tf.data."""
    made = list(networks_of(branches))
    half = WINDOW // 2
    iterators = [
        iter(stream(c).repeat().batch(half, drop_remainder=True).prefetch(2)) for *_, c in made
    ]

    @tf.function(autograph=False, jit_compile=True)
    def window(stacks):
        def one(i, losses):
            fns = [
                lambda n=n, o=o, x=x, y=y: update_of(n, o, x[i // 2], y[i // 2])
                for (n, o, _), (x, y) in zip(made, stacks, strict=True)
            ]
            loss = tf.switch_case(i % 2, fns)
            return i + 1, tf.tensor_scatter_nd_update(losses, [[i]], [loss])

        return tf.while_loop(lambda i, _: i < WINDOW, one, (0, tf.zeros([WINDOW])))[1]

    def run():
        for _ in range(steps // WINDOW):
            window([next(iterator) for iterator in iterators]).numpy()

    return run


VERSIONS = {"tensorflow": tf.__version__, "keras": keras.__version__}


def elsewhere(python, script, row, *arguments):
    """Returns a function that trains the row in another process, by a script beside this one."""
    script = pathlib.Path(__file__).with_name(script)
    worker = subprocess.Popen(
        [python, str(script), row, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert worker.stdin and worker.stdout
    to, back = worker.stdin, worker.stdout
    name, _, version = back.readline().strip().partition(" ")
    if not name:
        raise SystemExit(f"{python} {script.name} did not start: has it what that imports?")
    VERSIONS[name] = version

    def run():
        to.write(f"{ROWS[row][0]}\n")
        to.flush()
        if not back.readline():
            raise SystemExit(f"{python} {script.name} ended early, in the row {row!r}")

    return run


COMPILES_BADLY = {"CNN 8×8×32×64"}  # 0.9 s a step on two cores, compiled in a loop


def ways_of(row, jax, torch):
    """Name → a function that makes what is timed.

    Args:
        row: Its name.
        jax: A Python that has JAX, or None.
        torch: A Python that has PyTorch, or None.
    """
    steps, branches = ROWS[row]
    ways = {
        "library": lambda: library(branches, steps),
        "operations by hand": lambda: operations(branches, steps),
    }
    if row not in COMPILES_BADLY:
        ways["library, compiled"] = lambda: library(branches, steps, jit_compile=True)
        ways["compiled by hand"] = lambda: compiled(branches, steps)
        if jax:
            ways["JAX"] = lambda: elsewhere(jax, "loops_jax.py", row)
    if torch:
        ways["PyTorch, eager"] = lambda: elsewhere(torch, "loops_torch.py", row)
        ways["PyTorch, compiled"] = lambda: elsewhere(torch, "loops_torch.py", row, "compiled")
    return ways


def measure(row, repeats, jax, torch):
    """Returns name of a way → ms a step, in each repetition."""
    steps = ROWS[row][0]
    fns = {name: make() for name, make in ways_of(row, jax, torch).items()}
    times = {name: [] for name in fns}
    for repetition in range(repeats + 1):
        for name, fn in fns.items():
            started = time.perf_counter()
            fn()
            if repetition:  # the first traces and compiles
                times[name].append((time.perf_counter() - started) / steps * 1e3)
    return times


def main():
    """Measures row by row; the ways of a row take turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="file for the figures, JSON")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--jax", metavar="PYTHON", help="a Python that has JAX and Keras")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has PyTorch")
    arguments = parser.parse_args()
    rows = {}
    for row in arguments.rows:
        times = measure(row, arguments.repeats, arguments.jax, arguments.torch)
        medians = {name: statistics.median(each) for name, each in times.items()}
        ours = min(ms for name, ms in medians.items() if name.startswith("library"))
        best = min(ms for name, ms in medians.items() if name.endswith("by hand"))
        rows[row] = {
            "ms a step": times,
            "speed, library / by hand, the better of each": best / ours,
        }
        for name, ms in medians.items():
            if not name.startswith("library") and not name.endswith("by hand"):
                rows[row][f"speed, library / {name}"] = ms / ours
        print(
            row,
            {name: round(ms, 3) for name, ms in medians.items()},
            f"{best / ours:.2f}",
            flush=True,
        )
        if arguments.output:
            write(rows, arguments.output)


def write(rows, output):
    """Writes the figures of rows, and keeps those of others that the file has."""
    found = {}
    if os.path.exists(output):
        with open(output) as file:
            found = json.load(file)["rows"]
    figures = {
        "rows": {row: (found | rows)[row] for row in ROWS if row in found | rows},
        "machine": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "versions": VERSIONS,
    }
    with open(output, "w") as file:
        json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # All is written; TensorFlow would wait for threads of its streams.
    os._exit(0)
