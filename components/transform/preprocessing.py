"""The preprocessing that a recipe gets when it brings none: by kind of feature, route by route.

What is learnt from data (means, ranges, vocabularies) is learnt from a route's own rows. The rows
of other routes hold nothing under a route's outputs, so these are sparse.
"""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.user_code import load_function
from branchline.schemas import Categorical, Feature, Ids, Image, Numeric, Text, from_json

Inputs = dict[str, tf.Tensor | tf.SparseTensor]


def output_name(route: str, key: str) -> str:
    """Names what is made of the field `key` for the branch of `route`.

    >>> output_name("text", "message")
    'text/message'
    """
    return f"{route}/{key}"


def vocabulary_name(route: str, position: int) -> str:
    """Names the vocabulary file of the feature at `position` of `route`."""
    return f"vocabulary-{route}-{position}"


def preprocessing_fn(inputs: Inputs, custom_config: dict[str, Any]) -> Inputs:
    """Preprocesses a batch of routed examples, for TFX's Transform.

    Args:
        inputs: Column of the routed examples → its values; `_route` among them.
        custom_config: "routing", a routing table as JSON; "recipe_file", the path of a recipe that
            has a `preprocessing_fn` of its own, or "".

    Returns:
        `<route>/<feature>` → the transformed feature, and `<route>/<label>` → each label as it is.
    """
    table = from_json(custom_config["routing"])
    taken = tf.sparse.to_dense(_sparse(inputs["_route"]), default_value="")[:, 0]
    outputs: Inputs = {}
    if custom_config["recipe_file"]:
        own_fn = load_function(custom_config["recipe_file"], "preprocessing_fn")
        outputs |= own_fn({name: value for name, value in inputs.items() if name != "_route"})
    for route in table.routes:
        mine = tf.equal(taken, route.name)
        for position, (key, kind) in enumerate(route.features.items()):
            if not custom_config["recipe_file"]:
                rows = _Rows(inputs[table.column(route.name, key)], mine)
                name = vocabulary_name(route.name, position)
                outputs[output_name(route.name, key)] = _transform(kind, rows, name)
        for key in route.labels:
            label = _Rows(inputs[table.column(route.name, key)], mine)
            outputs.setdefault(output_name(route.name, key), label.sparse)
    return outputs


class _Rows:
    """One column's values in the rows of one route that have some."""

    def __init__(self, values: tf.Tensor | tf.SparseTensor, mine: tf.Tensor) -> None:
        sparse = _sparse(values)
        self.sparse = tf.sparse.retain(sparse, tf.gather(mine, sparse.indices[:, 0]))
        self.batch = sparse.dense_shape[0]

    def dense(self, width: int) -> tf.Tensor:
        """The values [rows, width]; the rows are those that hold some."""
        return tf.reshape(self.sparse.values, [-1, width])

    def spread(self, values: tf.Tensor, width: int) -> tf.SparseTensor:
        """Puts values [rows, width] back into their rows of the batch."""
        return tf.SparseTensor(
            self.sparse.indices, tf.reshape(values, [-1]), tf.stack([self.batch, width])
        )


def _sparse(values: tf.Tensor | tf.SparseTensor) -> tf.SparseTensor:
    if isinstance(values, tf.SparseTensor):
        return values
    flat = tf.reshape(values, [tf.shape(values)[0], -1])
    everywhere = tf.where(tf.ones_like(flat, tf.bool))
    shape = tf.shape(flat, out_type=tf.int64)
    return tf.SparseTensor(everywhere, tf.reshape(flat, [-1]), shape)


def _transform(kind: Feature, rows: _Rows, name: str) -> tf.SparseTensor:
    if isinstance(kind, Numeric):
        values = rows.dense(kind.num_values)
        return rows.spread(tft.scale_to_z_score(values, elementwise=True), kind.num_values)
    if isinstance(kind, Image):
        return rows.spread(tft.scale_to_0_1(rows.dense(kind.num_values)), kind.num_values)
    if isinstance(kind, Categorical):
        ids = tft.compute_and_apply_vocabulary(
            rows.dense(1), top_k=kind.max_values, num_oov_buckets=1, vocab_filename=name
        )
        return rows.spread(ids + 1, 1)  # 0 stands for a missing value
    if isinstance(kind, Text):
        return _text(kind, rows, name)
    if isinstance(kind, Ids):
        return rows.sparse
    raise TypeError(f"no preprocessing for {kind!r}")


def _text(kind: Text, rows: _Rows, name: str) -> tf.SparseTensor:
    lower = tf.strings.lower(rows.sparse.values, encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(lower, r"[^\p{L}\p{N}]+", " "))
    if kind.ngrams > 1:
        words = tft.ngrams(words.to_sparse(), (1, kind.ngrams), separator=" ")
    else:
        words = words.to_sparse()
    ids = tft.compute_and_apply_vocabulary(
        words, top_k=kind.max_words, num_oov_buckets=1, vocab_filename=name
    )
    kept = tf.sparse.retain(ids, ids.indices[:, 1] < kind.length)
    row = tf.gather(rows.sparse.indices[:, 0], kept.indices[:, 0])  # of the batch
    indices = tf.stack([row, kept.indices[:, 1]], axis=1)
    return tf.SparseTensor(indices, kept.values + 1, tf.stack([rows.batch, kind.length]))
