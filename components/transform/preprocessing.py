"""The preprocessing that a recipe gets when it brings none: by kind of feature, for all routes.

What is learnt from data (means, ranges, vocabularies) is learnt from a route's own rows, but of all
routes in one pass; and features of different routes share outputs, so that neither the passes nor
the graph grow with the number of routes, but for its inputs. Transform runs it in both of its
modes; with `force_tf_compat_v1=True` in a third of the time.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from branchline.components.code_version import code_version
from branchline.components.transform.decode import decode
from branchline.components.transform.groups import groups_of
from branchline.components.transform.many_values import (
    buckets,
    first_values,
    to_length,
    used_values,
)
from branchline.components.transform.numbers import SCALED, read, scale
from branchline.components.transform.own_rows import OwnRows, route_places, take_rows
from branchline.components.transform.scale import stretch
from branchline.components.transform.vocabulary import Vocabularies
from branchline.components.transform.words import words_of
from branchline.components.user_code import load_function
from branchline.schemas import (
    Bool,
    Categorical,
    Embedding,
    Hashed,
    Ids,
    Image,
    RoutingTable,
    Tags,
    Text,
    from_json,
    to_json,
)

Columns = dict[str, tf.Tensor | tf.SparseTensor]


def preprocessing_fn(inputs: Columns, custom_config: dict[str, Any]) -> Columns:
    """Preprocesses a batch of routed examples, for TFX's Transform.

    Args:
        inputs: Column of the routed examples → its values; `_route` among them.
        custom_config: "routing", a routing table as JSON; "recipe_file", the path of a recipe that
            has a `preprocessing_fn` of its own, by default none; "materialize", whether training
            reads the transformed examples and so finds `_route`, labels and weights in them only,
            by default not.

    Returns:
        `output_name` → the transformed feature, int64, float32 or, of a text for an encoder,
        string [batch, values], with values in
        the rows only whose route declares it; or what the recipe's own function makes. To
        be materialised, also `_route` and the columns of labels and weights as they are.
    """
    table = from_json(custom_config["routing"])
    if custom_config.get("recipe_file"):
        own_fn = load_function(custom_config["recipe_file"], "preprocessing_fn")
        outputs = own_fn({name: value for name, value in inputs.items() if name != "_route"})
    else:
        outputs = _by_kind(inputs, table)
    if custom_config.get("materialize"):
        fields = (field for name in table.names for field in table.fields(name).values())
        kept = {field.column for field in fields if not field.is_feature}
        outputs = {name: inputs[name] for name in ("_route", *sorted(kept))} | outputs
    return outputs


def route_preprocessing(
    table: RoutingTable,
    *,
    recipe_file: str = "",
    recipe_hash: str = "",
    materialize: bool = False,
) -> dict[str, Any]:
    """Makes arguments for TFX's Transform: `Transform(examples, schema, **these)`.

    They hold what the functions' code is too, for TFX's cache, which does not look at code.

    Args:
        table: The routing table.
        recipe_file: Path of a recipe with a `preprocessing_fn` of its own; "" for branchline's.
        recipe_hash: Changes when that file does.
        materialize: Whether Transform also writes the transformed examples, with `_route` and the
            labels and weights, for readers of yours. BranchTrainer applies the graph to the routed
            examples.
    """
    return {
        "preprocessing_fn": f"{__name__}.preprocessing_fn",
        "custom_config": {
            "routing": to_json(table),
            "recipe_file": recipe_file,
            "recipe_hash": recipe_hash,
            "materialize": materialize,
            "code_version": code_version(__file__),
        },
        "materialize": materialize,
    }


def _by_kind(inputs: Columns, table: RoutingTable) -> Columns:
    places = route_places(table, inputs["_route"])
    routes = len(table.routes)
    taken = (read(take_rows(group, inputs, places, routes)) for group in groups_of(table))
    found = [used_values(rows) for rows in taken]

    def of_kind(*kinds: type) -> list[OwnRows]:
        return [rows for rows in found if isinstance(rows.group.value_kind, kinds)]

    images = of_kind(Image)
    texts = of_kind(Text)
    encoded = [rows for rows in texts if rows.group.kind.vocabulary is None]
    cut = [rows for rows in texts if rows.group.kind.vocabulary is not None]
    return {
        **scale(of_kind(*SCALED)),
        **{r.group.name: r.spread(tf.cast(r.values, tf.float32)) for r in of_kind(Bool)},
        **stretch([rows for rows in images if rows.values.dtype != tf.string]),
        **{r.group.name: decode(r) for r in images if r.values.dtype == tf.string},
        **{rows.group.name: rows.spread(to_length(rows)) for rows in of_kind(Embedding)},
        **{rows.group.name: rows.spread(_number(rows)) for rows in of_kind(Ids)},
        **{rows.group.name: rows.spread(_hash(rows)) for rows in of_kind(Hashed)},
        **_index(table, [*of_kind(Categorical), *of_kind(Tags)], cut),
        **{rows.group.name: rows.spread(rows.values) for rows in encoded},
    }


def _number(ids: OwnRows) -> tf.Tensor:
    """Gives ids as they are; those of sequences from 1 on, as 0 fills up shorter ones."""
    return ids.values + 1 if ids.group.is_sequence else ids.values


def _hash(rows: OwnRows) -> tf.Tensor:
    kind = rows.group.value_kind
    assert isinstance(kind, Hashed)
    return buckets(rows.values, kind.buckets)


def _index(table: RoutingTable, categories: Sequence[OwnRows], texts: Sequence[OwnRows]) -> Columns:
    """Turns categories and the words of texts into their places in their routes' vocabularies.

    Returns:
        Group's name → int64 [batch, values], 0 for no value.
    """
    words = words_of(texts)
    if not categories and not words:
        return {}
    vocabularies = Vocabularies(table, [*categories, *words])
    known = [*categories, *map(first_values, words)]
    return {rows.group.name: rows.spread(vocabularies.index(rows)) for rows in known}
