"""Finds the baseline on one machine, where a Resolver can ask the metadata for it."""

from typing import Any

from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.types.artifact import Artifact


class EarlierBlessedModel(ResolverStrategy):
    """Resolves `model` to the one blessed last that is not the `candidate`; may resolve to none.

    LatestBlessedModelStrategy gives the candidate itself where training came from the cache. What
    it was compared with at first is given here once more, so that its evaluation, and with it
    the push, come from the cache too.
    """

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """Chooses among all artifacts of `model`, `model_blessing`; `candidate` is passed on."""
        candidates = input_dict["candidate"]
        ids = {artifact.id for artifact in candidates}
        earlier = {
            "model": [artifact for artifact in input_dict["model"] if artifact.id not in ids],
            "model_blessing": list(input_dict["model_blessing"]),
        }
        found = LatestBlessedModelStrategy().resolve_artifacts(store, earlier)
        return {**(found or {}), "candidate": candidates}
