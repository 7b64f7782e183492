"""Saves and restores what training depends on, so that it goes on as if never interrupted.

A stream's place is its number of batches read, and restoring reads that many again. Saved tf.data
iterators would be quicker, but those over `shuffle(…).repeat()`, with `prefetch` more often, gave
other batches than before after restoring (seen in TensorFlow 2.16 and 2.21).
"""

import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf


class Checkpoints:
    """The checkpoints of one training, in one directory.

    Each is a directory of its own, written under another name and then renamed, so that one that
    can be seen is whole, whenever the process was killed. The last two are kept.

    Args:
        directory: of this training alone; made if need be.
        variables: name → variables, in an order that is the same in the next process.
        identity: plain facts that must be the same to resume, beside the variables' shapes.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        variables: Mapping[str, Sequence[tf.Variable]],
        identity: Mapping[str, Any],
    ):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        shapes = {
            kind: [[v.dtype.name, v.shape.as_list()] for v in of_kind]
            for kind, of_kind in variables.items()
        }
        # Through JSON, so that it compares equal to what is read back.
        self.identity = json.loads(json.dumps({**identity, **shapes}))
        self._tensors = tf.train.Checkpoint(**{kind: list(v) for kind, v in variables.items()})

    def save(self, step: int, progress: Mapping[str, Any]) -> None:
        """Writes a checkpoint.

        Args:
            step: steps taken; names the checkpoint.
            progress: plain JSON values to give back on restoring.
        """
        unfinished = self.directory / f"unfinished-{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        self._tensors.write(str(unfinished / "tensors"))
        facts = {"identity": self.identity, "progress": progress}
        (unfinished / "facts.json").write_text(json.dumps(facts))
        for written in unfinished.iterdir():
            _flush(written)
        _flush(unfinished)
        final = self.directory / f"step-{step:012d}"
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
        _flush(self.directory)
        for old in self._whole()[:-2]:
            shutil.rmtree(old)

    def restore(self) -> dict[str, Any] | None:
        """Restores the newest checkpoint.

        Returns:
            Its `progress`; None if there is no checkpoint.

        Raises:
            ValueError: it is one of another model, of other settings or streams; says what differs.
        """
        for remains in self.directory.glob("unfinished-*"):
            shutil.rmtree(remains, ignore_errors=True)  # another worker may be quicker
        if not self._whole():
            return None
        newest = self._whole()[-1]
        facts = json.loads((newest / "facts.json").read_text())
        self._check_identity(newest, facts["identity"])
        self._tensors.read(str(newest / "tensors")).assert_consumed()
        return facts["progress"]

    def clear(self) -> None:
        """Removes all checkpoints."""
        for directory in [*self._whole(), *self.directory.glob("unfinished-*")]:
            shutil.rmtree(directory)

    def _whole(self) -> list[pathlib.Path]:
        return sorted(self.directory.glob("step-*"))

    def _check_identity(self, checkpoint: pathlib.Path, saved: Mapping[str, Any]) -> None:
        for fact in [*self.identity, *saved]:
            if saved.get(fact) != self.identity.get(fact):
                raise ValueError(
                    f"{checkpoint} is of another training: its {fact} are {saved.get(fact)}, here "
                    f"they are {self.identity.get(fact)}; use another checkpoint_dir, "
                    "or resume=False"
                )


def _flush(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
