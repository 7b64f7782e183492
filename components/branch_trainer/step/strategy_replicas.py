"""Trains on several devices or in several processes, as `tf.distribute` strategies do.

Every batch is one of all replicas together: each takes its part of the rows, computes gradients
there, and gets the sum of all. What decides (schedule, route, whether an update is due, whether the
loss is finite) stands outside `strategy.run` and is one for all replicas; inside, a replica that
decided otherwise than the others would have them wait for ever, and an optimizer raises in
`tf.cond`. A path's loss is that of the whole batch, whatever the parts: see `in_replica.py`.

BatchNormalization takes the statistics of the rows of one replica, and the first replica's are
validated and saved, as in Keras (`synchronized=True` takes those of the batch).
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.private_api import sum_no_gradients
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.replicas import OneReplica
from branchline.components.branch_trainer.streams.seekable import rows_of

_MULTI_WORKER = (
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.experimental.MultiWorkerMirroredStrategy,
)


def replicas_of(strategy: tf.distribute.Strategy | None) -> OneReplica:
    """Returns what runs the steps under a strategy, or without one.

    Raises:
        ValueError: the strategy is not one that mirrors the variables.
    """
    if strategy is None:
        return OneReplica()
    if not isinstance(strategy, (tf.distribute.MirroredStrategy, *_MULTI_WORKER)):
        raise ValueError(
            f"strategy={strategy!r}, expected a tf.distribute.MirroredStrategy or "
            "MultiWorkerMirroredStrategy"
        )
    return Replicas(strategy)


def is_chief(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> bool:
    """Returns whether this process is the one that writes: the chief, or else the first worker.

    Args:
        resolver: of a MultiWorkerMirroredStrategy. With a chief, worker 0 is the second process.
    """
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return not resolver.task_id


class Replicas(OneReplica):
    """The replicas of a strategy, of which this process has some or all.

    Args:
        strategy: that mirrors variables.
    """

    can_compile = False

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.is_multi_worker = isinstance(strategy, _MULTI_WORKER)
        # In one call, a collective operation takes one shape only, and rows are of any number.
        self.steps_per_call = 1 if self.is_multi_worker else None
        self.is_chief = not self.is_multi_worker or is_chief(strategy.cluster_resolver)

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the strategy's scope."""
        return self.strategy.scope()

    def check(self, settings: Mapping[str, PathSettings], jit_compile: bool) -> None:
        """Checks that all that is asked for can be done under the strategy.

        Raises:
            ValueError: it cannot; says what.
        """
        if jit_compile:
            raise ValueError("jit_compile is not there under a strategy; train without one of them")
        for path, chosen in settings.items():
            if chosen.gate:
                raise ValueError(
                    f"The gate of path {path!r} compares the losses of a whole batch, of which a "
                    "replica has a part; train without gate or without strategy"
                )
            if chosen.conflicts == "famo":
                raise ValueError(
                    f"conflicts='famo' of {path!r} is not there under a strategy; 'pcgrad' is"
                )
            optimizer = chosen.optimizer
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                raise ValueError(
                    f"The optimizer of path {path!r} scales the loss, which is not there under a "
                    "strategy; mixed_bfloat16 needs none"
                )
            if optimizer is not None and optimizer.ema_overwrite_frequency:
                raise ValueError(
                    f"The optimizer of path {path!r} has ema_overwrite_frequency, at which Keras "
                    "raises under a strategy"
                )
            if optimizer is not None and not self._made_here(optimizer.iterations):
                raise ValueError(
                    f"The optimizer of path {path!r} was made outside of strategy.scope(); make it "
                    "inside"
                )

    def check_made_here(self, variables: Sequence[keras.Variable]) -> None:
        """Checks that the model's variables are the strategy's.

        Raises:
            ValueError: one is not; names it.
        """
        for variable in variables:
            if not self._made_here(variable):
                raise ValueError(
                    f"{variable.path!r} was made outside of strategy.scope(); make the model inside"
                )

    def _made_here(self, variable: keras.Variable) -> bool:
        return self.strategy.extended.variable_created_in_scope(variable.value)

    def split(self, stream: tf.data.Dataset) -> Any:
        """Returns the stream of what each replica here takes of each batch.

        Of a batch of n rows, replica k of r takes those from ⌊kn/r⌋ to ⌊(k+1)n/r⌋. So every worker
        reads the whole stream, and those of all workers have to be the same.

        Each batch needs a row for each replica, or training ends by an InvalidArgumentError.
        """
        num_replicas = self.strategy.num_replicas_in_sync

        def local_parts(context: tf.distribute.InputContext) -> tf.data.Dataset:
            num_local = num_replicas // context.num_input_pipelines
            first = context.input_pipeline_id * num_local

            def parts(*batch):
                each = tf.data.Dataset.range(first, first + num_local)
                return each.map(lambda k: _part(batch, k, num_replicas))

            split = stream.flat_map(parts)
            if stream.cardinality() != tf.data.INFINITE_CARDINALITY:
                return split
            return split.apply(
                tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            )

        return self.strategy.distribute_datasets_from_function(local_parts)

    def sum_of(self, compute_fn: Callable, *args) -> Any:
        """Returns the sum over replicas of what the function gives for their parts.

        IndexedSlices keep the rows of all.
        """

        def on_replica(*parts):
            results = compute_fn(*parts)
            sums = iter(_all_reduced(list(filter(_is_dense, tf.nest.flatten(results)))))
            return tf.nest.map_structure(lambda r: next(sums) if _is_dense(r) else r, results)

        return tf.nest.map_structure(
            self._of_all_replicas, self.strategy.run(on_replica, args=args)
        )

    def _of_all_replicas(self, result: Any) -> Any:
        """Returns a sum, which each replica has, or the rows that all of them have."""
        here = self.strategy.experimental_local_results(result)[0]
        if not isinstance(here, tf.IndexedSlices):
            return here
        values, indices = self.strategy.run(lambda r: (r.values, r.indices), args=(result,))
        return tf.IndexedSlices(self._gathered(values), self._gathered(indices), here.dense_shape)

    def _gathered(self, parts: Any) -> tf.Tensor:
        if self.is_multi_worker:
            return self.strategy.gather(parts, axis=0)
        return tf.concat(self.strategy.experimental_local_results(parts), axis=0)

    def run(self, fn: Callable, *args) -> Any:
        """Runs a function on each replica, and returns what each one gives."""
        return self.strategy.run(fn, args=args)

    def update(self, update_fn: Callable, pairs: Sequence[tuple]) -> None:
        """Changes variables of the strategy by gradients, alike on each replica."""
        variables = [v for _, v in pairs]
        # The replicas' threads do not know of control dependencies around this call.
        gradients = [tf.identity(g) for g, _ in pairs]

        def on_replica(gradients):
            with tf.control_dependencies(tf.nest.flatten(gradients, expand_composites=True)):
                update_fn(list(zip(gradients, variables, strict=True)))

        self.strategy.run(on_replica, args=(gradients,))

    def take_over(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Lets the optimizer apply gradients that are sums over the replicas already."""
        sum_no_gradients(optimizer)

    def joined(self, batch: Any) -> Any:
        """Returns the rows of a batch of `split` that are here."""

        def join(parts):
            return tf.concat(self.strategy.experimental_local_results(parts), axis=0)

        return tf.nest.map_structure(join, batch)

    def of_all(self, number: float) -> list[float]:
        """Returns the number of every worker, to every worker; all have to ask for it."""
        if not self.is_multi_worker:
            return [number]
        mine = self.strategy.run(lambda: tf.constant([number], tf.float64))
        return self.strategy.gather(mine, axis=0).numpy().tolist()


def _part(batch: tuple, number: tf.Tensor, num_parts: int) -> tuple:
    size = rows_of(batch)
    tf.debugging.assert_greater_equal(
        size,
        tf.cast(num_parts, size.dtype),
        f"A batch has fewer rows than there are replicas, {num_parts}; drop it (drop_remainder)",
    )
    start, end = number * size // num_parts, (number + 1) * size // num_parts
    return tf.nest.map_structure(lambda t: t[start:end], batch)


def _is_dense(result: Any) -> bool:
    return isinstance(result, tf.Tensor)


def _all_reduced(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the sums over replicas; those of one dtype travel together."""
    context = tf.distribute.get_replica_context()
    sums = {}
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        of_dtype = [(i, t) for i, t in enumerate(tensors) if t.dtype == dtype]
        reduced = context.all_reduce(tf.distribute.ReduceOp.SUM, [t for _, t in of_dtype])
        sums.update(zip([i for i, _ in of_dtype], reduced, strict=True))
    return [sums[i] for i in range(len(tensors))]
