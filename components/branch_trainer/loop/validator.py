"""The validation loss of a path: of its heads, without penalties, over all rows with a label."""

from typing import Any

import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head
from branchline.components.branch_trainer.step.batch_loss import rows_of_head
from branchline.components.branch_trainer.step.losses import head_loss
from branchline.components.branch_trainer.step.source_counts import label_counts
from branchline.components.branch_trainer.streams.seekable import rows_of


class Validator:
    """Computes validation losses.

    Args:
        model: the model.
        datasets: path → finite dataset of batches, read from its start each time.

    Raises:
        ValueError: a dataset is infinite.
    """

    def __init__(self, model: BranchedModel, datasets: dict[str, tf.data.Dataset]):
        endless = [
            p for p, d in datasets.items() if d.cardinality() == tf.data.INFINITE_CARDINALITY
        ]
        if endless:
            raise ValueError(f"Validation data must be finite; that of {endless} repeats for ever")
        self.datasets = datasets
        self._heads = {
            path: model.heads_of(path) if path in model.paths else list(model.heads)
            for path in datasets
        }
        self._sums_fns = {
            path: _sums_fn(model, path, self._heads[path], d) for path, d in datasets.items()
        }

    def __call__(self, path: str) -> float:
        """Returns the loss of `path`: its heads', weighted and summed, without penalties of layers.

        Each head's is a mean over all rows that have its label, however they are batched; 0 where
        none has it. A sample weight multiplies the loss of its row.

        Raises:
            ValueError: the dataset is empty, or no row of it has a label.
        """
        heads = self._heads[path]
        totals, labelled, num_rows = (each.numpy() for each in self._sums_fns[path]())
        if not num_rows:
            raise ValueError(f"The validation data of path {path!r} is empty")
        if not labelled.any():
            raise ValueError(
                f"The validation data of path {path!r} has {num_rows} rows, of which none has a "
                f"label of its heads {[head.name for head in heads]}; give rows that have one"
            )
        weights = np.array([head.loss_weight for head in heads])
        return float(np.sum(weights * totals / np.maximum(labelled, 1)))


def _sums_fn(model: BranchedModel, path: str, heads: list[Head], dataset: Any):
    """Makes a function that reads the dataset, all in one graph.

    It gives, for each head, the sum of the losses over the rows that have its label, and their
    number, both float64 [heads], and the number of all rows, int64 [].
    """

    def losses_and_counts(batch):
        features, labels, *rest = batch
        ids = None
        if path not in model.paths:
            features, ids = features
        outputs = model(features, path=path if ids is None else ids, training=False)
        losses, counts = [], []
        for head in heads:
            rows = None if ids is None else rows_of_head(model, head, ids)
            losses.append(head_loss(head, labels, outputs[head.name], *rest, rows=rows))
            taken = tf.fill([rows_of(batch)], True) if rows is None else rows
            counts.append(label_counts([head], labels, taken)[0])
        return (tf.cast(tf.stack(each), tf.float64) for each in (losses, counts))

    def sums():
        batches: Any = iter(dataset)  # not `reduce`, which runs on the CPU whatever else there is

        def add(found, totals, labelled, num_rows):
            batch = found.get_value()
            losses, counts = losses_and_counts(batch)
            read = num_rows + tf.cast(rows_of(batch), tf.int64)
            return batches.get_next_as_optional(), totals + losses * counts, labelled + counts, read

        zeros = tf.zeros([len(heads)], tf.float64)
        start = (batches.get_next_as_optional(), zeros, zeros, tf.constant(0, tf.int64))
        return tf.while_loop(lambda found, *_: found.has_value(), add, start)[1:]

    return tf.function(sums, autograph=False)
