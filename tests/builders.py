"""Builds raw examples on the wire, files of records, and the artifacts of the steps before."""

import gzip
import json

import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from branchline.components.artifacts import Quarantine


def feature(values):
    """A tf.train.Feature of one Python value or a list of one type; [] is a feature without any."""
    values = values if isinstance(values, list) else [values]
    if not values:
        return tf.train.Feature()
    if isinstance(values[0], str | bytes):
        texts = [v.encode() if isinstance(v, str) else v for v in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def example(record):
    """Serializes a dict of key → value or list of values."""
    made = {key: feature(values) for key, values in record.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString(
        deterministic=True
    )


def read_example(serialized):
    """Key → (kind, list of values), kind "string", "float" or "int"; None for no value."""
    kinds = {"bytes_list": "string", "float_list": "float", "int64_list": "int", None: None}
    read = {}
    for key, value in tf.train.Example.FromString(serialized).features.feature.items():
        kind = value.WhichOneof("kind")
        read[key] = (kinds[kind], list(getattr(value, kind).value) if kind else [])
    return read


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def examples_artifact(root, splits):
    """An Examples artifact of split → list of serialized examples, as two files each."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(root)
    artifact.split_names = artifact_utils.encode_split_names(sorted(splits))
    for split, rows in splits.items():
        folder = root / f"Split-{split}"
        folder.mkdir(parents=True)
        for number, part in enumerate((rows[::2], rows[1::2])):
            with tf.io.TFRecordWriter(str(folder / f"part-{number}.gz"), "GZIP") as writer:
                for row in part:
                    writer.write(row)
    return artifact


def empty_artifact(kind, root):
    artifact = kind()
    artifact.uri = str(root)
    return artifact


def read_split(artifact, split):
    """The serialized examples of one split."""
    files = tf.io.gfile.glob(artifact_utils.get_split_uri([artifact], split) + "/*")
    dataset = tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")
    return [row.numpy() for row in dataset]


def quarantine_artifact(root, counts):
    """A Quarantine artifact with these counts and no records."""
    root.mkdir(parents=True)
    (root / "counts.json").write_text(json.dumps(counts))
    return empty_artifact(Quarantine, root)


def read_quarantine(root):
    """The lines and the counts of a Quarantine artifact's directory."""
    lines = []
    for path in sorted(root.glob("records-*.jsonl.gz")):
        lines += [json.loads(line) for line in gzip.open(path, "rt")]
    return lines, json.loads((root / "counts.json").read_text())
