"""Words what the labels of a route are."""

from collections.abc import Mapping
from typing import Any

_NAMES_SHOWN = 20  # of classes


def word_labels(declared: Mapping[str, Any]) -> dict[str, str]:
    """Key → what is predicted of it.

    >>> word_labels({"label": "y", "task": "binary"})
    {'y': 'binary'}
    >>> word_labels({"targets": [["m", {"task": "binary", "shape": [4, 4], "optional": True}]]})
    {'m': 'binary 4 × 4, optional'}
    >>> word_labels({"label": "y", "task": "binary", "classes": ["no", "yes"]})
    {'y': 'binary: no, yes'}
    >>> word_labels({"label": "y", "task": "quantile", "quantiles": [0.1, 0.9]})
    {'y': 'quantile: 0.1, 0.9'}
    >>> word_labels({"label": "y", "task": "retrieval", "num_classes": 5000, "top_k": 10})
    {'y': 'retrieval: the best 10 of 5000'}
    """
    labels = {}
    if declared.get("label"):
        labels[declared["label"]] = declared["task"] + _named(declared)
    for key, target in declared.get("targets", ()):
        shape = " " + " × ".join(map(str, target["shape"])) if target["shape"] else ""
        labels[key] = target["task"] + shape + ", optional" * target["optional"] + _named(target)
    return labels


def _named(target: Mapping[str, Any]) -> str:
    names = target.get("classes") or list(map(str, target.get("quantiles") or []))
    if target.get("top_k"):
        return f": the best {target['top_k']} of {target['num_classes']}"
    if isinstance(names, str):
        return ", classes learnt"
    more = f" … ({len(names)} in all)" if len(names) > _NAMES_SHOWN else ""
    return f": {', '.join(names[:_NAMES_SHOWN])}{more}" if names else ""
