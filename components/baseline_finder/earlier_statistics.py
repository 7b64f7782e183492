"""Finds the statistics of the last blessed run on one machine, in the metadata."""

from collections.abc import Collection
from typing import Any

from ml_metadata.proto import Event
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.types.artifact import Artifact


class EarlierStatistics(ResolverStrategy):
    """Resolves `previous_statistics` to those of the examples that a blessed model was trained on.

    The model is the one blessed last whose examples have other statistics than `statistics`: those
    that came from the cache are compared with what they were compared with at first, so that their
    validation comes from the cache too. May resolve to none.
    """

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """Chooses among all artifacts of `previous_statistics`, `model`, `model_blessing`."""
        current = input_dict["statistics"]
        own = _made_from(store, {artifact.id for artifact in current})
        models = [m for m in input_dict["model"] if not own & _made_from(store, {m.id})]
        candidates = {"model": models, "model_blessing": list(input_dict["model_blessing"])}
        found = LatestBlessedModelStrategy().resolve_artifacts(store, candidates) or {}
        used = _made_from(store, {model.id for model in found.get("model", [])})
        earlier = [
            artifact
            for artifact in sorted(input_dict["previous_statistics"], key=lambda a: a.id)
            if used & _made_from(store, {artifact.id})
        ]
        return {**found, "statistics": current, "previous_statistics": earlier[-1:]}


def _made_from(store: Any, ids: Collection[int]) -> set[int]:
    """The ids of the artifacts that went into what made artifacts."""
    if not ids:
        return set()
    events = store.get_events_by_artifact_ids(sorted(ids))
    makers = {event.execution_id for event in events if event.type == Event.OUTPUT}
    events = store.get_events_by_execution_ids(sorted(makers)) if makers else []
    return {event.artifact_id for event in events if event.type == Event.INPUT}
