"""Changes fields of a recipe by their dotted names, as `--set` gives them."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from branchline.pipeline.load_recipe import suggest
from branchline.schemas import Recipe, RecipeError, Route, RoutingTable, json_codec

_Tree = dict[str, Any]  # name → a tree of what lies under it, or the text that it is set to


def set_fields(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """Makes a recipe that differs in some fields, and is validated as a whole.

    A name leads through fields, keys of dicts and names of routes; a value is read as JSON, and
    what is no JSON as a string. An object of a recipe is written as `to_json` writes it.

    Args:
        recipe: Stays as it is.
        assignments: Such as `training.steps=500`, `thresholds.text.auc=0.9`,
            `routing.text.features.message.max_words=5000`,
            `training.routes.text={"optimizer": "sgd"}`.

    Raises:
        RecipeError: An assignment names no field, or gives it a value it cannot have.
    """
    tree: _Tree = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not all(name.split(".")):
            raise RecipeError(f"--set {assignment}: expected FIELD=VALUE, as in training.steps=500")
        _plant(tree, name.strip().split("."), text, assignment)
    return _changed(recipe, tree, "") if tree else recipe


def _plant(tree: _Tree, names: list[str], text: str, assignment: str) -> None:
    for name in names[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise RecipeError(f"--set {assignment}: {name} is already set as a whole")
    if isinstance(tree.get(names[-1]), dict):
        raise RecipeError(f"--set {assignment}: a field under {names[-1]} is already set")
    tree[names[-1]] = text


def _changed(old: Any, change: _Tree | str, where: str) -> Any:
    if isinstance(change, str):
        return _value(old, change, where)
    if isinstance(old, RoutingTable):
        _check(change, list(old.names), where, "routes")
        routes = [_changed(r, change.get(r.name, {}), f"{where}.{r.name}") for r in old.routes]
        return RoutingTable(*routes)
    if dataclasses.is_dataclass(old):
        known = [f.name for f in dataclasses.fields(old)]
        _check(change, known, where, "fields")
        return dataclasses.replace(old, **_below(vars(old), change, where))  # type: ignore[type-var]
    if isinstance(old, Mapping):
        for kind in ("features", "targets"):
            if where.endswith(f".{kind}"):
                _check(change, list(old), where, kind)
        return dict(old) | _below(old, change, where)
    raise RecipeError(f"--set {where}.{next(iter(change))}: {where} is {old!r}, it has no fields")


def _below(old: Mapping[str, Any], change: _Tree, where: str) -> dict[str, Any]:
    prefix = f"{where}." if where else ""
    return {name: _changed(old.get(name, {}), c, f"{prefix}{name}") for name, c in change.items()}


def _check(change: _Tree, known: list[str], where: str, what: str) -> None:
    for name in change:
        if name not in known:
            full = f"{where}.{name}" if where else name
            owner = f"the {what} of {where}" if where else "the fields of a recipe"
            raise RecipeError(
                f"--set {full}: no such field; {owner} are {', '.join(known)}{suggest(name, known)}"
            )


def _value(old: Any, text: str, where: str) -> Any:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        return text
    if isinstance(old, str) and not isinstance(parsed, str | None):
        return text  # a name such as 2024 stays a name
    if isinstance(old, Route) and not isinstance(parsed, dict):
        raise RecipeError(f"--set {where}: got {text}, expected the JSON of a Route")
    try:
        return json_codec.decode(parsed)
    except (TypeError, KeyError) as error:
        raise RecipeError(f"--set {where}: {error}") from error
