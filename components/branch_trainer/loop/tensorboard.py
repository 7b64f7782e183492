"""Writes what training does to TensorBoard, a run per path, so that paths share charts."""

import os
import time
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.loop.loop import Chunk, joined
from branchline.components.branch_trainer.step.optimizers import rate_now

_SECONDS = 0.1  # between two points: to write one takes as long as some steps of a small model
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR"
)


class TensorBoard:
    """Scalars of each path, one point per call of the loop in which it was trained.

    Calls of less than a tenth of a second are taken together. `loss` and `gradient_norm` (before
    clipping) are means over the path's steps of that call, `step_share` its part of the call's
    steps, `examples_per_second` its examples by the time of the whole call, `learning_rate` that of
    its next update. `validation_loss` is written when validated. The step of a point counts the
    steps of all paths.

    Args:
        directory: gets one directory per path, named like it.
        optimizers: path → its optimizer.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        optimizers: Mapping[str, keras.optimizers.Optimizer],
    ):
        self.optimizers = optimizers
        self._directory = os.fspath(directory)
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self._waiting: list[tuple[Sequence[str], Chunk, float]] = []
        self._step = 0
        self._written = time.monotonic() - _SECONDS

    def write_steps(self, step: int, routes: Sequence[str], chunk: Chunk, seconds: float) -> None:
        """Writes one call of the loop.

        Args:
            step: steps taken on all paths, with those of the call.
            routes: path of each step taken in it.
            chunk: what it did.
            seconds: how long it took.
        """
        self._waiting.append((routes, chunk, seconds))
        self._step = step
        if time.monotonic() - self._written >= _SECONDS:
            self._write_waiting()

    def write_validation(self, step: int, path: str, loss: float) -> None:
        """Writes the validation loss of one path."""
        self._write_waiting()
        self._write(path, step, {"validation_loss": loss})

    def close(self) -> None:
        """Writes what waits and closes the files; what is written later goes to new ones."""
        self._write_waiting()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write_waiting(self) -> None:
        if not self._waiting:
            return
        calls, chunks, seconds = zip(*self._waiting, strict=True)
        self._waiting.clear()
        taken = np.concatenate([np.array(routes, str) for routes in calls])
        chunk = joined(chunks)
        for path in np.unique(taken).tolist():
            here = taken == path
            values = {
                "loss": chunk.losses[here].mean(),
                "gradient_norm": chunk.gradient_norms[here].mean(),
                "learning_rate": rate_now(self.optimizers[path]),
                "step_share": here.mean(),
                "examples_per_second": chunk.rows[here].sum() / sum(seconds),
            }
            self._write(path, self._step, values)
        self._written = time.monotonic()

    def _write(self, path: str, step: int, values: Mapping[str, float]) -> None:
        # Not `tf.summary.scalar`, which needs the tensorboard package, as this does not.
        event = tf.compat.v1.Summary()
        for name, value in values.items():
            scalar = event.value.add(tag=name, metadata=_SCALAR)
            scalar.tensor.dtype = tf.float32.as_datatype_enum
            scalar.tensor.float_val.append(value)
        if path not in self._writers:
            folder = os.path.join(self._directory, path)
            self._writers[path] = tf.summary.create_file_writer(folder)
        with self._writers[path].as_default():
            tf.summary.experimental.write_raw_pb(event.SerializeToString(), step=step)
