"""Lays out the mixed pipelines as on a user's machine: modules, records, and what imports them."""

import csv
import importlib
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from tfx.orchestration.pipeline import Pipeline

from branchline.pipeline.local import BEAM_ARGS

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "how-to" / "components-in-your-pipeline.md"


def examples() -> list[str]:
    """The documentation's pipeline, its Resolver, its BaselineFinder, and its Evaluator."""
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def lay_out(folder: Path, module: str) -> Path:
    """Writes a pipeline's module, those it imports, and its records."""
    for path in (TESTS / "pipeline" / "mixed_pipelines").glob("*.py"):
        shutil.copy(path, folder)
    pipeline, _, _, judge = examples()
    (folder / "my_pipeline.py").write_text(pipeline)
    (folder / "judge.py").write_text(judge)
    (write_mail if module == "mail" else write_rows)(folder)
    return folder


@contextmanager
def pipeline_of(folder: Path, module: str, **options) -> Iterator[Pipeline]:
    """The pipeline of a module in `folder`, which can be imported meanwhile."""
    sys.path.insert(0, str(folder))
    argv, sys.argv = sys.argv, sys.argv[:1]  # TFX's Beam executors parse them
    try:
        components = importlib.import_module(module).components
        yield Pipeline(
            pipeline_name=module.replace("_", "-"),
            pipeline_root=str(folder / "pipeline"),
            components=components(str(folder / "data"), str(folder)),
            beam_pipeline_args=list(BEAM_ARGS),
            **options,
        )
    finally:
        sys.argv = argv
        sys.path.remove(str(folder))
        for name in (module, "judge"):
            sys.modules.pop(name, None)


def write_rows(folder):
    """Writes 300 rows of two kinds, which have different labels."""
    (folder / "data").mkdir()
    with open(folder / "data" / "rows.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["kind", "colour", "x", "z", "y", "bad"])
        writer.writeheader()
        for i in range(300):
            x, z = (i * 7 % 31) / 31, (i * 5 % 17) / 17
            label = {"y": 3 * x - z} if i % 3 else {"bad": int(x > 0.5)}
            row = {"kind": "up" if i % 3 else "down", "colour": ["red", "blue"][i % 2]}
            writer.writerow(row | {"x": x, "z": z} | label)


def mail_example(number, **features):
    """An example that says by `_source` and `_offset` where it came from, as ours never do."""
    example = tf.train.Example()
    features |= {"_source": [b"mailbox"], "_offset": [number]}
    for key, values in features.items():
        feature = example.features.feature[key]
        kinds = {bytes: feature.bytes_list, int: feature.int64_list, float: feature.float_list}
        kinds[type(values[0])].value.extend(values)
    return example.SerializeToString()


def write_mail(folder):
    """Writes 300 TFRecords of two kinds, one of none, and what a tuner found."""
    (folder / "data").mkdir()
    (folder / "tuned").mkdir()
    found = {"space": [], "values": {"learning_rate": 1e-4, "batch_size": 16}}
    (folder / "tuned" / "best_hyperparameters.txt").write_text(json.dumps(found))
    with tf.io.TFRecordWriter(str(folder / "data" / "mail.tfrecord")) as writer:
        writer.write(mail_example(-1, what=[b"unknown"]))
        for i in range(300):
            if i % 2:
                urgent = i % 4 == 1
                words = b"fire now please" if urgent else b"maybe later please"
                kept = {"message": [b"%s %d" % (words, i % 7)], "urgent": [int(urgent)]}
            else:
                readings = [math.sin(i), math.cos(i), 0.5]
                kept = {"kind": [b"meter"], "readings": readings, "days": [3 * math.sin(i)]}
            writer.write(mail_example(i, **kept))
