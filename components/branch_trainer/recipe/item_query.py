"""Retrieval: the head that looks for items, and its loss over the items of a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.contrastive_loss import ContrastiveLoss
from branchline.components.branch_trainer.model.embedding import Embedding
from branchline.components.branch_trainer.recipe.check_heads import head_of
from branchline.components.branch_trainer.streams.read_rows import Rows
from branchline.schemas import RoutingTable


@keras.saving.register_keras_serializable(package="branchline")
class ItemQuery(keras.layers.Layer):
    """Makes a query of an example, to be compared with a vector of each item by their product.

    Args:
        num_items: How many items there are.
        width: Of queries and vectors.
        **layer: Arguments of every Keras layer.

    Source: Covington, Adams and Sargin 2016, "Deep neural networks for YouTube recommendations".
    """

    def __init__(self, num_items: int, width: int, **layer: Any) -> None:
        super().__init__(**layer)
        self.num_items, self.width = num_items, width
        self.query = keras.layers.Dense(width, name="query")
        self.items = Embedding(num_items, width, name="items")

    def build(self, input_shape: Any) -> None:
        """Makes the weights: of the query, and the items' vectors [num_items, width]."""
        self.query.build(input_shape)
        self.items.build((None,))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns queries [batch, width].

        Args:
            inputs: [batch, any width].
        """
        return self.query(inputs)

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns how well each item fits, float32 [batch, num_items]: the logits of a softmax.

        Args:
            queries: [batch, width].
        """
        vectors = tf.cast(tf.convert_to_tensor(self.items.embeddings), tf.float32)
        return tf.matmul(tf.cast(queries, tf.float32), vectors, transpose_b=True)

    def get_config(self) -> dict[str, Any]:
        """Returns all arguments."""
        return super().get_config() | {"num_items": self.num_items, "width": self.width}


@keras.saving.register_keras_serializable(package="branchline")
class InBatchSoftmax(ContrastiveLoss):
    """Estimates the crossentropy of an example's item among all items from those of its batch.

    A step costs what its batch costs, however many items there are. The items of the other rows
    stand for all others: each counts as much as it is rare, by 1 / (how often it is expected among
    as many rows), so that the sum over them is expected to be that over all items. Rows of the
    example's own item are none of the others.

    Args:
        counts: How many training examples each item has; None: every other row counts once.
        name: Of the loss.

    Source: Bengio and Senécal 2008, "Adaptive importance sampling to accelerate training of a
    neural probabilistic language model"; within a batch, Yi et al. 2019, "Sampling-bias-corrected
    neural modeling for large corpus item recommendations".
    """

    def __init__(self, counts: Sequence[int] | None = None, name: str = "in_batch_softmax") -> None:
        super().__init__(name=name)
        self.counts = None if counts is None else np.asarray(counts, np.int64)

    def in_batch(
        self, label: tf.Tensor, output: tf.Tensor, *, rows: tf.Tensor | None, layer: Any
    ) -> tf.Tensor:
        """Returns losses, float [batch].

        Args:
            label: int [batch] or [batch, 1], items.
            output: Queries [batch, width].
            rows: bool [batch], those that count; None: all.
            layer: An `ItemQuery`.
        """
        item = tf.reshape(tf.cast(label, tf.int64), [-1])
        vectors = tf.cast(layer.items(item), output.dtype)
        scores = tf.matmul(output, vectors, transpose_b=True)  # [batch, batch], of each row's item
        own = tf.linalg.diag_part(scores)
        other = item[None, :] != item[:, None]
        if rows is not None:
            other &= rows[None, :]
        if self.counts is not None:
            shares = np.maximum(self.counts, 1) / max(1, self.counts.sum())
            num_rows = (
                tf.size(item) if rows is None else tf.math.count_nonzero(rows, dtype=tf.int32)
            )
            num_others = tf.cast(tf.maximum(num_rows - 1, 1), output.dtype)
            share = tf.gather(tf.constant(shares, output.dtype), item)
            scores -= tf.math.log(num_others * share)
        scores = tf.where(other, scores, output.dtype.min / 2)
        return tf.reduce_logsumexp(tf.concat([scores, own[:, None]], axis=1), axis=1) - own

    def get_config(self) -> dict[str, Any]:
        """Returns all arguments."""
        counts = None if self.counts is None else self.counts.tolist()
        return {"counts": counts, "name": self.name}


def count_items(model: BranchedModel, table: RoutingTable, rows: Mapping[str, Rows]) -> None:
    """Tells losses over the items of a batch how often each item is in the training rows.

    Args:
        model: Its heads fit the routes' labels.
        table: The routes.
        rows: Route → its training rows. A head of several routes counts those of all.
    """
    counts: dict[int, tuple[Any, np.ndarray]] = {}
    for name, of_route in rows.items():
        for key, target in table[name].labels.items():
            head = head_of(model, table[name], key)
            if not target.top_k or not isinstance(head.loss, InBatchSoftmax):
                continue
            labels = np.asarray(of_route.labels[key]).reshape(-1)
            found = np.bincount(labels[labels >= 0], minlength=target.num_classes or 0)
            _, before = counts.get(id(head), (head, 0))
            counts[id(head)] = head, found + before
    for head, found in counts.values():
        if head.loss.counts is None:
            head.loss = InBatchSoftmax(found.tolist(), name=head.loss.name)
