"""What layers may change while they run in training."""

from typing import TYPE_CHECKING

import keras

from branchline.components.branch_trainer.model.selective import Conditional, Selective

if TYPE_CHECKING:
    pass


def statistics_of(layer: keras.Layer) -> list[keras.Variable]:
    """Returns what the layer, and layers in it, may change while they run in training.

    Not frozen weights, nor those of frozen layers, nor whether a layer is switched on; and not
    random state.
    """
    running = [
        sub
        for sub in layer._flatten_layers()
        if sub.trainable and not isinstance(sub, Selective | Conditional)
    ]
    return [v for sub in running for v in sub._non_trainable_variables]
