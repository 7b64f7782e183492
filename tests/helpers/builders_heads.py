"""Trains the default model's head of one target on rows of one route, for its layer and loss."""

import builders as build
import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head, Path, Switch
from branchline.components.branch_trainer.recipe.default_model import build_head
from branchline.components.branch_trainer.recipe.predictions import best_items, prediction
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.components.branch_trainer.streams.labels import scales_of
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, Training, when


def trained_head(tmp_path, target, x, y, *, optional_rows=0, **training):
    """Trains on x [n, width] and labels y; returns the head's layer and what it predicts of x.

    Of a target with `top_k` that is items and scores.

    Args:
        tmp_path: A folder.
        target: Of the label.
        x: float [n, width].
        y: [n].
        optional_rows: How many rows without a label come on top.
        **training: Fields of `Training`; a batch holds all rows.
    """
    width = x.shape[1]
    inputs = {"r": {"x": Input((width,), "float32")}}
    features = {"x": Numeric((width,))}
    table = RoutingTable(Route("r", when.present("x"), features=features, targets={"y": target}))
    records = [{"x": a.tolist(), "y": b} for a, b in zip(x, y.tolist(), strict=True)]
    records += [{"x": [3.0] * width}] * optional_rows
    rows = build.plain_rows(tmp_path / "r.gz", records, inputs["r"], {"y": target})
    (scale,) = scales_of(rows, table["r"]).values()

    def build_model(recipe, inputs):
        made = build_head("r.0", "y", target)
        layer = type(made.layer).from_config(made.layer.get_config())  # of another width
        layer.build((None, width))
        head = Head("r.0", layer, loss=made.loss, label="y", missing=target.missing)
        switch = Switch("branch", r=keras.layers.Identity())
        return BranchedModel([switch], heads=[head], paths={"r": Path(branch="r", features="x")})

    model, _ = train(
        Recipe("c", table, training=Training(batch_size=len(records), **training)),
        build_model,
        {"r": rows},
        inputs,
        {"r": {"y": scale}},
        cache_dir=str(tmp_path / "cache"),
    )
    output = model({"x": tf.constant(x, tf.float32)}, path="r")["r.0"]
    if target.top_k:
        found = best_items(target, model.heads[0], output)
    else:
        found = prediction(target, output, tf.constant([scale.mean, scale.std], tf.float64))
    return model.heads[0].layer, found.numpy()


def heads_of(targets):
    """A model of a path for each target, which is the default model's head on "x" [batch, 64]."""
    heads = [build_head(name, name, target) for name, target in targets.items()]
    switch = Switch("branch", **{name: keras.layers.Identity() for name in targets})
    paths = {name: Path(branch=name, heads=[name], features="x") for name in targets}
    return BranchedModel([switch], heads=heads, paths=paths)
