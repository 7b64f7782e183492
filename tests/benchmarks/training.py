"""Measures training speed: the library against the same model trained in other ways.

    python tests/benchmarks/training.py [--output FILE.json] [--repeats 5] [--only TEXT]

The model: float vectors (10 → 16) and ids (100 → 16), a shared output layer, batch 256, Adam.
The two ways of a ratio are measured one right after the other; the ratio is the median of those
of the repeats. Other models, and other libraries, are in loops.py.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from training_by_library import (
    WHOLE,
    WIDE_STEPS,
    library,
    mixed_batches,
    rows_of_files,
    whole_training,
    wide,
)
from training_by_others import PER_EXAMPLE, by_hand, per_example, two_fits, where_fit
from training_data import BATCH, STEPS

COMPILED = "library, compiled"
WHERE = "Keras fit with where, 50 steps per execution"
WAYS = {
    "library": library,
    COMPILED: lambda: library(jit_compile=True),
    "library, whole training": whole_training,
    "library, whole training, watched": lambda: whole_training(is_watched=True),
    "hand-written in-graph loop": by_hand,
    "two Keras fits": two_fits,
    "Keras fit with where": where_fit,
    WHERE: lambda: where_fit(steps_per_execution=50),
    "loop over examples": per_example,
    # Of few batches: where those of 64 branches lie in memory is not what is measured.
    "library, 2 branches": lambda: library(count=8),
    "library, 64 branches": lambda: library(num_branches=64, count=8),
    "library, 64 branches, 2 of them trained": lambda: library(num_branches=64, used=2, count=8),
    "library, vocabulary 10 000": lambda: library(vocabulary=10_000),
    "library, vocabulary 1 000 000": lambda: library(vocabulary=1_000_000),
    "library, rows of files, shuffled": rows_of_files,
    "library, mixed batches": mixed_batches,
    "library, wide": wide,
    "library, wide, gate for a quarter": lambda: wide(share=0.25),
}
EXAMPLES = {
    "loop over examples": PER_EXAMPLE,
    "library, wide": WIDE_STEPS * BATCH,
    "library, wide, gate for a quarter": WIDE_STEPS * BATCH,
    "library, whole training": WHOLE * BATCH,
    "library, whole training, watched": WHOLE * BATCH,
}
RATIOS = {  # name: (examples/s of …, over examples/s of …, the least or greatest aimed at)
    "speed, library / loop over examples": ("library", "loop over examples", "≥ 300"),
    "speed, library / Keras fit with where": ("library", "Keras fit with where", ""),
    "speed, compiled / two Keras fits": (COMPILED, "two Keras fits", "≥ 2"),
    "speed, compiled / Keras fit with where, 50 steps": (COMPILED, WHERE, "≥ 3"),
    "speed, library / hand-written loop": ("library", "hand-written in-graph loop", ""),
    "speed, watched / not": (
        "library, whole training, watched",
        "library, whole training",
        "≥ 0.9",
    ),
    "speed, shuffled rows / cached batches": (
        "library, rows of files, shuffled",
        "library",
        "≥ 0.9",
    ),
    "speed, mixed / uniform batches": ("library, mixed batches", "library", "≥ 0.8"),
    "step time, gate for a quarter / no gate": (
        "library, wide",
        "library, wide, gate for a quarter",
        "",
    ),
    "step time, 64 / 2 branches": ("library, 2 branches", "library, 64 branches", "≤ 1.1"),
    "step time, 2 of 64 / 2 of 2 branches": (
        "library, 2 branches",
        "library, 64 branches, 2 of them trained",
        "≤ 1.1",
    ),
    "step time, vocabulary 1 000 000 / 10 000": (
        "library, vocabulary 10 000",
        "library, vocabulary 1 000 000",
        "≤ 1.2",
    ),
}


def main():
    """Measures the two ways of each ratio in turn, so that a busy moment hits both alike."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="file for the figures, JSON")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", metavar="TEXT", help="ratios whose name has it")
    arguments = parser.parse_args()
    pairs = {name: pair for name, pair in RATIOS.items() if arguments.only in name}
    ways = {way for pair in pairs.values() for way in pair[:2]}
    run_fns = {way: make() for way, make in WAYS.items() if way in ways}
    rates = {way: [] for way in run_fns}
    found = {name: [] for name in pairs}
    for _ in range(arguments.repeats):
        for name, (a, b, _) in pairs.items():
            of_pair = [_rate(way, run_fns[way]) for way in (a, b)]
            rates[a].append(of_pair[0])
            rates[b].append(of_pair[1])
            found[name].append(of_pair[0] / of_pair[1])
    for way, of_way in rates.items():
        spread = f"{min(of_way):,.0f} – {max(of_way):,.0f}"
        print(f"{way:46} {statistics.median(of_way):12,.0f} examples/s  ({spread})")
    ratios = {
        name: {"ratio": statistics.median(of), "each": of, "aim": pairs[name][2]}
        for name, of in found.items()
    }
    for name, of in ratios.items():
        spread = f"{min(of['each']):.2f} – {max(of['each']):.2f}"
        print(f"{name:50} {of['ratio']:8.2f}  ({spread})  {of['aim']}")
    if arguments.output:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine()}
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        figures = {"examples_per_second": rates, "ratios": ratios}
        with open(arguments.output, "w") as file:
            json.dump({**figures, "machine": machine, "versions": versions}, file, indent=1)


def _rate(way, run_fn):
    """Examples per second of one run of a way."""
    started = time.perf_counter()
    run_fn()
    return EXAMPLES.get(way, STEPS * BATCH) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written. Left to end by itself, TensorFlow waits for a thread of every stream, which
    # has taken minutes.
    os._exit(0)
