"""Keeps the weights of a SavedModel: the small ones of all branches in one variable.

A variable costs some milliseconds to save, to load and to hand over to a graph, whatever its size,
and a model of many branches has thousands of small ones. A large one stays as it is, because its
values would be copied whenever they are used.
"""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.schemas import BranchlineError

_SMALL = 16_384  # values
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # ends a variable's name in a checkpoint


class PackedWeights(tf.Module):
    """What a SavedModel holds of a model's variables.

    Args:
        variables: All of a model's, in the order in which it makes them.

    Attributes:
        large: The variables of more values.
        small: Dtype → a variable [values] of all others, one after the other.
        direct: Those of the others that some layer reads otherwise than by Keras's `value`.
        layout: Name, dtype and shape of all, as JSON; see `read_weights`.
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        super().__init__()
        self.direct: list[tf.Variable] = []
        self.large = [v.value for v in variables if not _is_small(v)]
        values: dict[str, list[np.ndarray]] = {}
        self._places: dict[int, int] = {}
        for variable in filter(_is_small, variables):
            of_dtype = values.setdefault(variable.dtype, [])
            self._places[id(variable)] = sum(map(len, of_dtype))
            of_dtype.append(np.ravel(variable.numpy()))
        self.small = {name: tf.Variable(tf.concat(values[name], axis=0)) for name in sorted(values)}
        with tf.device("CPU:0"):
            layout = json.dumps([[v.path, v.dtype, list(v.shape)] for v in variables])
            self.layout = tf.Variable(tf.constant(layout))

    def read(self) -> list[tf.Tensor]:
        """Returns the values [values] of `small`, in its order."""
        return [values.read_value() for values in self.small.values()]

    def places(self, variables: Sequence[keras.Variable]) -> tf.Tensor:
        """Returns int32 [variables]: where the small ones of `variables` begin."""
        places = [self._places[id(v)] for v in variables if _is_small(v)]
        return tf.constant(places, tf.int32, [len(places)])

    def keep(self, variables: Sequence[keras.Variable], captured: Sequence[tf.Tensor]) -> None:
        """Keeps those of the variables as they are that layers read in a way of their own.

        Args:
            variables: All of the model's.
            captured: What the graphs that are to be saved hold.
        """
        ids = {id(tensor) for tensor in captured}
        self.direct = [v.value for v in variables if _is_small(v) and id(v.value.handle) in ids]

    @contextmanager
    def unpacked(
        self, variables: Sequence[keras.Variable], places: tf.Tensor, small: Sequence[tf.Tensor]
    ) -> Iterator[None]:
        """Lets Keras find the values of variables in what is packed.

        Args:
            variables: Those that are used.
            places: int32 [small ones of `variables`], where each begins.
            small: As `read` gives them.
        """
        held = dict(zip(self.small, small, strict=True))
        packed = list(filter(_is_small, variables))
        values: list[Any] = [
            tf.reshape(tf.slice(held[v.dtype], places[i : i + 1], [_size(v)]), v.shape)
            for i, v in enumerate(packed)
        ]
        with keras.StatelessScope(state_mapping=list(zip(packed, values, strict=True))):
            yield


def read_weights(directory: str) -> list[tuple[str, np.ndarray]]:
    """Reads the weights of a SavedModel: Keras's path of each and its value, in the model's order.

    Args:
        directory: Of a model that `ServedModel` saved.

    Raises:
        BranchlineError: It is no such model.
    """
    try:
        saved = tf.train.load_checkpoint(os.path.join(directory, "variables", "variables"))
        layout = json.loads(saved.get_tensor(f"weights/layout{_VALUE}"))
        small = {
            dtype: saved.get_tensor(f"weights/small/{dtype}{_VALUE}")
            for dtype in {dtype for _, dtype, shape in layout if math.prod(shape) <= _SMALL}
        }
    except (tf.errors.OpError, ValueError) as error:
        told = f"{directory}: has no weights of a model of branchline: {error}"
        raise BranchlineError(told) from error
    found: list[tuple[str, np.ndarray]] = []
    places, num_large = dict.fromkeys(small, 0), 0
    for name, dtype, shape in layout:
        size = math.prod(shape)
        if size > _SMALL:
            value = saved.get_tensor(f"weights/large/{num_large}{_VALUE}")
            num_large += 1
        else:
            value = small[dtype][places[dtype] : places[dtype] + size].reshape(shape)
            places[dtype] += size
        found.append((name, value))
    return found


def _is_small(variable: keras.Variable) -> bool:
    return _size(variable) <= _SMALL


def _size(variable: keras.Variable) -> int:
    return math.prod(variable.shape)


def start_from(model: BranchedModel, directory: str) -> None:
    """Gives a built model the weights of one that `ServedModel` saved.

    Raises:
        BranchlineError: It is no such SavedModel, or its weights have other shapes.
    """
    weights = [value for _, value in read_weights(directory)]
    if [value.shape for value in weights] != [tuple(v.shape) for v in model.variables]:
        raise BranchlineError(
            f"{directory}: its weights are not those of this model; training can only start from a "
            "model of the same routes, features and vocabularies"
        )
    for variable, value in zip(model.variables, weights, strict=True):
        variable.assign(value)
