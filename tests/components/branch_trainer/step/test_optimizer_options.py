"""Options of optimizers and losses that would do half of what they say: F42."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import graph_of, make_model, make_rows, step_of

from branchline.components.branch_trainer import Head, PathSettings

ADAM, ADAMW = keras.optimizers.Adam, keras.optimizers.AdamW
layers = keras.layers


def test_f42_copies_of_an_optimizer_leave_out_of_decay_what_the_first_does(values_of):
    model = make_model(heads=[Head("y", layers.Dense(1), loss=lambda y, o: 0.0 * (o - y))])
    optimizer = ADAMW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([model.heads[0].layer.kernel], ["bias"])
    for variable in model.trainable_variables:
        variable.assign(tf.ones(variable.shape))
    (x, y), settings = make_rows(), PathSettings(optimizer)
    graph_of(step_of(model, "all", settings))(((x, tf.constant([0, 1, 0, 1])), y))
    kept = {v.path for v in model.trainable_variables if np.all(np.array(v) == 1)}
    biases = {v.path for v in model.trainable_variables if "bias" in v.path}
    assert kept == biases | {model.heads[0].layer.kernel.path}


@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight"])
def test_f42_a_reduction_that_is_not_the_heads_is_refused(reduction):
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    with pytest.raises(ValueError, match=f"head 'y' has reduction='{reduction}'; a head takes"):
        Head("y", layers.Dense(1), loss=loss)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"loss_scale_factor": 8.0}, "loss_scale_factor=8.0.*use PathSettings.loss_weight"),
        ({"use_ema": True}, "use_ema without ema_overwrite_frequency"),
    ],
    ids=["scale", "ema"],
)
def test_f42_an_optimizers_option_that_would_do_half_is_refused(option, message):
    with pytest.raises(ValueError, match=message):
        PathSettings(ADAM(**option))
    PathSettings(ADAM(use_ema=True, ema_overwrite_frequency=2))
