"""An embedding layer that reads only the rows it looks up."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras
import tensorflow as tf

from branchline.components.branch_trainer.private_api import uncast_value

_NAN_FOR_UNKNOWN = contextvars.ContextVar("nan_for_unknown", default=False)


@contextlib.contextmanager
def nan_for_unknown_ids() -> Iterator[None]:
    """Lets embeddings that are traced in it give NaN for ids that have no row.

    For programs of XLA, which raise no error and would take another row.
    """
    token = _NAN_FOR_UNKNOWN.set(True)
    try:
        yield
    finally:
        _NAN_FOR_UNKNOWN.reset(token)


@keras.saving.register_keras_serializable(package="branchline")
class Embedding(keras.layers.Embedding):
    """Keras's Embedding, for large vocabularies.

    Keras's own reads the whole table at every step, and once a row of it has been written alone,
    each such read is a copy: 5 ms for 500 000 × 16 floats. With this layer, and the rows updated
    alone too (`PathSettings(embeddings="rows")`), a step costs what the rows of its batch cost.
    Arguments and weights are Keras's; ids below 0 are an error.
    """

    def call(self, inputs):
        """Looks rows up.

        Args:
            inputs: int [batch, ...], dense or ragged.

        Returns:
            float [batch, ..., output_dim] in the compute dtype.
        """
        ids = inputs if inputs.dtype.is_integer else tf.cast(inputs, tf.int32)
        # `value` would cast, and so read, the whole table under mixed precision.
        table = uncast_value(self.embeddings)
        rows = tf.nn.embedding_lookup(table, ids) if _is_ragged(ids) else tf.gather(table, ids)
        if _NAN_FOR_UNKNOWN.get():
            known = (ids >= 0) & (ids < self.input_dim)
            rows = tf.where(known[..., None], rows, float("nan"))
        return tf.cast(rows, self.compute_dtype)


def _is_ragged(ids) -> bool:
    return isinstance(ids, tf.RaggedTensor)
