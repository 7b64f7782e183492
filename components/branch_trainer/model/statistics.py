"""What layers may change while they run in training."""

import keras

from branchline.components.branch_trainer.model.selective import Conditional, Selective
from branchline.components.branch_trainer.private_api import own_statistics_of, sublayers_of


def statistics_of(layer: keras.Layer) -> list[keras.Variable]:
    """Returns what the layer, and layers in it, may change while they run in training.

    Not frozen weights, nor those of frozen layers, nor whether a layer is switched on; and not
    random state.
    """
    running = [
        sub
        for sub in sublayers_of(layer)
        if sub.trainable and not isinstance(sub, Selective | Conditional)
    ]
    return [v for sub in running for v in own_statistics_of(sub)]
