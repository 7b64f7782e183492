"""The parts a branched model is put together from: switches, heads, and paths through them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras


def serialize_layers(layers: dict[str, keras.Layer]) -> dict[str, Any]:
    """Returns name → Keras config of each layer."""
    return {name: keras.saving.serialize_keras_object(layer) for name, layer in layers.items()}


def _checked_layer(owner: str, layer: object) -> keras.Layer:
    if not isinstance(layer, keras.Layer):
        raise TypeError(
            f"{owner} is a {type(layer).__name__}, expected a Keras layer or model; "
            "wrap a plain function in keras.layers.Lambda"
        )
    return layer


@keras.saving.register_keras_serializable(package="branchline")
class Switch(keras.layers.Layer):
    """A place in the model where one of several branches is taken.

    Args:
        name: of the switch; a `Path` picks a branch with it as keyword.
        **branches: branch name → Keras layer or model. They may be of any kind, and one layer may
            stand in several places: it is then shared.

    Raises:
        TypeError: a branch is not a Keras layer.
        ValueError: no branch is given.
    """

    def __init__(self, name: str, /, **branches: keras.Layer):
        super().__init__(name=name)
        if not branches:
            raise ValueError(f"Switch({name!r}) has no branch; give at least one, name=layer")
        self.branches = {
            branch: _checked_layer(f"Branch {branch!r} of switch {name!r}", layer)
            for branch, layer in branches.items()
        }
        self.built = True  # it has no weights of its own

    def call(self, inputs, branch: str):
        """Runs one branch.

        Args:
            inputs: whatever the branch takes.
            branch: its name.
        """
        return self.branches[branch](inputs)

    def get_config(self):
        """Returns name and branches, with their configs."""
        return {"name": self.name, "branches": serialize_layers(self.branches)}

    @classmethod
    def from_config(cls, config):
        """Makes the switch again."""
        branches = keras.saving.deserialize_keras_object(config["branches"])
        return cls(config["name"], **branches)


def _with_mean(head: str, loss: Any) -> Any:
    reduction = getattr(loss, "reduction", None)
    if reduction in ("sum", "mean_with_sample_weight"):
        raise ValueError(
            f"The loss of head {head!r} has reduction={reduction!r}; a head takes the mean over "
            "the rows that have its label. Leave reduction out, and use loss_weight for its size"
        )
    return loss


@keras.saving.register_keras_serializable(package="branchline")
class Head(keras.layers.Layer):
    """Output layers with their loss.

    Args:
        name: of the head, and of its output.
        layer: the Keras layer or model that makes the output.
        loss: a Keras loss, its name, or `f(label, output)` → loss per example [batch, ...]. Of a
            Keras loss the losses per example are taken; the mean is made here. A loss that is one
            number for the batch works where no label is missing and no `sample_weight` is given,
            without a `strategy`.
        loss_weight: factor of this loss in the path's sum.
        label: key of the label where labels are a dict, a tuple of keys where they are nested;
            default `name`.
        missing: the label value that means "no label for this row", NaN included; such rows
            contribute nothing and the loss is normalised by the others. Without one label in a
            batch the head is not updated, and its own clock stands. None: every row has a label.

    Raises:
        TypeError: `layer` is not a Keras layer.
        ValueError: the loss has a reduction that is not a mean over the batch.
    """

    def __init__(
        self,
        name: str,
        layer: keras.Layer,
        *,
        loss: str | Callable,
        loss_weight: float = 1.0,
        label: str | Sequence[str] | None = None,
        missing: float | None = None,
    ):
        super().__init__(name=name)
        self.layer = _checked_layer(f"Layer of head {name!r}", layer)
        self.loss = _with_mean(name, keras.losses.get(loss))
        self.loss_weight = loss_weight
        self.label = label if label is not None else name
        self.missing = missing
        self.built = True

    def call(self, inputs):
        """Returns the head's output."""
        return self.layer(inputs)

    def get_config(self):
        """Returns all arguments, layer and loss as configs."""
        return {
            "name": self.name,
            "layer": keras.saving.serialize_keras_object(self.layer),
            "loss": keras.saving.serialize_keras_object(self.loss),
            "loss_weight": self.loss_weight,
            "label": self.label,
            "missing": self.missing,
        }

    @classmethod
    def from_config(cls, config):
        """Makes the head again."""
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        loss = keras.saving.deserialize_keras_object(config.pop("loss"))
        return cls(layer=layer, loss=loss, **config)


class Path:
    """One way through the model: a branch per switch, and the heads at its end.

    Args:
        heads: names of the heads this path is trained on and returns; None: all of the model's.
        features: what of the features dict the first stage takes: a key (that value alone), a list
            of keys (a dict of those), or None for everything as it comes.
        **choices: switch name → branch name.
    """

    def __init__(
        self,
        *,
        heads: Sequence[str] | None = None,
        features: str | Sequence[str] | None = None,
        **choices: str,
    ):
        self.heads = None if heads is None else list(heads)
        self.features = (
            features if features is None or isinstance(features, str) else list(features)
        )
        self.choices = choices

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments it was made of."""
        return {"heads": self.heads, "features": self.features, **self.choices}

    def __repr__(self) -> str:
        """Shows what the path picks."""
        given = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items() if v is not None)
        return f"Path({given})"

    def select(self, features: Any) -> Any:
        """Returns the part of `features` that the path's first stage takes.

        Raises:
            KeyError: a key is not in `features`; names those that are.
        """
        if self.features is None:
            return features
        wanted = [self.features] if isinstance(self.features, str) else self.features
        absent = [key for key in wanted if key not in features]
        if absent:
            raise KeyError(
                f"{self} takes features {absent}, which are not among {sorted(features)}"
            )
        if isinstance(self.features, str):
            return features[self.features]
        return {key: features[key] for key in wanted}
