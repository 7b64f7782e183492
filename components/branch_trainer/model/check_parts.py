"""Checks that the parts of a branched model fit together."""

from collections.abc import Mapping, Sequence

import keras

from branchline.components.branch_trainer.model.parts import Head, Path, Switch


def check_parts(
    stages: Sequence[object], heads: Sequence[object], paths: Mapping[str, Path]
) -> None:
    """Checks stages, heads and paths.

    Raises:
        ValueError: two parts share a name, there is no head or path, or a path does not fit the
            parts; says which.
        TypeError: a part is of the wrong kind.
    """
    for stage in stages:
        if not isinstance(stage, keras.Layer):
            raise TypeError(
                f"Stage {stage!r} is a {type(stage).__name__}, expected a Switch or a Keras layer"
            )
    for head in heads:
        if not isinstance(head, Head):
            raise TypeError(f"{head!r} in heads is a {type(head).__name__}, expected a Head")
    if not (stages and heads and paths):
        raise ValueError(
            f"A model needs a stage, a head and a path; it has {len(stages)} stages, "
            f"{len(heads)} heads, {len(paths)} paths"
        )
    for kind in (stages, heads):
        names = [getattr(part, "name") for part in kind]  # noqa: B009
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Part names {twice} occur twice; every stage and head needs its own")
    switches = {stage.name: stage for stage in stages if isinstance(stage, Switch)}
    for name, path in paths.items():
        _check_path(name, path, switches, [head.name for head in heads if isinstance(head, Head)])


def _check_path(
    name: str, path: Path, switches: Mapping[str, Switch], head_names: Sequence[str]
) -> None:
    unknown = sorted(set(path.choices) - set(switches))
    if unknown:
        raise ValueError(
            f"Path {name!r} picks at switches {unknown}; the model has {list(switches)}"
        )
    for switch_name, switch in switches.items():
        if path.choices.get(switch_name) not in switch.branches:
            raise ValueError(
                f"Path {name!r} picks {path.choices.get(switch_name)!r} at switch "
                f"{switch_name!r}, whose branches are {list(switch.branches)}"
            )
    unknown = sorted(set(path.heads or ()) - set(head_names))
    if unknown or path.heads == []:
        raise ValueError(f"Path {name!r} names heads {path.heads}, expected some of {head_names}")
