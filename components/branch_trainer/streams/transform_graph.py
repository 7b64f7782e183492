"""The Transform's graph, as far as the branches of routes get its outputs."""

from collections.abc import Mapping
from typing import Any

import tensorflow_transform as tft
from tensorflow_transform.saved import saved_transform_io_v2

from branchline.components.branch_trainer.streams.inputs import Input


class TransformGraph:
    """Makes of the raw columns of examples what branches get of them.

    Args:
        transform: The Transform's output.
        inputs: Route → what its branch gets.

    Attributes:
        raw_specs: Raw column → how it is parsed.
        outputs: Name of each output that a branch gets → as what.
    """

    def __init__(
        self, transform: tft.TFTransformOutput, inputs: Mapping[str, Mapping[str, Input]]
    ) -> None:
        self.raw_specs = transform.raw_feature_spec()
        self.outputs = {spec.output: spec for of in inputs.values() for spec in of.values()}
        self._loader = saved_transform_io_v2.SavedModelLoader(transform.transform_savedmodel_dir)

    def __call__(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Transforms a batch.

        Args:
            raw: Column → its values, as `raw_specs` has them.

        Returns:
            Output → its values, dense or sparse [batch, …].
        """
        transformed: Any = self._loader.apply_transform_model(dict(raw))
        return {name: transformed[name] for name in self.outputs}

    @property
    def resources(self) -> dict[str, Any]:
        """What a SavedModel has to hold for it.

        As TFT's own Keras layer holds it, without the seconds that Keras 2 takes to save a layer.
        """
        return vars(self._loader)
