"""One Keras model with a branch per kind of record: stages in order, some of them switches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.alike import path_likeness
from branchline.components.branch_trainer.model.check_parts import check_parts
from branchline.components.branch_trainer.model.mixed_batch import run_mixed
from branchline.components.branch_trainer.model.parts import Head, Path, Switch
from branchline.components.branch_trainer.private_api import traced_shapes


@keras.saving.register_keras_serializable(package="branchline")
class BranchedModel(keras.Model):
    """Stages, heads, and named paths through them.

    A stage is a `Switch`, of which a path takes one branch, or any Keras layer, which is trunk:
    shared by all paths. Layers build themselves when first called; `build_path` does it from
    shapes alone.

    Args:
        stages: switches and layers in the order in which they are applied.
        heads: what comes after the last stage; each gives one output and has one loss.
        paths: path name → `Path`. Their order is the order of path ids.
        mixed: how a batch of several paths is computed. "partition" computes each row once, on its
            own path; "multiplex" computes every branch on all rows and selects, with static shapes
            (for XLA).

    Raises:
        ValueError: two parts share a name, there is no head or path, or a path does not fit the
            parts; says which.
        TypeError: a part is of the wrong kind.
    """

    def __init__(
        self,
        stages: Sequence[keras.Layer],
        *,
        heads: Sequence[Head],
        paths: Mapping[str, Path],
        mixed: str = "partition",
        name: str = "branched_model",
    ):
        super().__init__(name=name)
        if mixed not in ("partition", "multiplex"):
            raise ValueError(f"mixed={mixed!r}, expected 'partition' or 'multiplex'")
        self.stages = list(stages)
        self.heads = list(heads)
        self.paths = dict(paths)
        self.mixed = mixed
        check_parts(self.stages, self.heads, self.paths)
        self._memo = _Memo()
        self.built = True  # it has no weights of its own

    @property
    def switches(self) -> list[Switch]:
        """The stages at which paths differ."""
        return [stage for stage in self.stages if isinstance(stage, Switch)]

    def path_named(self, path: str) -> Path:
        """Returns the path.

        Raises:
            KeyError: the model has no such path; names those it has.
        """
        if path not in self.paths:
            raise KeyError(f"Path {path!r} is not in the model, whose paths are {list(self.paths)}")
        return self.paths[path]

    def heads_of(self, path: str) -> list[Head]:
        """Returns the heads at the end of `path`."""
        wanted = self.path_named(path).heads
        return [head for head in self.heads if wanted is None or head.name in wanted]

    def parts_of(self, path: str) -> dict[str, keras.Layer]:
        """Returns stage or head name → the layer that `path` runs there."""
        choices = self.path_named(path).choices
        parts = {
            stage.name: stage.branches[choices[stage.name]] if isinstance(stage, Switch) else stage
            for stage in self.stages
        }
        return parts | {head.name: head.layer for head in self.heads_of(path)}

    def variables_of(self, path: str, *, without: Sequence[str] = ()) -> list[keras.Variable]:
        """Returns the trainable variables that a step on `path` may change, each once.

        Args:
            path: its name.
            without: names of stages and heads to leave out.

        Raises:
            KeyError: the model has no such path.
            ValueError: `without` names a part that is not on the path.
        """
        parts = self.parts_of(path)
        unknown = sorted(set(without) - set(parts))
        if unknown:
            raise ValueError(f"{unknown} are not parts of path {path!r}, which are {list(parts)}")
        return _unique(
            v for n, p in parts.items() if n not in without for v in p.trainable_variables
        )

    def state_of(self, path: str) -> list[keras.Variable]:
        """Returns all variables on `path`, with statistics and random state, each once."""
        return _unique(v for part in self.parts_of(path).values() for v in part.variables)

    def own_state_of(self, path: str) -> list[keras.Variable]:
        """Returns the variables on `path` that are on no other path."""
        elsewhere = {id(v) for other in self.paths if other != path for v in self.state_of(other)}
        return [v for v in self.state_of(path) if id(v) not in elsewhere]

    def places(self) -> list[list]:
        """Tells which of the model's variables each path has where, in order, as plain values."""
        numbers = {id(v): i for i, v in enumerate(self.variables)}
        return [
            [path, *(f"{at}={branch}" for at, branch in self.paths[path].choices.items())]
            + [[numbers[id(v)] for v in part.variables] for part in self.parts_of(path).values()]
            for path in self.paths
        ]

    def call(self, features, path, training=None, frozen: Sequence[str] = ()):
        """Runs one path, or a mixed batch.

        Args:
            features: a tensor or nested dict of tensors, each [batch, ...].
            path: a path's name, or path ids int [batch] in the order of `paths`.
            training: as in Keras.
            frozen: stages and heads that run as in inference, so that their statistics stay
                (uniform batches).

        Returns:
            Head name → output [batch, ...]. In a mixed batch the rows of paths without that head
            are zero.

        Raises:
            KeyError: the model has no such path, or a feature that it takes is absent.
        """
        if not isinstance(path, str):
            return run_mixed(self, features, tf.convert_to_tensor(path), training)
        x = self.path_named(path).select(features)
        for stage in self.stages:
            now = False if stage.name in frozen else training
            x = self.run_stage(stage, x, path, now)
        return {
            head.name: head(x, training=False if head.name in frozen else training)
            for head in self.heads_of(path)
        }

    def run_stage(self, stage: keras.Layer, x: Any, path: str, training: bool | None) -> Any:
        """Runs one stage as `path` does."""
        if isinstance(stage, Switch):
            return stage(x, branch=self.paths[path].choices[stage.name], training=training)
        return stage(x, training=training)  # also where its own `call` does not take it

    def build_path(self, path: str | tf.TensorSpec, features: Any) -> None:
        """Builds the layers on `path` by tracing them once, without running anything.

        Args:
            path: its name, or the spec of path ids for a mixed batch.
            features: the `tf.TypeSpec`s of its features, as in `dataset.element_spec[0]`.

        Raises:
            ValueError: the layers do not take these shapes; names path and shapes.
        """
        self.output_shapes(path, features)

    def output_shapes(self, path: str | tf.TensorSpec, features: Any) -> dict[str, tf.TensorShape]:
        """Returns head name → shape of its output [batch, ...]; arguments and errors as above."""
        if not isinstance(path, str) or not all(p.built for p in self.parts_of(path).values()):
            return self._trace_shapes(path, features)
        memo, asked = self._memo.shapes, f"{path} {features}"
        if asked not in memo:
            kind = path_likeness(self, path, features) or asked
            if kind not in memo:
                memo[kind] = list(self._trace_shapes(path, features).values())
            memo[asked] = memo[kind]
        return dict(zip([head.name for head in self.heads_of(path)], memo[asked], strict=True))

    def _trace_shapes(self, path: str | tf.TensorSpec, features: Any) -> dict[str, tf.TensorShape]:
        try:
            if isinstance(path, str):
                return traced_shapes(lambda x: self(x, path=path), features)
            return traced_shapes(lambda pair: self(pair[0], path=pair[1]), (features, path))
        except (ValueError, TypeError) as error:
            raise ValueError(f"Path {path!r} cannot take features {features}: {error}") from error

    def summary(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, print_fn: Callable[[str], Any] = print
    ) -> None:
        """Prints stages, switches with their branches, heads and paths, with variable counts."""
        for stage in self.stages:
            if not isinstance(stage, Switch):
                print_fn(f"trunk   {stage.name}: {_size(stage)}")
                continue
            print_fn(f"switch  {stage.name}")
            for branch, layer in stage.branches.items():
                print_fn(f"  branch  {branch}: {_size(layer)}")
        for head in self.heads:
            print_fn(f"head    {head.name}: {_size(head.layer)}")
        for path_name, path in self.paths.items():
            picks = [*path.choices.values(), *(head.name for head in self.heads_of(path_name))]
            print_fn(f"path    {path_name}: {' → '.join(picks)}")

    def get_config(self):
        """Returns all parts and paths as configs."""
        return {
            "stages": [keras.saving.serialize_keras_object(stage) for stage in self.stages],
            "heads": [keras.saving.serialize_keras_object(head) for head in self.heads],
            "paths": {name: path.get_config() for name, path in self.paths.items()},
            "mixed": self.mixed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model again."""
        stages, heads = (
            [keras.saving.deserialize_keras_object(part, custom_objects) for part in config[kind]]
            for kind in ("stages", "heads")
        )
        paths = {name: Path(**path) for name, path in config["paths"].items()}
        return cls(stages, heads=heads, paths=paths, mixed=config["mixed"], name=config["name"])


class _Memo:
    """What is known of a model's paths; not a dict, which Keras would take for a part of it."""

    def __init__(self) -> None:
        self.shapes: dict[str, list[tf.TensorShape]] = {}


def _size(layer: keras.Layer) -> str:
    if not layer.built:
        return f"{type(layer).__name__}, not built"
    return f"{type(layer).__name__}, {layer.count_params():,} parameters"


def _unique(variables) -> list[keras.Variable]:
    return list({id(variable): variable for variable in variables}.values())
