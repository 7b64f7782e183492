"""What runs a step: here and once, without a strategy. See `strategy_replicas.py`."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.settings import PathSettings


class OneReplica:
    """Without a strategy, everything happens here and once."""

    is_chief = True
    can_compile = True
    steps_per_call: int | None = None

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which variables of the model and of optimizers are made."""
        return contextlib.nullcontext()

    def check(self, settings: Mapping[str, PathSettings], jit_compile: bool) -> None:
        """Checks that all that is asked for can be done under the strategy."""

    def check_made_here(self, variables: Sequence[keras.Variable]) -> None:
        """Checks that the model's variables are the strategy's."""
        for variable in variables:
            if isinstance(variable.value, tf.distribute.DistributedValues):
                raise ValueError(
                    f"{variable.path!r} was made under a strategy; give it to Trainer(strategy=…)"
                )

    def split(self, stream: tf.data.Dataset) -> Any:
        """Returns the stream of what each replica here takes of each batch."""
        return stream

    def sum_of(self, compute_fn: Callable, *args) -> Any:
        """Returns the sum over replicas of what the function gives for their parts.

        Args:
            compute_fn: gives nested lists and tuples of tensors, IndexedSlices and None.
            *args: its arguments, as `split` gives them.
        """
        return compute_fn(*args)

    def run(self, fn: Callable, *args) -> Any:
        """Runs a function on each replica, and returns what each one gives.

        Args:
            fn: gives nested lists of tensors.
            *args: what an earlier `run` gave.
        """
        return fn(*args)

    def update(self, update_fn: Callable, pairs: Sequence[tuple]) -> None:
        """Changes variables by (gradient, variable) pairs, alike on each replica."""
        update_fn(pairs)

    def take_over(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Lets the optimizer apply gradients that are sums over the replicas already."""

    def joined(self, batch: Any) -> Any:
        """Returns the rows of a batch of `split` that are here."""
        return batch

    def of_all(self, number: float) -> list[float]:
        """Returns the number of every worker, to every worker; all have to ask for it."""
        return [number]

    def check_same(self, step: int, directory: Any) -> None:
        """Checks that all workers go on from one checkpoint; none goes on before all have read it.

        Raises:
            ValueError: they do not.
        """
        steps = self.of_all(step)
        if len(set(steps)) > 1:
            raise ValueError(
                f"The workers found checkpoints of steps {steps} in {str(directory)!r}; "
                "checkpoint_dir has to be one directory that all share"
            )
