"""Saves and restores what training depends on, so that it goes on as if never interrupted.

A stream's place is its number of batches read, and restoring reads that many again. Saved tf.data
iterators would be quicker, but those over `shuffle(…).repeat()`, with `prefetch` more often, gave
other batches than before after restoring (seen in TensorFlow 2.16 and 2.21).
"""

import dataclasses
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

_FACTS = "facts.json"
_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"  # ends a name, as it does in a `tf.train.Checkpoint`
_DAMAGED = (tf.errors.OpError, ValueError, LookupError, TypeError)  # what reading one may raise
_gfile = tf.io.gfile
_logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one training, in one directory.

    Each is a directory of its own. It counts once it has a `facts.json`, which is put there last
    and removed first, so that what counts is whole, whenever the process was killed. None is
    written over. The last two are kept.

    Args:
        directory: of this training alone; made if need be; also of a file system that
            `tf.io.gfile` knows, such as "gs://bucket/folder".
        variables: name → variables, in an order that is the same in the next process.
        identity: plain facts that must be the same to resume, beside the variables' shapes.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        variables: Mapping[str, Sequence[tf.Variable]],
        identity: Mapping[str, Any],
    ):
        self.directory = os.fspath(directory)
        _gfile.makedirs(self.directory)
        shapes = {
            kind: [[v.dtype.name, v.shape.as_list()] for v in of_kind]
            for kind, of_kind in variables.items()
        }
        # Through JSON, so that it compares equal to what is read back.
        self.identity = json.loads(json.dumps({**identity, **shapes}))
        self._variables = {
            f"{kind}/{place}/{_VALUE}": variable
            for kind, of_kind in variables.items()
            for place, variable in enumerate(of_kind)
        }
        self._damaged: list[str] = []

    def save(self, step: int, progress: Mapping[str, Any]) -> None:
        """Writes a checkpoint.

        Args:
            step: steps taken; names the checkpoint.
            progress: plain JSON values to give back on restoring.
        """
        name = f"step-{step:012d}"
        number = sum(other.startswith(name) for other in self._whole())
        folder = os.path.join(self.directory, f"{name}-{number:04d}" if number else name)
        if _gfile.exists(folder):
            _gfile.rmtree(folder)
        _gfile.makedirs(folder)
        self._write(os.path.join(folder, "tensors"))
        unfinished = os.path.join(folder, "unfinished")
        with _gfile.GFile(unfinished, "w") as file:
            file.write(json.dumps({"identity": self.identity, "progress": progress}))
        for written in _gfile.listdir(folder):
            _flush(os.path.join(folder, written))
        _gfile.rename(unfinished, os.path.join(folder, _FACTS))
        _flush(folder)
        _flush(self.directory)
        sound = [name for name in self._whole() if name not in self._damaged]
        for old in {*self._whole()} - {*sound[-2:]}:
            self._remove(old)

    def restore(self) -> dict[str, Any] | None:
        """Restores the newest checkpoint that can be read, and tells of those that cannot.

        Returns:
            Its `progress`; None if there is no checkpoint.

        Raises:
            ValueError: it is one of another model, of other settings or streams, and says what
                differs; or none of those there are can be read.
        """
        self._remove_remains()
        for name in reversed(self._whole()):
            folder = os.path.join(self.directory, name)
            try:
                with _gfile.GFile(os.path.join(folder, _FACTS)) as file:
                    facts = json.loads(file.read())
                saved, progress = facts["identity"], facts["progress"]
            except _DAMAGED as error:
                self._pass_over(folder, error)
                continue
            self._check_identity(folder, saved)
            try:
                self._read(os.path.join(folder, "tensors"))
                return progress
            except _DAMAGED as error:
                self._pass_over(folder, error)
        if self._damaged:
            raise ValueError(
                f"None of the checkpoints {sorted(self._damaged)} in {self.directory} can be read; "
                "put sound copies there, or start anew with resume=False"
            )
        return None

    def clear(self) -> None:
        """Removes all checkpoints."""
        for name in self._whole():
            self._remove(name)
        self._remove_remains()

    def _write(self, prefix: str) -> None:
        """Writes the values. `tf.train.Checkpoint` takes half a millisecond for each of them."""
        with tf.device("CPU:0"):
            tf.raw_ops.SaveV2(
                prefix=prefix,
                tensor_names=[*self._variables],
                shape_and_slices=[""] * len(self._variables),
                tensors=[variable.read_value() for variable in self._variables.values()],
            )

    def _read(self, prefix: str) -> None:
        with tf.device("CPU:0"):
            values = tf.raw_ops.RestoreV2(
                prefix=prefix,
                tensor_names=[*self._variables],
                shape_and_slices=[""] * len(self._variables),
                dtypes=[variable.dtype for variable in self._variables.values()],
            )
        for variable, value in zip(self._variables.values(), values, strict=True):
            variable.assign(value)

    def _whole(self) -> list[str]:
        return [n for n in self._names() if _gfile.exists(os.path.join(self.directory, n, _FACTS))]

    def _names(self) -> list[str]:
        names = (name.rstrip("/") for name in _gfile.listdir(self.directory))
        return sorted(name for name in names if name.startswith("step-"))

    def _pass_over(self, folder: str, error: Exception) -> None:
        _logger.warning("%s cannot be read, the one before it is tried: %s", folder, error)
        self._damaged.append(os.path.basename(folder))

    def _remove(self, name: str) -> None:
        _gfile.remove(os.path.join(self.directory, name, _FACTS))
        _gfile.rmtree(os.path.join(self.directory, name))

    def _remove_remains(self) -> None:
        for name in {*self._names()} - {*self._whole()}:
            try:
                _gfile.rmtree(os.path.join(self.directory, name))
            except tf.errors.NotFoundError:  # another worker was quicker
                continue

    def _check_identity(self, checkpoint: str, saved: Mapping[str, Any]) -> None:
        for fact in [*self.identity, *saved]:
            if saved.get(fact) != self.identity.get(fact):
                raise ValueError(
                    f"{checkpoint} is of another training: its {fact} are {saved.get(fact)}, here "
                    f"they are {self.identity.get(fact)}; use another checkpoint_dir, "
                    "or resume=False"
                )


def described(value: Any) -> Any:
    """Gives a schedule, or a part of one, as plain values that tell it from another.

    >>> from branchline.schemas.schedules import Alternate
    >>> described(Alternate("ab"))
    ['Alternate', [['pattern', 'ab'], ['on_end', 'repeat']]]

    Functions are told apart by their names, objects of other classes by their class.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return sorted([str(key), described(each)] for key, each in value.items())
    if isinstance(value, Sequence):
        return [described(each) for each in value]
    if dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value)]
        return [type(value).__name__, [[name, described(getattr(value, name))] for name in fields]]
    return getattr(value, "__qualname__", type(value).__qualname__)


def _flush(path: str) -> None:
    if "://" in path:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
