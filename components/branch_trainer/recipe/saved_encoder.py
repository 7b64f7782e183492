"""A layer that encodes texts by a SavedModel from elsewhere, such as a pretrained one of TF Hub."""

import os
import tempfile
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.private_api import sublayers_of
from branchline.components.files.storage import copy_tree
from branchline.schemas import BranchlineError
from branchline.schemas.features.text import SAVED_MODEL

SIGNATURE = "serving_default"


class SavedEncoder(keras.layers.Layer):
    """Encodes texts as a SavedModel's signature `serving_default` does.

    Keras's TFSMLayer does it too, but makes variables of its own also of what is no number, and
    knows neither what a wrong encoder is nor paths in a store.

    Args:
        path: Of the SavedModel's folder, on this machine or in a store. The signature takes texts,
            string [n], and gives one output, float [n, width].
        trainable: Whether its trainable variables are this layer's, and so trained; else it has
            none, and no gradient goes into it. It always runs as when it serves: without dropout.
        **options: Keras's, such as `name`.

    Attributes:
        saved: What was loaded. A SavedModel with this layer has to hold it.

    Raises:
        BranchlineError: There is no such SavedModel, or it is no encoder of texts.
    """

    def __init__(self, path: str, *, trainable: bool = False, **options: Any) -> None:
        super().__init__(trainable=trainable, **options)
        self._copy = tempfile.TemporaryDirectory()  # its assets are read when it is saved again
        local = path
        if "://" in path:
            local = os.path.join(self._copy.name, "encoder")
            copy_tree(path, local)
        self.saved: Any = _load(local, path)
        self._signature = self.saved.signatures[SIGNATURE]
        self._argument = _only_argument(self._signature, path)
        self.width = _width(self._signature, self._argument, path)
        floats = [v for v in self._signature.trainable_variables if v.dtype.is_floating]
        self._held = [
            keras.Variable(v, dtype=v.dtype.name, name=v.name.partition(":")[0].replace("/", "_"))
            for v in (floats if trainable else ())
        ]
        self.built = True

    def call(self, texts: tf.Tensor) -> tf.Tensor:
        """Encodes texts.

        Args:
            texts: string [batch, 1] or [batch].

        Returns:
            float [batch, width], in the compute dtype.
        """
        outputs = self._signature(**{self._argument: tf.reshape(texts, [-1])})
        (encoded,) = outputs.values()
        encoded = tf.cast(tf.reshape(encoded, [-1, self.width]), self.compute_dtype)
        return encoded if self._held else tf.stop_gradient(encoded)


def loaded_encoders(model: BranchedModel) -> list[Any]:
    """What a SavedModel has to hold for the encoders of a model: their tables and functions."""
    parts = [part for path in model.paths for part in model.parts_of(path).values()]
    layers = {id(layer): layer for part in parts for layer in sublayers_of(part)}
    return [layer.saved for layer in layers.values() if isinstance(layer, SavedEncoder)]


def _load(local: str, path: str) -> Any:
    if not os.path.isfile(os.path.join(local, SAVED_MODEL)):
        raise BranchlineError(
            f"Text(encoder={path!r}): there is no {SAVED_MODEL} in this folder; if this is a "
            "container of a compiled pipeline, its image lacks it: COPY it there in the "
            "Dockerfile, or put it into a bucket"
        )
    try:
        saved: Any = tf.saved_model.load(local)
    except (tf.errors.OpError, OSError, RuntimeError, ValueError, KeyError) as error:
        more = ""
        if "not registered" in str(error):
            more = (
                "; import the package that brings this operation, such as tensorflow_text, in the "
                "recipe file, and wherever the model is served"
            )
        told = f"Text(encoder={path!r}): cannot be loaded as a SavedModel: {error}{more}"
        raise BranchlineError(told) from error
    if SIGNATURE not in getattr(saved, "signatures", {}):
        found = ", ".join(getattr(saved, "signatures", {})) or "none"
        raise _no_encoder(path, f"signatures {found}, expected {SIGNATURE}")
    return saved


def _only_argument(signature: Any, path: str) -> str:
    arguments = signature.structured_input_signature[1]
    specs = [(spec.dtype, spec.shape.rank) for spec in arguments.values()]
    if specs not in ([(tf.string, 1)], [(tf.string, None)]):
        raise _no_encoder(path, f"arguments {arguments}, expected one of texts, string [n]")
    (name,) = arguments
    return name


def _width(signature: Any, argument: str, path: str) -> int:
    outputs = signature(**{argument: tf.constant(["", "a text"])})
    if len(outputs) == 1:
        (encoded,) = outputs.values()
        if encoded.dtype.is_floating and encoded.shape.rank == 2 and encoded.shape[0] == 2:
            return int(encoded.shape[1])
    shapes = {name: f"{each.dtype.name} {list(each.shape)}" for name, each in outputs.items()}
    raise _no_encoder(path, f"of two texts {shapes}, expected one output, float [2, width]")


def _no_encoder(path: str, told: str) -> BranchlineError:
    return BranchlineError(f"Text(encoder={path!r}): got {told}")
