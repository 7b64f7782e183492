"""What a loss has to know of the other replicas, where there are others."""

import tensorflow as tf


def num_replicas() -> int:
    """Returns how many replicas compute their parts of what is computed here."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def over_replicas(count: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the replicas' counts, so that sums divided by it add up to a mean."""
    if num_replicas() == 1:
        return count
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, count)


def share_of_replica(loss: tf.Tensor) -> tf.Tensor:
    """Returns what a replica adds of a loss that every one has, such as a weight's penalty."""
    return loss if num_replicas() == 1 else loss / num_replicas()
