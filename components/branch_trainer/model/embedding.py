"""An embedding layer that reads only the rows it looks up."""

import keras
import tensorflow as tf

from branchline.components.branch_trainer.private_api import uncast_value


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
        return tf.cast(rows, self.compute_dtype)


def _is_ragged(ids) -> bool:
    return isinstance(ids, tf.RaggedTensor)
